"""The command line: count, run, report."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import h2ot_core
from bench.case import Case
from bench.data.motion import MotionError
from bench.errors import UsageError
from bench.paper import DESCRIPTIVE, TABLES, PaperRow, remarks, rows
from bench.units import giga, millions

STORE = Path("reports/out/records.jsonl")
OUT = Path("reports/out")

_EPILOG = """examples:
  python -m bench count --table 4 --csv -          parameters and FLOPs of Table 4
  python -m bench run --table 2 --report           measure Table 2 and write the report
  python -m bench run --quick --report             baseline, HoT and H2OT only, a few minutes
  python -m bench run --prune tpa --recover tri --r 121 81 --b 2 5 --report
  python -m bench report                           the report from what is stored
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status (0 done, 2 bad input, 130 interrupted)."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except (
        UsageError,
        MotionError,
        h2ot_core.ConfigError,
        h2ot_core.InputError,
        h2ot_core.CheckpointError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\ninterrupted; what was measured is stored, the same command goes on from there",
            file=sys.stderr,
        )
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure pruning and recovering of pose tokens in video pose transformers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    count = commands.add_parser(
        "count",
        help="parameters and FLOPs, without timing",
        description="Parameters and FLOPs of the rows of a table, or of one configuration, "
        "counted without running a model on data. The first row of each pair of strategies is "
        "confirmed by torch's, fvcore's and thop's counters.",
    )
    _add_configuration(count)
    count.add_argument("--csv", metavar="FILE", help="write CSV to FILE, - for standard output")
    count.add_argument("--modules", action="store_true", help="add flops_full by module")
    count.set_defaults(run=_count)

    run = commands.add_parser(
        "run",
        help="measure tables or one configuration",
        description="Measure every row of the tables given (default: all), or one configuration "
        "and its baseline. Latency is taken in interleaved rounds. Every record is on disk as "
        "soon as it is measured; the same command resumes after an interruption.",
    )
    _add_configuration(run)
    run.add_argument("--batch", type=_positive, default=1, help="clips per forward pass (1)")
    run.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    run.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    run.add_argument("--threads", type=_positive, help="CPU threads (PyTorch's choice)")
    run.add_argument("--rounds", type=_positive, default=10, help="samples per timed case (10)")
    run.add_argument(
        "--motion",
        metavar="FILE",
        type=Path,
        help="motion to take the input from, in the open format; default: generated",
    )
    run.add_argument(
        "--quick",
        action="store_true",
        help="time only baseline, HoT and H2OT; all exact columns are kept",
    )
    run.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    run.add_argument("--report", action="store_true", help="write the report when done")
    run.add_argument("--out", type=Path, default=OUT, help=f"folder of the report ({OUT})")
    run.set_defaults(run=_run)

    report = commands.add_parser(
        "report",
        help="write the report from the store",
        description="Write ablation.md, a CSV beside each table and the plots, from records alone.",
    )
    report.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    report.add_argument("--out", type=Path, default=OUT, help=f"folder of the report ({OUT})")
    report.set_defaults(run=_report)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    tables = ", ".join(map(str, TABLES))
    parser.add_argument(
        "--table", type=int, action="append", metavar="N", help=f"a table of the paper: {tables}"
    )
    own = parser.add_argument_group("one configuration instead of a table")
    own.add_argument("--host", help="such as mixste")
    own.add_argument("--scheme", help=f"one of {', '.join(h2ot_core.SCHEMES)}")
    own.add_argument("--prune", help=f"one of {', '.join(h2ot_core.PRUNERS)}, none")
    own.add_argument("--recover", help=f"one of {', '.join(h2ot_core.RECOVERERS)}, none")
    own.add_argument("--frames", type=int, help="F, frames per clip")
    own.add_argument("--r", type=int, nargs="*", help="frames kept by each stage")
    own.add_argument("--b", type=int, nargs="*", help="block before which each stage acts")
    own.add_argument("--pipeline", help="seq2seq or seq2frame")
    own.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further option of h2ot_core.build, such as width=256 or tpc_k=5",
    )


_OWN = ("host", "scheme", "prune", "recover", "frames", "r", "b", "pipeline")


def _own_case(given: argparse.Namespace) -> Case | None:
    """The configuration given on the command line, resolved; None if there is none."""
    wanted = {name: getattr(given, name) for name in _OWN if getattr(given, name) is not None}
    options = dict(_option(text) for text in given.option)
    if not wanted and not options:
        return None
    if given.table:
        raise UsageError("give either --table or a configuration, not both")
    from bench.counters import blank_model

    wanted.setdefault("host", "mixste")
    config = blank_model({**wanted, **options})[0].config
    return Case(
        host=config.host,
        frames=config.frames,
        prune=config.prune,
        recover=config.recover,
        r=config.r,
        b=config.b,
        pipeline=config.pipeline,
        options=tuple(sorted(options.items())),
    )


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals:
        raise UsageError(f"--option takes NAME=VALUE, got {text!r}")
    if name in _OWN:
        raise UsageError(f"{name} is no --option; give --{name} {value}")
    try:
        return name, int(value)
    except ValueError:
        return name, value


def _count(given: argparse.Namespace) -> None:
    own = _own_case(given)
    if own is not None:
        lines = [{"row": "1", "case": own.label, **_counted(own, set())}]
    else:
        numbers = list(dict.fromkeys(given.table or TABLES))
        lines = []
        checked: set[Any] = set()
        for row in [row for number in numbers for row in rows(number)]:
            lines.append(_count_row(row, checked, with_table=len(numbers) > 1))
    columns = list(dict.fromkeys(name for line in lines for name in line))
    # The note comes last, whatever columns other tables have.
    columns.sort(key=lambda name: name in _COUNTED)
    if given.csv == "-":
        _write_csv(sys.stdout, columns, lines)
    elif given.csv:
        try:
            with open(given.csv, "w", newline="", encoding="utf-8") as file:
                _write_csv(file, columns, lines)
        except OSError as error:
            raise UsageError(f"cannot write {given.csv}: {error.strerror}") from None
    else:
        from tabulate import tabulate

        table = [[line.get(name, "") for name in columns] for line in lines]
        print(tabulate(table, headers=columns, disable_numparse=True))
    if given.modules:
        _print_modules(own)


_COUNTED = ("param_m", "flops_paper_g", "flops_full_g", "paper_param_m", "paper_flops_g", "note")


def _write_csv(file: TextIO, columns: Sequence[str], lines: Sequence[dict[str, str]]) -> None:
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)


def _count_row(row: PaperRow, checked: set[Any], *, with_table: bool) -> dict[str, str]:
    line = {"table": str(row.table)} if with_table else {}
    line["row"] = str(row.number)
    line.update({name: text for name, text in row.cells.items() if name in DESCRIPTIVE})
    line.update(_counted(row.case(), checked))
    line["paper_param_m"], line["paper_flops_g"] = row.cells["param_m"], row.cells["flops_g"]
    notes = [m.reason for m in remarks(row) if m.column in ("param_m", "flops_g", "r", "b")]
    line["note"] = "; ".join(dict.fromkeys(notes))
    return line


def _counted(case: Case, checked: set[Any]) -> dict[str, str]:
    """Both counts of a case; cross-checked once per pair of strategies."""
    from bench import counters

    model, x = counters.blank_model(case.build_arguments())
    count = counters.count(model, x)
    kind = (case.host, case.prune, case.recover, case.pipeline, case.options)
    if kind not in checked:
        counters.cross_check(model, x, count)
        checked.add(kind)
    return {
        "param_m": millions(sum(p.numel() for p in model.parameters())),
        "flops_paper_g": giga(count.flops_paper),
        "flops_full_g": giga(count.flops_full, 3),
    }


def _print_modules(own: Case | None) -> None:
    if own is None:
        raise UsageError("--modules goes with one configuration; give --host or --scheme")
    from bench import counters

    model, x = counters.blank_model(own.build_arguments())
    for path, flops in sorted(counters.count(model, x).modules.items()):
        print(f"{giga(flops, 3):>10} G  {path or '(loop)'}")


def _run(given: argparse.Namespace) -> None:
    from bench import sweep
    from bench.data.windows import MotionSource
    from bench.metrics.base import Context

    motion = MotionSource.from_file(given.motion) if given.motion else MotionSource.generated()
    own = _own_case(given)
    if own is not None:
        cases = [own.baseline, own]
    else:
        printed = [row for number in given.table or TABLES for row in rows(number)]
        cases = [rows(4)[0].case(), *(row.case() for row in printed)]
    where = {
        "batch": given.batch,
        "device": given.device,
        "dtype": given.dtype,
        "threads": given.threads or 0,
        "motion": motion.name,
    }
    cases = list(dict.fromkeys(replace(case, **where) for case in cases))
    timed = cases
    if given.quick and own is None:
        chosen = (rows(4)[0], rows(4)[1], rows(4)[3])
        timed = [replace(row.case(), **where) for row in chosen]
    plan = sweep.Plan(exact=tuple(cases), timed=tuple(timed), rounds=given.rounds)
    sweep.run(plan, given.store, Context(motion))
    if given.report:
        _report(given)
    else:
        print(f"records: {given.store}; report: python -m bench report --store {given.store}")


def _report(given: argparse.Namespace) -> None:
    from reports.build import build

    print(f"report: {build(given.store, given.out)}")
