"""The command gate."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.gate_options import STATUS, add_outcome, outcome_status

HELP = "compare two record files"
DESCRIPTION = f"Compare the records of HEAD with those of BASE, case by case. {STATUS}"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("base", metavar="BASE.jsonl", type=Path)
    parser.add_argument("head", metavar="HEAD.jsonl", type=Path)
    parser.add_argument(
        "--force", action="store_true", help="compare records of different environments too"
    )
    add_outcome(parser)


def run(args: argparse.Namespace) -> int:
    """Compare; returns the exit status."""
    from bench.gate.compare import compare_files

    return outcome_status(
        args,
        lambda allowances: compare_files(
            args.base, args.head, allowances=allowances, force=args.force
        ),
    )
