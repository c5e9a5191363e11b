"""The paper's tables as data, the cases of their rows, and their misprints."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.records.case import Case
from bench.records.errors import UsageError

_HERE = Path(__file__).parent


@cache
def _read(table: int) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Header comments (``# name: text``) and lines of a table's file."""
    content = (_HERE / f"table_{table}.csv").read_text(encoding="utf-8").splitlines()
    comments = [line.removeprefix("# ") for line in content if line.startswith("# ")]
    lines = csv.DictReader(content[len(comments) :])
    return dict(comment.split(": ", 1) for comment in comments), list(lines)


TABLES = tuple(
    number
    for number in sorted(
        int(path.stem.removeprefix("table_")) for path in _HERE.glob("table_*.csv")
    )
    if "r" in _read(number)[1][0]
)
"""The tables that can be measured, at least in part: those whose rows are configurations."""

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
"""Columns that describe a row; all others are results."""


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
        if cells["backbone"] in about(self.table).get("not implemented", "").split(", "):
            return None
        host = cells["backbone"].lower()
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


def about(table: int) -> Mapping[str, str]:
    """Header comments of a table's file.

    ``title``; ``r without pruning``, the paper's r in the rows without pruning, where it prints
    one; ``not implemented``, backbones that are no host here.

    Raises:
        UsageError: for a table that cannot be measured.
    """
    _check(table)
    return _read(table)[0]


@cache
def rows(table: int) -> tuple[PaperRow, ...]:
    """The printed rows of a table, in order.

    Raises:
        UsageError: for a table that cannot be measured.
    """
    _check(table)
    return tuple(PaperRow(table, number, cells) for number, cells in enumerate(_read(table)[1], 1))


def _check(table: int) -> None:
    if table not in TABLES:
        known = ", ".join(map(str, TABLES))
        raise UsageError(f"table {table} is not available; choose from {known}.")


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
    """Remarks on a row's cell, or on any of its cells."""
    return [
        m
        for m in misprints()
        if m.table == row.table and row.number in m.rows and column in (None, m.column)
    ]


def cases(tables: Iterable[int]) -> list[Case]:
    """The distinct configurations of some tables, in printed order."""
    every = (row.case() for number in tables for row in rows(number))
    return list(dict.fromkeys(case for case in every if case is not None))


def main_cases() -> list[Case]:
    """Baseline, HoT and H2OT of every host in Table 7 (MHFormer: baseline, TPC, TPM)."""
    return cases([7])


def tables_of(host: str, pipeline: str) -> tuple[int, ...]:
    """The tables whose rows are all configurations of one host and pipeline."""
    kinds = {n: {(c.host, c.pipeline) for row in rows(n) if (c := row.case())} for n in TABLES}
    return tuple(number for number, kind in kinds.items() if kind == {(host, pipeline)})


@cache
def host_title(host: str) -> str:
    """A host's name as the paper spells it; of other hosts the registered name."""
    printed = (row.cells["backbone"] for table in TABLES for row in rows(table))
    return next((name for name in printed if name.lower() == host), host)


def frame_rates() -> dict[str, tuple[str, str]]:
    """Table 9: frames per second to the printed MPJPE without pruning and of H2OT, mm."""
    by_scheme: dict[str, dict[str, str]] = {}
    for line in _read(9)[1]:
        by_scheme.setdefault(line["video_hz"], {})[line["scheme"]] = line["mpjpe_mm"]
    return {rate: (errors["none"], errors["H2OT"]) for rate, errors in by_scheme.items()}
