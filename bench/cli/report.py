"""The command report."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli import options

HELP = "write the report from the store"
DESCRIPTION = "Write ablation.md, a CSV beside each table and the plots, from records alone."


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_shared(parser, "store", "out")
    parser.add_argument(
        "others", nargs="*", type=Path, metavar="FILE", help="more record files to put beside it"
    )
    parser.add_argument(
        "--force", action="store_true", help="also if they are of different environments"
    )


def run(args: argparse.Namespace) -> None:
    """Write the report."""
    options.write_report(args.store, args.out, others=args.others, force=args.force)
