"""The command count."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping, Sequence

from bench.cli import options
from bench.paper import DESCRIPTIVE, TABLES, PaperRow, remarks, rows
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.units import giga, millions

HELP = "parameters and FLOPs, without timing"
DESCRIPTION = (
    "Parameters and FLOPs of the rows of a table, or of one configuration, counted without running "
    "a model on data. The first row of each pair of strategies is confirmed by torch's, fvcore's "
    "and thop's counters."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_configuration(parser)
    parser.add_argument("--csv", metavar="FILE", help="write CSV to FILE, - for standard output")
    parser.add_argument("--modules", action="store_true", help="add flops_full by module")


def run(args: argparse.Namespace) -> None:
    """Count and print."""
    own = options.own_case(args)
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
        print(_csv(columns, lines), end="")
    elif args.csv:
        options.write_text(args.csv, _csv(columns, lines))
    else:
        from tabulate import tabulate

        table = [[line.get(name, "") for name in columns] for line in lines]
        print(tabulate(table, headers=columns, disable_numparse=True))
    if args.modules and own is not None:
        _print_modules(own)


_COUNTED = ("param_m", "flops_paper_g", "flops_full_g", "paper_param_m", "paper_flops_g", "note")


def _csv(columns: Sequence[str], lines: Sequence[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


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
    from bench.models import build

    model, x = build.blank_model(own.build_arguments())
    for path, flops in sorted(flop_counters.count(model, x).modules.items()):
        print(f"{giga(flops, 3):>10} G  {path or '(loop)'}")
