"""What commands share: options, and from options to a case."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import h2ot_core
from bench.paper import TABLES
from bench.records.case import Case
from bench.records.errors import UsageError

STORE = Path("reports/out/records.jsonl")
OUT = Path("reports/out")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def above_zero(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add ``--table`` and the options of one configuration."""
    tables = ", ".join(map(str, TABLES))
    parser.add_argument(
        "--table", type=int, action="append", metavar="N", help=f"a table of the paper: {tables}"
    )
    add_own(parser, "one configuration instead of a table")


def add_own(parser: argparse.ArgumentParser, title: str) -> None:
    """Add the options of one configuration, under a heading of the help."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="a file or module that registers hosts or strategies of your own",
    )
    own = parser.add_argument_group(title)
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


OWN = ("host", "scheme", "prune", "recover", "frames", "r", "b", "pipeline")


def own_case(args: argparse.Namespace) -> Case | None:
    """The configuration given on the command line, resolved; None if there is none."""
    wanted = {name: getattr(args, name) for name in OWN if getattr(args, name) is not None}
    options = dict(option(text) for text in args.option)
    if not wanted and not options:
        return None
    if args.table:
        raise UsageError("give either --table or a configuration, not both")
    from bench.models.resolve import resolve

    return resolve({"host": "mixste", **wanted, **options})


def option(text: str) -> tuple[str, Any]:
    """Name and value of a NAME=VALUE.

    Raises:
        UsageError: if it is none, or the name has a flag of its own.
    """
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals:
        raise UsageError(f"--option takes NAME=VALUE, got {text!r}")
    if name in OWN:
        raise UsageError(f"{name} is no --option; give --{name} {value}")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def motion_source(args: argparse.Namespace) -> Any:
    """The motion of ``--motion``, or generated motion."""
    from bench.data.windows import MotionSource

    return MotionSource.from_file(args.motion) if args.motion else MotionSource.generated()


def finish(args: argparse.Namespace) -> None:
    """Write the report if it is asked for, and say where things are."""
    if args.report:
        write_report(args.store, args.out)
    else:
        print(f"records: {args.store}; report: python -m bench report --store {args.store}")


def write_report(store: Path, out: Path, **options: Any) -> None:
    """Write the report of a store, and say where it is."""
    from reports.build import build

    print(f"report: {build(store, out, **options)}")
