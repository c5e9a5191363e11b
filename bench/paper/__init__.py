"""The paper's tables as data, the cases their rows stand for, and their misprints."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.records.case import Case
from bench.records.errors import UsageError

_HERE = Path(__file__).parent
TABLES = (2, 3, 4, 5, 6, 7)
"""The tables that can be measured, in part or whole."""

DESCRIPTIVE = (
    "backbone",
    "scheme",
    "venue",
    "note",
    "pipeline",
    "pruning",
    "recovering",
    "F",
    "f",
    "r",
    "b",
)
"""Columns that say what a row is; all others hold results."""


_HOSTS = {
    "MixSTE": "mixste",
    "MotionBERT": "motionbert",
    "MotionAGFormer": "motionagformer",
    "MHFormer": "mhformer",
}
_SCHEMES: dict[str, tuple[str | None, str | None]] = {
    "none": (None, None),
    "hot": ("tpc", "tra"),
    "tpc": ("tpc", None),
    "tpm": ("tps", None),
    "h2ot": ("tps", "tri"),
}


@dataclass(frozen=True)
class PaperRow:
    """One printed row.

    Attributes:
        table: number of the table.
        number: place in the printed order, from 1.
        cells: column to text as printed; empty where the paper has nothing.
    """

    table: int
    number: int
    cells: Mapping[str, str]

    @property
    def name(self) -> str:
        """``Table 4, row 3``."""
        return f"Table {self.table}, row {self.number}"

    @property
    def method(self) -> str:
        """The row's method as the paper names it."""
        scheme = self.cells.get("scheme")
        if scheme is None:
            scheme = "Ours" if self.cells["pruning"] else "none"
        if scheme == "none":
            star = " (re-implementation)" if self.cells.get("note") else ""
            return self.cells["backbone"] + star
        return "Ours" if scheme == "Ours" else f"{scheme} w. {self.cells['backbone']}"

    def case(self) -> Case | None:
        """The configuration that the row reports; None for a backbone that is no host here."""
        cells = self.cells
        host = _HOSTS.get(cells["backbone"])
        if host is None:
            return None
        prune, recover = self._strategies()
        b = cells["b"]
        if (host, cells.get("scheme")) == ("mhformer", "TPM"):
            b = "0 2"  # the printed FLOPs need it; see misprints.csv
        pipeline = cells.get("pipeline") or ("seq2frame" if host == "mhformer" else "seq2seq")
        target = cells.get("f")
        return Case(
            host=host,
            frames=int(cells.get("F") or 243),
            prune=prune,
            recover=recover,
            r=tuple(int(n) for n in cells["r"].split()) if prune else (),
            b=tuple(int(n) for n in b.split()) if prune else (),
            pipeline=pipeline,
            options=(("tri_frames", int(target)),) if target else (),
        )

    def _strategies(self) -> tuple[str | None, str | None]:
        if "pruning" in self.cells:
            return self.cells["pruning"].lower() or None, self.cells["recovering"].lower() or None
        return _SCHEMES[self.cells["scheme"].lower()]

    @property
    def reference(self) -> PaperRow | None:
        """The row that its changes are printed against: the last unpruned one of its kind."""
        if self.case() is None or not self.cells["r"]:
            return None
        same = [
            row
            for row in rows(self.table)[: self.number]
            if not row.cells["r"]
            and row.cells["backbone"] == self.cells["backbone"]
            and row.cells.get("pipeline") == self.cells.get("pipeline")
            and (row.cells.get("F") or "243") == (self.cells.get("F") or "243")
        ]
        return same[-1] if same else None

    def value(self, column: str) -> float | None:
        """A printed number, None where the paper has none."""
        text = self.cells.get(column, "")
        return float(text) if text else None


@dataclass(frozen=True)
class Misprint:
    """A printed cell that cannot be right, or that another place contradicts.

    ``kind`` is "misprint" (cannot be reproduced by any reading), "contradiction" (the paper
    prints another value for the same thing elsewhere) or "remark" (right, but needs a word).
    """

    table: int
    rows: tuple[int, ...]
    column: str
    kind: str
    reason: str


@cache
def rows(table: int) -> tuple[PaperRow, ...]:
    """The printed rows of a table, in order.

    Raises:
        UsageError: for a table that cannot be measured.
    """
    if table not in TABLES:
        known = ", ".join(map(str, TABLES))
        raise UsageError(f"table {table} is not available; choose from {known}.")
    with (_HERE / f"table_{table}.csv").open(newline="", encoding="utf-8") as file:
        return tuple(
            PaperRow(table, number, cells) for number, cells in enumerate(csv.DictReader(file), 1)
        )


@cache
def misprints() -> tuple[Misprint, ...]:
    """All known misprints and contradictions of the tables above."""
    with (_HERE / "misprints.csv").open(newline="", encoding="utf-8") as file:
        return tuple(
            Misprint(
                int(row["table"]),
                tuple(int(n) for n in row["rows"].split()),
                row["column"],
                row["kind"],
                row["reason"],
            )
            for row in csv.DictReader(file)
        )


def remarks(row: PaperRow, column: str | None = None) -> list[Misprint]:
    """What is to be said of a row's cell, or of any of its cells."""
    return [
        m
        for m in misprints()
        if m.table == row.table and row.number in m.rows and column in (None, m.column)
    ]


def cases(tables: Iterable[int]) -> list[Case]:
    """The distinct configurations of some tables, in printed order."""
    found = (row.case() for number in tables for row in rows(number))
    return list(dict.fromkeys(case for case in found if case is not None))


def main_cases() -> list[Case]:
    """Baseline, HoT and H2OT of every host in Table 7 (MHFormer: baseline, TPC, TPM)."""
    return cases([7])


def frame_rates() -> dict[str, tuple[str, str]]:
    """Table 9: frames per second to the printed MPJPE without pruning and of H2OT, mm."""
    with (_HERE / "table_9.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    found = {line["video_hz"]: line["mpjpe_mm"] for line in lines if line["scheme"] == "none"}
    pruned = {line["video_hz"]: line["mpjpe_mm"] for line in lines if line["scheme"] == "H2OT"}
    return {rate: (error, pruned[rate]) for rate, error in found.items()}
