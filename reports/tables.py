"""The paper's tables with our values beside the printed ones, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.paper import DESCRIPTIVE, Misprint, PaperRow, remarks, rows
from bench.records.case import Case
from bench.records.units import giga, millions, percent, rounded
from reports import intervals
from reports.accuracy import Accuracy, fill
from reports.intervals import ends, spread
from reports.results import Results

Find = Callable[[Case | None], Results | None]


@dataclass(frozen=True)
class Cell:
    """A printed result and ours.

    Attributes:
        paper, ours: as text with the change against the baseline row; empty if there is none.
        difference: ours minus the paper's, of what is comparable; empty if nothing is.
        comparable: "yes", "ratio" (only the change against the baseline row is) or "no".
        reason: why not, or why there is no value.
        low, high: ends of our value's 95% interval, in the column's unit; empty without one.
        change_low, change_high: likewise of the change against the baseline row, in percent.
        samples: how many rounds a sampled value rests on; empty for what is exact.
        notes: numbers of the notes below the table.
    """

    paper: str
    ours: str
    difference: str
    comparable: str
    reason: str
    notes: tuple[int, ...] = ()
    low: str = ""
    high: str = ""
    change_low: str = ""
    change_high: str = ""
    samples: str = ""

    def markdown(self) -> str:
        """Three lines in one table cell: paper, ours, difference."""
        mark = "".join(f"<sup>{n}</sup>" for n in self.notes)
        sign = {"yes": "Δ", "ratio": "Δ of change", "no": ""}[self.comparable]
        lines = [
            f"{self.paper or '–'}{mark}",
            f"**{self.ours}**" if self.ours else f"*{self.reason or '–'}*",
        ]
        if self.difference:
            lines.append(f"{sign} {self.difference}")
        elif self.ours and self.comparable == "no":
            lines.append("not comparable")
        return "<br>".join(lines)


@dataclass(frozen=True)
class Column:
    """A result column of the paper and the metric that answers it.

    Attributes:
        name: its name in the paper's data.
        heading: its heading here.
        metrics: of ``Results.values``, the best first; empty where nothing measures it yet.
        text: value to text in the paper's unit and digits.
        digits: digits of the difference.
        comparable: as for :class:`Cell`.
        reason: why the two are not comparable, or why there is none.
        change: whether the paper prints the change against the baseline row, and which of
            our values over the baseline's it is to be held against ("value" or "speedup").
        beside: a metric whose value for all frames is shown beside ours.
    """

    name: str
    heading: str
    metrics: tuple[str, ...]
    text: Callable[[float], str]
    digits: int
    comparable: str
    reason: str = ""
    change: str = ""
    beside: str = ""


_NO_MPJPE = "not measured"
GIB = 2**30

COLUMNS: tuple[Column, ...] = (
    Column(
        "frame_noise",
        "FN (px)",
        ("frame_noise_px",),
        lambda v: rounded(v, 2),
        2,
        "no",
        "other motion and a modelled detector",
        beside="frame_noise_all_px",
    ),
    Column("param_m", "Param (M)", ("param_count",), millions, 2, "yes"),
    Column("flops_g", "FLOPs (G)", ("flops_paper",), giga, 2, "yes", change="value"),
    Column(
        "fps_per_frame",
        "FPS/Frame",
        ("clips_per_s",),
        lambda v: rounded(v, 2),
        1,
        "ratio",
        "another machine",
        change="speedup",
    ),
    Column(
        "fps",
        "FPS (output frames/s)",
        ("output_frames_per_s",),
        lambda v: rounded(v, 2 if v < 10 else 0),
        1,
        "ratio",
        "another machine",
        change="speedup",
    ),
    Column(
        "ratio",
        "Ratio",
        ("prune_recover_ratio",),
        lambda v: rounded(v, 3),
        3,
        "no",
        "another machine, other code",
    ),
    Column(
        "gpu_memory_g",
        "GPU Memory (G)",
        ("training_allocated_peak_bytes", "training_peak_estimated_bytes"),
        lambda v: rounded(v / GIB, 2),
        1,
        "ratio",
        "another implementation of attention; estimated where no GPU measured it",
        change="value",
    ),
    Column(
        "training_time_min",
        "Training Time (min/epoch)",
        ("training_epoch_min",),
        lambda v: rounded(v, 1),
        1,
        "ratio",
        "another machine",
        change="value",
    ),
    Column("mpjpe_mm", "MPJPE (mm)", (), str, 1, "no", _NO_MPJPE),
)

# Columns that the paper does not have: name, heading, metric, text.
_EXTRA: tuple[tuple[str, str, str, Callable[[float], str]], ...] = (
    ("flops_full_g", "flops_full (G)", "flops_full", lambda v: giga(v, 2)),
    ("output_frames_per_s", "output frames/s", "output_frames_per_s", lambda v: rounded(v, 1)),
    (
        "inference_process_peak_gib",
        "inference memory (GiB, process peak)",
        "inference_process_peak_bytes",
        lambda v: rounded(v / GIB, 2),
    ),
)
_FROM_LATENCY = ("clips_per_s", "output_frames_per_s", "prune_recover_ratio")


def why_not(result: Results | None, metric: str) -> str:
    """Why there is no value of a metric."""
    reasons = result.reasons if result is not None else {}
    return reasons.get("latency_s" if metric in _FROM_LATENCY else metric, "not measured")


def _extra(result: Results | None, metric: str, text: Callable[[float], str]) -> Cell:
    if result is None or metric not in result.values:
        return Cell("", "", "", "no", why_not(result, metric))
    ours = text(result.values[metric])
    known = result.known.get(metric)
    if known is not None:
        ours += f" {spread(known)}"
    low, high = ends(known)
    samples = str(known.n) if known is not None else ""
    return Cell("", ours, "", "no", "not in the paper", low=low, high=high, samples=samples)


@dataclass(frozen=True)
class Table:
    """A table of the paper, answered.

    Attributes:
        number: of the paper.
        headings: columns in printed order, then ours alone.
        rows: as printed.
        cells: per row, the paper's columns by name.
        extras: per row, the columns that the paper does not have, in order.
        notes: what is to be said of single cells, numbered from 1.
    """

    number: int
    headings: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    cells: tuple[Mapping[str, Cell], ...]
    extras: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        """As a markdown table with the notes below."""
        names = [c.name for c in COLUMNS if c.name in self.rows[0].cells]
        lines = [
            "| " + " | ".join(self.headings) + " |",
            "|" + "|".join("---" for _ in self.headings) + "|",
        ]
        for row, cells, extra in zip(self.rows, self.cells, self.extras, strict=True):
            own = (cell.ours or f"*{cell.reason}*" for cell in extra)
            texts = [*_describe(row), *(cells[name].markdown() for name in names), *own]
            lines.append("| " + " | ".join(texts) + " |")
        notes = [f"<sup>{i}</sup> {text}" for i, text in enumerate(self.notes, 1)]
        return "\n".join(lines) + "\n\n" + "  \n".join(notes)

    def csv(self) -> pd.DataFrame:
        """One line per cell, nothing left out."""
        lines = []
        for row, cells, extra in zip(self.rows, self.cells, self.extras, strict=True):
            case = row.case()
            label = case.label if case is not None else ""
            what = {"table": row.table, "row": row.number, "case": label}
            every = zip((name for name, _, _, _ in _EXTRA), extra, strict=True)
            for name, cell in (*cells.items(), *every):
                notes = " ".join(self.notes[n - 1] for n in cell.notes)
                lines.append(
                    {
                        **what,
                        "column": name,
                        "paper": cell.paper,
                        "ours": cell.ours,
                        "difference": cell.difference,
                        "comparable": cell.comparable,
                        "reason": cell.reason,
                        "note": notes,
                        "low": cell.low,
                        "high": cell.high,
                        "change_low": cell.change_low,
                        "change_high": cell.change_high,
                        "samples": cell.samples,
                    }
                )
        return pd.DataFrame(lines)


def _describe(row: PaperRow) -> list[str]:
    """The descriptive texts of a row, by the paper's layout."""
    cells = row.cells
    texts = [f"{row.number}", row.method]
    if "pruning" in cells:
        texts += [cells["pruning"] or "–", cells["recovering"] or "–"]
    texts += [cells[name] or "–" for name in _PLAIN[row.table]]
    if "pruning" not in cells:
        texts += [
            _list(cells["r"]) or (cells["F"] if row.table == 4 else "–"),
            _list(cells["b"]) or "–",
        ]
    return texts


def _list(text: str) -> str:
    return f"[{', '.join(text.split())}]" if text else ""


# Further descriptive columns, shown as printed.
_PLAIN: dict[int, tuple[str, ...]] = {
    2: (),
    3: ("pipeline",),
    4: (),
    5: ("F",),
    6: ("f",),
    7: ("venue", "F"),
}


def _descriptive_headings(row: PaperRow) -> tuple[str, ...]:
    if "pruning" in row.cells:
        return ("Row", "Method", "Pruning", "Recovering")
    return ("Row", "Method", *_PLAIN[row.table], "r", "b")


def paper_table(
    number: int,
    results: Mapping[Case, Results],
    setting: Mapping[str, Any],
    accuracy: Accuracy | None = None,
) -> Table:
    """Answer one of the paper's tables.

    Args:
        number: of the paper.
        results: what was measured.
        setting: fields of the cases to look for that are no part of a configuration: batch,
            device, dtype, threads, motion.
        accuracy: fills the columns that need trained weights.
    """

    def find(case: Case | None) -> Results | None:
        return results.get(replace(case, **setting)) if case is not None else None

    printed = rows(number)
    columns = [c for c in COLUMNS if c.name in printed[0].cells]
    notes: list[str] = []
    cells = []
    for row in printed:
        line = {}
        for column in columns:
            marks = [_note(notes, remark) for remark in remarks(row, column.name)]
            line[column.name] = _cell(column, row, find, tuple(marks), accuracy)
        cells.append(line)
    # Remarks on how a row is described have no cell of their own.
    for row in printed:
        for remark in remarks(row):
            if remark.column in DESCRIPTIVE:
                _note(notes, remark)
    extras = []
    for row in printed:
        result = find(row.case())
        extras.append(tuple(_extra(result, metric, text) for _, _, metric, text in _EXTRA))
    trained = {c.name: any(fill(accuracy, c.name, row.case()) for row in printed) for c in columns}
    headings = (
        *_descriptive_headings(printed[0]),
        *(_heading(c, accuracy) if trained[c.name] else c.heading for c in columns),
        *(heading for _, heading, _, _ in _EXTRA),
    )
    return Table(number, headings, printed, tuple(cells), tuple(extras), tuple(notes))


_KINDS = {"remark": "", "misprint": "misprint: ", "contradiction": "the paper contradicts itself: "}


def _note(notes: list[str], remark: Misprint) -> int:
    """The number of a note below the table, which is added if it is new."""
    text = f"{_KINDS[remark.kind]}{remark.reason}."
    text = text[0].upper() + text[1:]
    if text not in notes:
        notes.append(text)
    return notes.index(text) + 1


def _heading(column: Column, accuracy: Accuracy | None) -> str:
    """With what ours was measured, since the paper's was measured with something else."""
    return f"{column.heading}<br>ours: {accuracy.name}" if accuracy is not None else column.heading


def _cell(
    column: Column,
    row: PaperRow,
    find: Find,
    notes: tuple[int, ...],
    accuracy: Accuracy | None,
) -> Cell:
    printed = row.value(column.name)
    paper = row.cells[column.name]
    reference = row.reference if column.change else None
    before = reference.value(column.name) if reference is not None else None
    paper_change = None
    if printed is not None and before:
        paper_change = printed / before
        paper += f" ({percent(paper_change)})"
    result = find(row.case())
    if row.case() is None:
        return Cell(paper, "", "", "no", "not measured: no host of this package", notes)
    trained = fill(accuracy, column.name, row.case())
    if trained and accuracy is not None:
        return Cell(paper, trained, "", "no", f"other data and weights: {accuracy.name}", notes)
    if not column.metrics:
        return Cell(paper, "", "", "no", column.reason, notes)
    values = result.values if result is not None else {}
    metric = next((name for name in column.metrics if name in values), None)
    if metric is None:
        return Cell(paper, "", "", column.comparable, why_not(result, column.metrics[-1]), notes)
    value = values[metric]
    known = result.known.get(metric) if result is not None else None
    ours = column.text(value) + (" est." if "estimated" in metric else "")
    ours += f" {spread(known)}" if known is not None else ""
    if column.beside in values:
        ours += f" (all frames {column.text(values[column.beside])})"
    change, ratio = None, None  # as a number, and with its interval where it has one
    if paper_change is not None and reference is not None:
        base = find(reference.case())
        if column.change == "speedup":
            ratio = result.speed if result is not None else None
            change = ratio.value if ratio is not None else None
        elif base is not None and metric in base.values:
            change = value / base.values[metric]
        if change is not None:
            ours += f" ({percent(change) if ratio is None else intervals.change(ratio)})"
    difference = ""
    if column.comparable == "yes" and printed is not None:
        difference = _signed(float(column.text(value)) - printed, column.digits)
    elif column.comparable == "ratio" and change is not None and paper_change is not None:
        difference = _signed(100 * (change - paper_change), 1) + " points"
    low, high = ends(known)
    below, above = ends(ratio, 100, less=1)
    samples = str(known.n) if known is not None else ""
    return Cell(
        paper, ours, difference, column.comparable, column.reason, notes, low, high, below, above,
        samples,
    )  # fmt: skip


def _signed(value: float, digits: int) -> str:
    text = rounded(abs(value), digits)
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "-") + text
