"""The command gate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli.gate_options import STATUS, add_outcome, refused, tell
from bench.gate.compare import Incomparable


def add(commands: Any) -> None:
    """Add the command."""
    gate = commands.add_parser(
        "gate",
        help="compare two record files",
        description=f"Compare the records of HEAD with those of BASE, case by case. {STATUS}",
    )
    gate.add_argument("base", metavar="BASE.jsonl", type=Path)
    gate.add_argument("head", metavar="HEAD.jsonl", type=Path)
    gate.add_argument(
        "--force", action="store_true", help="compare records of different environments too"
    )
    add_outcome(gate)
    gate.set_defaults(run=_gate)


def _gate(args: argparse.Namespace) -> int:
    from bench.gate.allowances import read_allowances
    from bench.gate.compare import compare_files

    allowances = read_allowances(args.allowances)
    try:
        outcome = compare_files(args.base, args.head, allowances=allowances, force=args.force)
    except Incomparable as error:
        return refused(error, args.markdown)
    return tell(outcome, args.markdown)
