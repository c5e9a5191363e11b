"""The command report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli.options import (
    OUT,
    STORE,
    write_report,
)


def add(commands: Any) -> None:
    """Add the command."""
    report = commands.add_parser(
        "report",
        help="write the report from the store",
        description="Write ablation.md, a CSV beside each table and the plots, from records alone.",
    )
    report.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    report.add_argument("--out", type=Path, default=OUT, help=f"folder of the report ({OUT})")
    report.add_argument(
        "others", nargs="*", type=Path, metavar="FILE", help="more record files to put beside it"
    )
    report.add_argument(
        "--force", action="store_true", help="also if they are of different environments"
    )
    report.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> None:
    write_report(args.store, args.out, others=args.others, force=args.force)
