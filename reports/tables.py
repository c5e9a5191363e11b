"""The paper's tables: printed and measured values side by side, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.paper import DESCRIPTIVE, Misprint, PaperRow, about, remarks, rows
from bench.records.case import Case
from bench.records.units import giga, millions, percent, rounded
from reports import intervals
from reports.accuracy import Accuracy, fill
from reports.intervals import ends, spread
from reports.markdown import gib, pipe_table
from reports.results import Results

Find = Callable[[Case | None], Results]
_NOTHING = Results(Case(host="", frames=0))


@dataclass(frozen=True)
class Cell:
    """A printed result and ours.

    Attributes:
        paper, ours: as text with the change against the baseline row; empty if there is none.
        difference: ours minus the paper's, of what is comparable; empty if nothing is.
        comparable: "yes", "ratio" (only the change against the baseline row is) or "no".
        reason: why it is not comparable, or why there is no value.
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
    """A result column and the metric that fills it.

    Attributes:
        name: its name in the paper's data, or in the CSV alone for a column of ours.
        heading: its heading here.
        metrics: of ``Results.values``, the best first; empty where nothing measures it.
        text: value to text in the paper's unit and digits.
        digits: digits of the difference.
        comparable: as for :class:`Cell`.
        reason: why the two are not comparable, or why there is none.
        change: whether the paper prints the change against the baseline row, and which of our
            numbers it is compared with: the ratio of the values ("value") or "speedup".
        all_frames: a metric whose value for all frames is shown in brackets.
        printed: whether the paper has the column; the others are in every table.
    """

    name: str
    heading: str
    metrics: tuple[str, ...]
    text: Callable[[float], str]
    digits: int = 0
    comparable: str = "no"
    reason: str = "not in the paper"
    change: str = ""
    all_frames: str = ""
    printed: bool = True

    @property
    def used(self) -> tuple[str, ...]:
        """All metrics that the column reads."""
        return (*self.metrics, self.all_frames)


_MACHINE = "another machine"

COLUMNS: tuple[Column, ...] = (
    Column(
        "frame_noise", "FN (px)", ("frame_noise_px",), lambda v: rounded(v, 2), 2, "no",
        "other motion and a modelled detector", all_frames="frame_noise_all_px",
    ),
    Column("param_m", "Param (M)", ("param_count",), millions, 2, "yes", ""),
    Column("flops_g", "FLOPs (G)", ("flops_paper",), giga, 2, "yes", "", change="value"),
    Column(
        "fps_per_frame", "FPS/Frame", ("clips_per_s",), lambda v: rounded(v, 2), 1, "ratio",
        _MACHINE, change="speedup",
    ),
    Column(
        "fps", "FPS (output frames/s)", ("output_frames_per_s",),
        lambda v: rounded(v, 2 if v < 10 else 0), 1, "ratio", _MACHINE, change="speedup",
    ),
    Column(
        "ratio", "Ratio", ("prune_recover_ratio",), lambda v: rounded(v, 3), 3, "no",
        "another machine, other code",
    ),
    Column(
        "gpu_memory_g", "GPU Memory (G)",
        ("training_allocated_peak_bytes", "training_peak_estimated_bytes"), gib, 1, "ratio",
        "another implementation of attention; estimated where no GPU measured it", change="value",
    ),
    Column(
        "training_time_min", "Training Time (min/epoch)", ("training_epoch_min",),
        lambda v: rounded(v, 1), 1, "ratio", _MACHINE, change="value",
    ),
    Column("mpjpe_mm", "MPJPE (mm)", (), str, 1, "no", "not measured"),
    Column("flops_full_g", "flops_full (G)", ("flops_full",), giga, printed=False),
    Column(
        "output_frames_per_s", "output frames/s", ("output_frames_per_s",),
        lambda v: rounded(v, 1), printed=False,
    ),
    Column(
        "inference_process_peak_gib", "inference memory (GiB, process peak)",
        ("inference_process_peak_bytes",), gib, printed=False,
    ),
)  # fmt: skip
_FROM_LATENCY = ("clips_per_s", "output_frames_per_s", "prune_recover_ratio")


def why_not(result: Results, metric: str) -> str:
    """Why there is no value of a metric."""
    return result.reasons.get("latency_s" if metric in _FROM_LATENCY else metric, "not measured")


def columns(row: PaperRow) -> list[Column]:
    """The result columns of a row's table: the paper's in printed order, then ours."""
    return [c for c in COLUMNS if c.name in row.cells or not c.printed]


@dataclass(frozen=True)
class Table:
    """A table of the paper with our values.

    Attributes:
        number: of the paper.
        headings: of the descriptive columns, then of :func:`columns`.
        rows: as printed.
        cells: per row, name of the column to cell, in the order of :func:`columns`.
        notes: remarks on single cells, numbered from 1.
    """

    number: int
    headings: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    cells: tuple[Mapping[str, Cell], ...]
    notes: tuple[str, ...]

    @property
    def measured(self) -> bool:
        """Whether any of the paper's results is measured here."""
        return any(cells[c.name].ours for cells in self.cells for c in COLUMNS
                   if c.printed and c.name in cells)  # fmt: skip

    def markdown(self) -> str:
        """As a markdown table with the notes below."""
        lines = []
        for row, cells in zip(self.rows, self.cells, strict=True):
            texts = (
                cells[c.name].markdown()
                if c.printed
                else cells[c.name].ours or f"*{cells[c.name].reason}*"
                for c in columns(row)
            )
            lines.append((*_describe(row), *texts))
        notes = [f"<sup>{i}</sup> {text}" for i, text in enumerate(self.notes, 1)]
        return pipe_table(self.headings, lines) + "\n\n" + "  \n".join(notes)

    def csv(self) -> pd.DataFrame:
        """One line per cell, nothing left out."""
        lines = []
        for row, cells in zip(self.rows, self.cells, strict=True):
            case = row.case()
            label = case.label if case is not None else ""
            for name, cell in cells.items():
                known = {**vars(cell), "note": " ".join(self.notes[n - 1] for n in cell.notes)}
                line = {"table": row.table, "row": row.number, "case": label, "column": name}
                lines.append(line | {field: known[field] for field in _FIELDS})
        return pd.DataFrame(lines)


_FIELDS = (
    "paper", "ours", "difference", "comparable", "reason", "note", "low", "high", "change_low",
    "change_high", "samples",
)  # fmt: skip


def _varying(table: int) -> list[str]:
    """Descriptive columns with a heading of their own: those in which the rows differ."""
    shown = set(DESCRIPTIVE) - {"backbone", "scheme", "note", "pruning", "recovering", "r", "b"}
    printed = [row.cells for row in rows(table)]
    return [
        name for name in printed[0] if name in shown and len({cells[name] for cells in printed}) > 1
    ]


def _describe(row: PaperRow) -> list[str]:
    """The descriptive texts of a row, under :func:`_descriptive_headings`."""
    cells = row.cells
    own = [cells[name] or "–" for name in _varying(row.table)]
    texts = [f"{row.number}", row.method]
    if "pruning" in cells:
        return [*texts, cells["pruning"] or "–", cells["recovering"] or "–", *own]
    r = _list(cells["r"]) or about(row.table).get("r without pruning", "–")
    return [*texts, *own, r, _list(cells["b"]) or "–"]


def _list(text: str) -> str:
    return f"[{', '.join(text.split())}]" if text else ""


def _descriptive_headings(row: PaperRow) -> tuple[str, ...]:
    own = _varying(row.table)
    if "pruning" in row.cells:
        return ("Row", "Method", "Pruning", "Recovering", *own)
    return ("Row", "Method", *own, "r", "b")


def paper_table(
    number: int,
    results: Mapping[Case, Results],
    setting: Mapping[str, Any],
    accuracy: Accuracy | None = None,
) -> Table:
    """Fill one of the paper's tables.

    Args:
        number: of the paper.
        results: what was measured.
        setting: the fields of a case that are not part of its configuration: batch, device,
            dtype, threads, motion.
        accuracy: fills the columns that need trained weights.
    """

    def find(case: Case | None) -> Results:
        return _NOTHING if case is None else results.get(replace(case, **setting), _NOTHING)

    printed = rows(number)
    notes: list[str] = []
    cells = []
    for row in printed:
        line = {}
        for column in columns(row):
            marks = [_note(notes, remark) for remark in remarks(row, column.name)]
            line[column.name] = _cell(column, row, find, tuple(marks), accuracy)
        cells.append(line)
    # Remarks on how a row is described have no cell of their own.
    for remark in (remark for row in printed for remark in remarks(row)):
        if remark.column in DESCRIPTIVE:
            _note(notes, remark)
    trained = "" if accuracy is None else f"<br>ours: {accuracy.name}"
    results_headings = (
        # The paper's values were measured on other data and weights.
        c.heading + (trained if any(fill(accuracy, c.name, row.case()) for row in printed) else "")
        for c in columns(printed[0])
    )
    headings = (*_descriptive_headings(printed[0]), *results_headings)
    return Table(number, headings, printed, tuple(cells), tuple(notes))


_KINDS = {"remark": "", "misprint": "misprint: ", "contradiction": "the paper contradicts itself: "}


def _note(notes: list[str], remark: Misprint) -> int:
    """The number of a note below the table, which is added if it is new."""
    text = f"{_KINDS[remark.kind]}{remark.reason}."
    text = text[0].upper() + text[1:]
    if text not in notes:
        notes.append(text)
    return notes.index(text) + 1


def _cell(
    column: Column,
    row: PaperRow,
    find: Find,
    notes: tuple[int, ...],
    accuracy: Accuracy | None,
) -> Cell:
    printed = row.value(column.name)
    paper = row.cells.get(column.name, "")
    reference = row.reference if column.change else None
    before = reference.value(column.name) if reference is not None else None
    paper_change = None
    if printed is not None and before:
        paper_change = printed / before
        paper += f" ({percent(paper_change)})"
    result = find(row.case())
    if row.case() is None and column.printed:
        return Cell(paper, "", "", "no", "not measured: no host of this package", notes)
    trained = fill(accuracy, column.name, row.case())
    if trained and accuracy is not None:
        return Cell(paper, trained, "", "no", f"other data and weights: {accuracy.name}", notes)
    if not column.metrics:
        return Cell(paper, "", "", "no", column.reason, notes)
    values = result.values
    metric = next((name for name in column.metrics if name in values), None)
    if metric is None:
        return Cell(paper, "", "", column.comparable, why_not(result, column.metrics[-1]), notes)
    value, estimate = values[metric], result.estimates.get(metric)
    ours = column.text(value) + (" est." if "estimated" in metric else "")
    ours += f" {spread(estimate)}" if estimate is not None else ""
    if column.all_frames in values:
        ours += f" (all frames {column.text(values[column.all_frames])})"
    change, ratio = None, None  # as a number, and with its interval where it has one
    if paper_change is not None and reference is not None:
        base = find(reference.case())
        if column.change == "speedup":
            ratio, change = result.speed, result.speedup
        elif metric in base.values:
            change = value / base.values[metric]
        if change is not None:
            ours += f" ({percent(change) if ratio is None else intervals.change(ratio)})"
    difference = ""
    if column.comparable == "yes" and printed is not None:
        difference = _signed(float(column.text(value)) - printed, column.digits)
    elif column.comparable == "ratio" and change is not None and paper_change is not None:
        difference = _signed(100 * (change - paper_change), 1) + " points"
    samples = str(estimate.n) if estimate is not None else ""
    return Cell(
        paper, ours, difference, column.comparable, column.reason, notes, *ends(estimate),
        *ends(ratio, 100, less=1), samples,
    )  # fmt: skip


def _signed(value: float, digits: int) -> str:
    text = rounded(abs(value), digits)
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "-") + text
