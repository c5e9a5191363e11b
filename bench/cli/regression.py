"""The command regression."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli.gate_options import STATUS, add_outcome, add_sampling, refused, sampling, tell
from bench.gate.compare import Incomparable
from bench.records.errors import UsageError


def add(commands: Any) -> None:
    """Add the command."""
    regression = commands.add_parser(
        "regression",
        help="compare the working tree with a revision",
        description="Measure h2ot_core of a base revision and of the working tree under this "
        f"harness, and compare them: counts exactly, latency by intervals. {STATUS}",
    )
    regression.add_argument("--base", metavar="REV", required=True, help="such as origin/main")
    regression.add_argument(
        "--exact-only", action="store_true", help="no latency: nothing here needs a quiet machine"
    )
    regression.add_argument("--no-memory", action="store_true", help="no training memory")
    regression.add_argument("--no-exact", action="store_true", help="latency alone")
    add_sampling(regression)
    regression.add_argument("--out", type=Path, help="folder for the records (reports/out/gate)")
    regression.add_argument("--cache", type=Path, help="folder of kept counts (OUT/cache)")
    add_outcome(regression)
    regression.set_defaults(run=_regression)


def _regression(args: argparse.Namespace) -> int:
    from bench.gate import regression
    from bench.gate.allowances import read_allowances

    if args.exact_only and args.no_exact:
        raise UsageError("--exact-only and --no-exact leave nothing to measure; drop one")
    out = args.out or regression.OUT
    plan = regression.Plan(
        revision=args.base,
        exact=() if args.no_exact else None,
        memory=not args.no_memory,
        sampled=None if args.exact_only else sampling(args),
        out=out,
        cache=args.cache or out / "cache",
    )
    allowances = read_allowances(args.allowances)
    try:
        outcome = regression.run(plan, allowances=allowances)
    except Incomparable as error:
        return refused(error, args.markdown)
    return tell(outcome, args.markdown)
