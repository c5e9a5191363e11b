"""Write the report: markdown, a CSV file for each table, and the pictures."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.paper import TABLES, about, cases
from bench.records import store
from bench.records.case import Case
from bench.records.environment import differences
from bench.records.errors import UsageError
from bench.records.record import Record
from bench.records.units import rounded
from reports import (
    accuracy,
    energy,
    extra_tables,
    figures,
    other,
    peer,
    plots,
    roofline,
    runtimes,
    streaming,
)  # fmt: skip
from reports.markdown import picture, with_csv
from reports.results import ENDED, PARTS, Results, collect
from reports.tables import columns, paper_table


def build(
    records_path: Path, out: Path, *, others: Sequence[Path] = (), force: bool = False
) -> Path:
    """Build the report from a record file, or from several of one environment.

    Args:
        records_path: written by ``python -m bench run``.
        out: folder for the report; made if absent.
        others: more such files; of records that are in several, the first counts.
        force: put records of different environments side by side nevertheless.

    Returns:
        The markdown file.

    Raises:
        UsageError: if the records cannot be read or the folder not written, or if they are of
            different environments; names the differences.
    """
    by_identity: dict[Any, Record] = {}
    for path in (records_path, *others):
        for record in store.read(path):
            by_identity.setdefault(record.identity, record)
    records = list(by_identity.values())
    if not records:
        raise UsageError(f"{records_path} has no records yet; run `python -m bench run` first.")
    differ = differences(records)
    if differ and not force:
        raise UsageError(
            f"incomparable: {'; '.join(differ)}. Name files of one machine and environment, or "
            f"add --force."
        )
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
    trained, plain = accuracy.divide([r for r in records if r.metric not in _APART])
    supernet = accuracy.collect_accuracy(trained)
    results = collect(plain)
    setting = _main_setting(plain or trained or records)
    tables = [paper_table(number, results, setting, supernet) for number in TABLES]
    tables = [table for table in tables if table.measured]
    in_tables = {replace(case, **setting) for case in cases(TABLES)}
    others = [
        r
        for case, r in results.items()
        if case not in in_tables and not {*r.values, *r.reasons}.isdisjoint(extra_tables.METRICS)
    ]
    legend = _LEGEND + (_TRAINED if supernet is not None else _UNTRAINED)
    parts = ["# H2OT ablation report", _heading(records, results, setting), legend]
    for table in tables:
        name = f"table_{table.number}.csv"
        table.csv().to_csv(folder / name, index=False)
        title = f"## Table {table.number}: {about(table.number)['title']}"
        parts += [title, table.markdown(), f"Every cell: [{name}]({name})"]
    if others:
        sheet = extra_tables.further(others)
        parts.append("## Further configurations")
        parts += with_csv(sheet, folder, "further.csv", hidden=extra_tables.ONLY_CSV, texts=False)
    pictures = plots.draw(
        {c: r for c, r in results.items() if _setting(c) == setting},
        folder,
        _plot_title(records, setting),
    )
    if pictures:
        parts += ["## Plots", *(picture(*one) for one in pictures)]
    parts += _batches(results, folder, records, setting)
    for module in _SECTIONS:
        parts += module.section(records, folder)
    parts += accuracy.sections(trained, folder)
    parts += _figures(records, folder)
    parts += _breakdown(results, setting, folder)
    cells = {
        (replace(case, **setting), metric)
        for table in tables
        for row in table.rows
        if (case := row.case()) is not None
        for column in columns(row)
        for metric in column.used
    } | {(r.case, metric) for r in others for metric in extra_tables.METRICS}
    cells |= {(r.case, "flops_full") for r in trained}
    shown = {*_ALWAYS_SHOWN, *(metric for _, metric in cells)}
    hidden = [
        r for r in records if r.metric not in _ALWAYS_SHOWN and (r.case, r.metric) not in cells
    ]
    parts += other.section(hidden, folder, shown)
    parts += _failures(records)
    text = "\n\n".join(parts) + "\n"
    (folder / "ablation.md").write_text(text, encoding="utf-8")
    return "ablation.md"


_LEGEND = """Each cell shows, one below the other, **the paper's value**, **ours**, and the \
difference. Parameters and FLOPs are deterministic and compared directly (Δ). Speed and memory are \
of another machine than the paper's RTX 3090, so only the change against the baseline row is \
compared (Δ of change, in percentage points); the paper's own repeats of one configuration differ \
by 5% in speed. A superscript refers to a note below the table. FPS/Frame is the paper's name for \
clips per second at batch 1: one clip gives F output frames, so output frames per second are F \
times as many. The number after ± is half the 95% interval of the median over rounds, relative to \
the median; speed-ups are medians over rounds of baseline latency / latency, both timed in turn, \
each in its own process, with the 95% interval of the ratio in brackets, in percent. Intervals \
allow for serial correlation; fewer than six rounds have "no interval". Outliers count like all \
other samples. `flops_paper` (column FLOPs) counts as the paper does, without attention products; \
`flops_full` counts every product. GPU Memory, where no GPU measured it, is an estimate of the \
peak of a training step at batch 4 in GiB: fp32, AdamW, fused attention, no allocator overhead. FN \
is in pixels between detector and clean projection; the detector is a model whose noise is \
calibrated to the paper's value for all frames, so only differences between rows are a result."""
_UNTRAINED = """ Accuracy is not measured: the paper's MPJPE is on Human3.6M with trained weights, \
which these runs do not have; `python -m bench accuracy` measures that of the shipped supernet."""
_TRAINED = """ Speed and memory are of full-size models with untrained weights; MPJPE and FN are \
of a small trained supernet on other data than Human3.6M, as their headings state, and not \
comparable with the paper's values."""


_SECTIONS = (streaming, energy, roofline, runtimes, peer)
"""Modules with a section of their own: ``METRICS``, which no other one reads, and ``section``."""
_APART = {metric for module in _SECTIONS for metric in module.METRICS}
_ALWAYS_SHOWN = {
    *_APART,
    *accuracy.METRICS,
    *figures.METRICS,
    *PARTS,
    ENDED,
    extra_tables.BY_MODULE,
}


def _setting(case: Case) -> dict[str, Any]:
    """All of a case but its configuration."""
    return {name: getattr(case, name) for name in ("batch", "device", "dtype", "threads", "motion")}


def _main_setting(records: Sequence[Record]) -> dict[str, Any]:
    """The setting of most records, in which the paper's tables are filled."""
    counts = Counter(tuple(_setting(record.case).items()) for record in records)
    return dict(counts.most_common(1)[0][0])


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
    differ = differences(records)
    facts = {} if not differ else {"**Forced**": "these records differ: " + "; ".join(differ)}
    facts |= {
        "Machine": f"{where['cpu']}, {where['cores']} cores, "
        f"{rounded(where['memory_bytes'] / 2**30, 0)} GiB, {where['system']}",
        "GPU": f"{where['gpu']}, driver {where['driver']}" if where["gpu"] else "none",
        "Software": f"Python {where['python']}, torch {where['torch']}, {where['threads']} threads",
        "Code": f"commit {where['commit'] or 'unknown'}{dirty}",
        "Setting of the tables": f"{setting['device']}, {setting['dtype']}, batch "
        f"{setting['batch']}, eager, untrained weights",
        "Input": described,
        "Timing": f"{timed} configurations, {spread} interleaved rounds each, {sessions} "
        f"session{'s' if sessions > 1 else ''}{_precision(list(results.values()))}",
    }
    if not any(r.rounds or "param_count" in r.values for r in results.values()):
        del facts["Setting of the tables"], facts["Timing"]  # no full-size model was measured
    return "\n".join(f"- {name}: {text}" for name, text in facts.items())


def _precision(results: Sequence[Results]) -> str:
    """The precision of the latencies, and remarks on their sampling."""
    timed = [r for r in results if r.samples]
    widths = [100 * r.estimates["latency_s"].width for r in timed]
    known = sorted(w for w in widths if w < float("inf"))
    parts = []
    if known:
        parts.append(f"95% intervals of the median ±{rounded(known[len(known) // 2], 1)}% "
                     f"(middle case), ±{rounded(known[-1], 1)}% (widest)")  # fmt: skip
    if len(known) < len(timed):
        parts.append(f"{len(timed) - len(known)} with too few rounds for one")
    if sum(r.outliers for r in timed):
        every = sum(r.samples for r in timed)
        parts.append(f"{sum(r.outliers for r in timed)} of {every} samples are outliers, kept")
    short = [r for r in timed if r.ended in ("budget", "rounds")]
    if short:
        parts.append(f"budget or number of rounds ended {len(short)} before they were as precise "
                     "as requested")  # fmt: skip
    bound = [r.case.label for r in timed if r.host_bound]
    if bound:
        parts.append(f"the GPU waits for the host (wall time over 10% above its own) in "
                     f"{', '.join(bound)}")  # fmt: skip
    return "".join(f"; {part}" for part in parts)


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
    chosen = extra_tables.batches(results)
    if not chosen:
        return []
    sheet = extra_tables.further(list(chosen.values()))
    shown = ["case", "batch", "device", "precision", "clips/s", "speed-up"]
    shown.append("inference memory (GiB)")
    hidden = [str(column) for column in sheet if column not in shown]
    name, caption = plots.draw_batches(chosen, folder, _plot_title(records, setting, batch=False))
    table = with_csv(sheet, folder, "batch_size.csv", hidden=hidden, texts=False)
    return ["## Batch size", *table, f"![{caption}]({name})"]


def _figures(records: Sequence[Record], folder: Path) -> list[str]:
    pictures = figures.draw_figures(records, folder)
    return ["## Figures", *(picture(*one) for one in pictures)] if pictures else []


def _breakdown(
    results: Mapping[Case, Results], setting: Mapping[str, Any], folder: Path
) -> list[str]:
    """FLOPs of MixSTE, HoT and H2OT by module."""
    every = (results.get(replace(case, **setting)) for case in accuracy.MAIN.values())
    chosen = [r for r in every if r is not None and extra_tables.BY_MODULE in r.by_label]
    if not chosen:
        return []
    sheet = extra_tables.breakdown(chosen)
    sheet.to_csv(folder / "flops_by_module.csv")
    return [
        "## FLOPs by module",
        "flops_full in G; the line `host` is the selection of frames itself. The whole tree is in "
        "the record file.",
        sheet.to_markdown(),
        "[flops_by_module.csv](flops_by_module.csv)",
    ]


def _failures(records: Sequence[Record]) -> list[str]:
    """Every record without a value and its reason: each empty cell has an explanation."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for r in records:
        if r.status != "ok":
            labels = lines.setdefault((r.metric, r.status, r.reason), [])
            if r.case.label not in labels:
                labels.append(r.case.label)
    if not lines:
        return []
    sheet = pd.DataFrame(
        [(*what, "<br>".join(cases)) for what, cases in lines.items()],
        columns=["metric", "status", "reason", "cases"],
    )
    return ["## Not measured, and why", sheet.to_markdown(index=False)]
