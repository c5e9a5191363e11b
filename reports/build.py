"""Write the report: markdown, a CSV beside each table, and the pictures."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from bench import store
from bench.case import Case
from bench.errors import UsageError
from bench.paper import TABLES, rows
from bench.record import Record
from bench.units import rounded
from reports import plots
from reports.results import Results, collect
from reports.tables import Table, breakdown, further, paper_table

_TITLES = {
    2: "Table 2: token pruning and recovering strategies",
    4: "Table 4: numbers of representative tokens r and blocks b",
    5: "Table 5: against shorter inputs and against HoT",
}


def build(records_path: Path, out: Path) -> Path:
    """Build the report from a record file.

    Args:
        records_path: written by ``python -m bench run``.
        out: folder for the report; made if absent.

    Returns:
        The markdown file.

    Raises:
        bench.errors.UsageError: if the records cannot be read or the folder not written.
    """
    records = store.read(records_path)
    if not records:
        raise UsageError(f"{records_path} holds no records yet; run `python -m bench run` first.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out) as draft:
            report = _write(records, Path(draft))
            # All or nothing: a report is never half old and half new.
            for file in sorted(Path(draft).iterdir()):
                os.replace(file, out / file.name)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; name another --out") from None
    return out / report


def _write(records: Sequence[Record], folder: Path) -> str:
    results = collect(records)
    motion = _main_motion(records)
    tables = [paper_table(number, results, motion) for number in TABLES]
    tables = [table for table in tables if _any_ours(table)]
    standing = {row.case().label for number in TABLES for row in rows(number)}
    others = [r for c, r in results.items() if c.label not in standing or c.motion != motion]
    parts = ["# H2OT ablation report", _heading(records, results, motion), _LEGEND]
    for table in tables:
        name = f"table_{table.number}.csv"
        table.csv().to_csv(folder / name, index=False)
        parts += [f"## {_TITLES[table.number]}", table.markdown(), f"Every cell: [{name}]({name})"]
    if others:
        sheet = further(others)
        sheet.to_csv(folder / "further.csv", index=False)
        parts += [
            "## Further configurations",
            sheet.to_markdown(index=False),
            "[further.csv](further.csv)",
        ]
    pictures = plots.draw(
        {c: r for c, r in results.items() if c.motion == motion and c.batch == 1},
        folder,
        _plot_title(records),
    )
    if pictures:
        parts.append("## Plots")
        parts += [f"![{caption}]({name})\n\n{caption}" for name, caption in pictures]
    parts += _breakdown(results, motion, folder)
    parts += _failures(records)
    text = "\n\n".join(parts) + "\n"
    (folder / "ablation.md").write_text(text, encoding="utf-8")
    return "ablation.md"


_LEGEND = """Each cell shows, one below the other, **the paper's value**, **ours**, and the \
difference. Parameters and FLOPs are deterministic and compared as they are (Δ). Speed and memory \
are of another machine than the paper's RTX 3090, so only the change against the baseline row is \
compared (Δ of change, in percentage points); the paper's own repeats of one configuration differ \
by 5% in speed. A superscript leads to a note below the table. FPS/Frame is the paper's name for \
clips per second at batch 1: one clip gives F output frames, so output frames per second are F \
times as many. Speed-ups are medians over rounds of baseline latency / latency, each pair from one \
round. `flops_paper` (column FLOPs) counts as the paper does, without attention products; \
`flops_full` counts every product. GPU Memory is answered by an estimate of the peak of a training \
step at batch 4 in GiB: fp32, AdamW, fused attention, no allocator overhead. FN is in pixels \
between detector and clean projection; the detector is a model whose noise is calibrated to the \
paper's value for all frames, so only its differences from row to row are a result. Nothing is \
said of accuracy: the paper's MPJPE is on Human3.6M with trained weights, which these runs do not \
have."""


def _main_motion(records: Sequence[Record]) -> str:
    return Counter(record.case.motion for record in records).most_common(1)[0][0]


def _any_ours(table: Table) -> bool:
    return any(cell.ours for cells in table.cells for cell in cells.values())


def _heading(records: Sequence[Record], results: Mapping[Case, Results], motion: str) -> str:
    where = records[-1].environment
    rounds = sorted({r.rounds for r in results.values() if r.rounds})
    timed = sum(1 for r in results.values() if r.rounds)
    precision = ", ".join(sorted({record.case.dtype for record in records}))
    device = ", ".join(sorted({record.case.device for record in records}))
    described = next(
        (str(r.protocol["description"]) for r in records if "description" in r.protocol), motion
    )
    spread = "–".join(map(str, sorted({rounds[0], rounds[-1]}))) if rounds else "0"
    dirty = " with local changes" if where.get("dirty") else ""
    sessions = len({record.session for record in records})
    facts = {
        "Machine": f"{where['cpu']}, {where['cores']} cores, "
        f"{rounded(where['memory_bytes'] / 2**30, 0)} GiB, {where['system']}",
        "GPU": f"{where['gpu']}, driver {where['driver']}" if where["gpu"] else "none",
        "Software": f"Python {where['python']}, torch {where['torch']}, {where['threads']} threads",
        "Code": f"commit {where['commit'] or 'unknown'}{dirty}",
        "Device and precision": f"{device}, {precision}, eager, untrained weights",
        "Input": described,
        "Timing": f"{timed} configurations, {spread} interleaved rounds each, {sessions} "
        f"session{'s' if sessions > 1 else ''}",
    }
    return "\n".join(f"- {name}: {text}" for name, text in facts.items())


def _plot_title(records: Sequence[Record]) -> str:
    where = records[-1].environment
    device = {record.case.device for record in records}
    machine = where["gpu"] if device == {"cuda"} else f"{where['cpu']}, {where['threads']} threads"
    return f"{machine}, batch 1, float32"


def _breakdown(results: Mapping[Case, Results], motion: str, folder: Path) -> list[str]:
    """Per-module FLOPs of the first rows of Table 4: baseline, HoT, H2OT."""
    chosen = []
    for row in (rows(4)[0], rows(4)[1], rows(4)[3]):
        for case, result in results.items():
            if case.label == row.case().label and case.motion == motion:
                chosen.append(result)
                break
    chosen = [r for r in chosen if "flops_full_by_module" in r.by_label]
    if not chosen:
        return []
    sheet = breakdown(chosen)
    sheet.to_csv(folder / "flops_by_module.csv")
    return [
        "## FLOPs by module",
        "flops_full in G; the line `host` is what choosing frames itself adds. The whole tree "
        "stands in the record file.",
        sheet.to_markdown(),
        "[flops_by_module.csv](flops_by_module.csv)",
    ]


def _failures(records: Sequence[Record]) -> list[str]:
    """Every record without a value, so that no empty cell goes unexplained."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for r in records:
        if r.status != "ok":
            cases = lines.setdefault((r.metric, r.status, r.reason), [])
            if r.case.label not in cases:
                cases.append(r.case.label)
    if not lines:
        return []
    sheet = pd.DataFrame(
        [(*what, "<br>".join(cases)) for what, cases in lines.items()],
        columns=["metric", "status", "reason", "cases"],
    )
    return ["## Not measured, and why", sheet.to_markdown(index=False)]
