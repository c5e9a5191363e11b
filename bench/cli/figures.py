"""The command figures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli.options import (
    OUT,
    STORE,
    finish,
    motion_source,
    positive,
)


def add(commands: Any) -> None:
    """Add the command."""
    figures = commands.add_parser(
        "figures",
        help="measure what the paper's figures show",
        description="Take the frames that each pruner keeps over one clip (Figure 7) and the poses "
        "of three sequences with those kept (Figure 10), into the same store as the tables. A few "
        "minutes; the same command resumes after an interruption.",
    )
    figures.add_argument(
        "--motion", metavar="FILE", type=Path, help="as for run; default: generated"
    )
    figures.add_argument("--threads", type=positive, help="CPU threads, as for run")
    figures.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    figures.add_argument("--report", action="store_true", help="write the report when done")
    figures.add_argument("--out", type=Path, default=OUT, help=f"folder of the report ({OUT})")
    figures.set_defaults(run=_figures)


def _figures(args: argparse.Namespace) -> None:
    from bench.models.context import Context
    from bench.scenarios.figures import take_figures

    motion = motion_source(args)
    take_figures(args.store, Context(motion), threads=args.threads or 0)
    finish(args)
