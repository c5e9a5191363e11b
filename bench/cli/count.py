"""The command count."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from bench.cli.options import (
    add_configuration,
    own_case,
)
from bench.models import build
from bench.paper import DESCRIPTIVE, TABLES, PaperRow, remarks, rows
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.units import giga, millions


def add(commands: Any) -> None:
    """Add the command."""
    count = commands.add_parser(
        "count",
        help="parameters and FLOPs, without timing",
        description="Parameters and FLOPs of the rows of a table, or of one configuration, "
        "counted without running a model on data. The first row of each pair of strategies is "
        "confirmed by torch's, fvcore's and thop's counters.",
    )
    add_configuration(count)
    count.add_argument("--csv", metavar="FILE", help="write CSV to FILE, - for standard output")
    count.add_argument("--modules", action="store_true", help="add flops_full by module")
    count.set_defaults(run=_count)


def _count(args: argparse.Namespace) -> None:
    own = own_case(args)
    if args.modules and own is None:
        raise UsageError("--modules goes with one configuration; give --host or --scheme")
    if own is not None:
        lines = [{"row": "1", "case": own.label, **_counted([own])[own]}]
    else:
        numbers = list(dict.fromkeys(args.table or TABLES))
        printed = [row for number in numbers for row in rows(number)]
        counts = _counted([case for row in printed if (case := row.case())])
        lines = [_count_row(row, counts, with_table=len(numbers) > 1) for row in printed]
    present = dict.fromkeys(name for line in lines for name in line)
    # Counts come last, and the note after them, whatever columns the tables have.
    columns = [name for name in present if name not in _COUNTED]
    columns += [name for name in _COUNTED if name in present]
    if args.csv == "-":
        _write_csv(sys.stdout, columns, lines)
    elif args.csv:
        try:
            with open(args.csv, "w", newline="", encoding="utf-8") as file:
                _write_csv(file, columns, lines)
        except OSError as error:
            raise UsageError(f"cannot write {args.csv}: {error.strerror}") from None
    else:
        from tabulate import tabulate

        table = [[line.get(name, "") for name in columns] for line in lines]
        print(tabulate(table, headers=columns, disable_numparse=True))
    if args.modules and own is not None:
        _print_modules(own)


_COUNTED = ("param_m", "flops_paper_g", "flops_full_g", "paper_param_m", "paper_flops_g", "note")


def _write_csv(file: TextIO, columns: Sequence[str], lines: Sequence[dict[str, str]]) -> None:
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)


def _count_row(
    row: PaperRow, counts: Mapping[Case, Mapping[str, str]], *, with_table: bool
) -> dict[str, str]:
    line = {"table": str(row.table)} if with_table else {}
    line["row"] = str(row.number)
    line.update({name: text for name, text in row.cells.items() if name in DESCRIPTIVE})
    case = row.case()
    line.update(counts[case] if case else dict.fromkeys(_COUNTED[:3], ""))
    line["paper_param_m"], line["paper_flops_g"] = row.cells["param_m"], row.cells["flops_g"]
    columns = ("param_m", "flops_g", "r", "b")
    notes = [m.reason for m in remarks(row) if m.column in columns]
    if row.cells.get("note"):
        notes.insert(0, row.cells["note"])
    if case is None:
        notes.append("not measured: no host of this package")
    line["note"] = "; ".join(dict.fromkeys(notes))
    return line


def _counted(cases: Sequence[Case]) -> dict[Case, dict[str, str]]:
    """Both counts of every case, as text."""
    from bench.metrics.count_cases import count_all

    return {
        case: {
            "param_m": millions(found.parameters),
            "flops_paper_g": giga(found.flops_paper),
            "flops_full_g": giga(found.flops_full, 3),
        }
        for case, found in count_all(cases).items()
    }


def _print_modules(own: Case) -> None:
    from bench.metrics import flop_counters

    model, x = build.blank_model(own.build_arguments())
    for path, flops in sorted(flop_counters.count(model, x).modules.items()):
        print(f"{giga(flops, 3):>10} G  {path or '(loop)'}")
