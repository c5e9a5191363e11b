"""Write the report: markdown, a CSV beside each table, and the pictures."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench import limits, store
from bench.case import Case
from bench.errors import UsageError
from bench.paper import TABLES, cases, rows
from bench.record import Record
from bench.units import rounded
from reports import peer, plots, roofline, runtimes
from reports.accuracy import collect_accuracy, divide, sections
from reports.figures import SHOWN_AS_FIGURES, draw_figures
from reports.results import Results, collect
from reports.tables import Table, batches, breakdown, further, paper_table

_TITLES = {
    2: "Table 2: token pruning and recovering strategies",
    3: "Table 3: inference pipelines",
    4: "Table 4: numbers of representative tokens r and blocks b",
    5: "Table 5: against shorter inputs and against HoT",
    6: "Table 6: number of recovered frames f",
    7: "Table 7: hosts",
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
    trained, plain = divide(r for r in records if r.metric not in _APART)
    accuracy = collect_accuracy(trained)
    results = collect(plain)
    setting = _main_setting(plain or trained or records)
    tables = [paper_table(number, results, setting, accuracy) for number in TABLES]
    tables = [table for table in tables if _any_ours(table)]
    standing = {replace(case, **setting) for case in cases(TABLES)}
    # An evaluation of accuracy alone has nothing to show in the columns of that sheet.
    others = [
        r
        for c, r in results.items()
        if c not in standing and ({*r.values, *r.reasons} - set(SHOWN_AS_FIGURES))
    ]
    legend = _LEGEND + (_TRAINED if accuracy is not None else _UNTRAINED)
    parts = ["# H2OT ablation report", _heading(records, results, setting), legend]
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
        {c: r for c, r in results.items() if _setting(c) == setting},
        folder,
        _plot_title(records, setting),
    )
    if pictures:
        parts.append("## Plots")
        parts += [f"![{caption}]({name})\n\n{caption}" for name, caption in pictures]
    parts += _batches(results, folder, records, setting)
    parts += roofline.section(records, folder)
    parts += runtimes.section(records, folder)
    parts += peer.section(records, folder)
    parts += sections(trained, folder)
    parts += _figures(records, folder)
    parts += _breakdown(results, setting, folder)
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
paper's value for all frames, so only its differences from row to row are a result."""
_UNTRAINED = """ Nothing is said of accuracy: the paper's MPJPE is on Human3.6M with trained \
weights, which these runs do not have; `python -m bench accuracy` measures that of a shipped \
trunk."""
_TRAINED = """ Speed and memory are of full-size models with untrained weights; MPJPE and FN are \
of a small trained trunk on other data than Human3.6M, as their headings say, and not comparable \
with the paper's values."""


# Metrics of sections that sum up their own records.
_APART = {*limits.METRICS, *peer.METRICS, *runtimes.METRICS}


def _setting(case: Case) -> dict[str, Any]:
    """All of a case but its configuration."""
    return {name: getattr(case, name) for name in ("batch", "device", "dtype", "threads", "motion")}


def _main_setting(records: Sequence[Record]) -> dict[str, Any]:
    """The setting of most records, in which the paper's tables are answered."""
    counts = Counter(tuple(_setting(record.case).items()) for record in records)
    return dict(counts.most_common(1)[0][0])


def _any_ours(table: Table) -> bool:
    return any(cell.ours for cells in table.cells for cell in cells.values())


def _heading(
    records: Sequence[Record], results: Mapping[Case, Results], setting: Mapping[str, Any]
) -> str:
    where = records[-1].environment
    rounds = sorted({r.rounds for r in results.values() if r.rounds})
    timed = sum(1 for r in results.values() if r.rounds)
    described = next(
        (
            str(r.protocol["description"])
            for r in records
            if "description" in r.protocol and r.case.motion == setting["motion"]
        ),
        setting["motion"],
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
        "Setting of the tables": f"{setting['device']}, {setting['dtype']}, batch "
        f"{setting['batch']}, eager, untrained weights",
        "Input": described,
        "Timing": f"{timed} configurations, {spread} interleaved rounds each, {sessions} "
        f"session{'s' if sessions > 1 else ''}",
    }
    return "\n".join(f"- {name}: {text}" for name, text in facts.items())


def _plot_title(
    records: Sequence[Record], setting: Mapping[str, Any], *, batch: bool = True
) -> str:
    where = records[-1].environment
    cuda = setting["device"] == "cuda"
    machine = where["gpu"] if cuda else f"{where['cpu']}, {where['threads']} threads"
    size = f"batch {setting['batch']}, " if batch else ""
    return f"{machine}, {size}{setting['dtype']}"


def _batches(
    results: Mapping[Case, Results],
    folder: Path,
    records: Sequence[Record],
    setting: Mapping[str, Any],
) -> list[str]:
    """Speed and memory of the cases that were timed at several batch sizes."""
    chosen = batches(results)
    if not chosen:
        return []
    sheet = further(list(chosen.values()))
    sheet.to_csv(folder / "batch_size.csv", index=False)
    name, caption = plots.draw_batches(chosen, folder, _plot_title(records, setting, batch=False))
    columns = ["case", "batch", "device", "precision", "clips/s", "speed-up"]
    columns.append("inference memory (GiB)")
    return [
        "## Batch size",
        sheet[columns].to_markdown(index=False),
        "[batch_size.csv](batch_size.csv)",
        f"![{caption}]({name})",
    ]


def _figures(records: Sequence[Record], folder: Path) -> list[str]:
    pictures = draw_figures(records, folder)
    if not pictures:
        return []
    return ["## Figures", *(f"![{caption}]({name})\n\n{caption}" for name, caption in pictures)]


def _breakdown(
    results: Mapping[Case, Results], setting: Mapping[str, Any], folder: Path
) -> list[str]:
    """Per-module FLOPs of the first rows of Table 4: baseline, HoT, H2OT."""
    chosen = []
    for row in (rows(4)[0], rows(4)[1], rows(4)[3]):
        case = row.case()
        result = results.get(replace(case, **setting)) if case is not None else None
        if result is not None:
            chosen.append(result)
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
