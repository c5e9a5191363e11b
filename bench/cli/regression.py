"""The command regression."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.gate_options import STATUS, add_outcome, add_sampling, outcome_status, sampling
from bench.records.errors import UsageError

HELP = "compare the working tree with a revision"
DESCRIPTION = (
    "Measure h2ot_core of a base revision and of the working tree under this harness, and compare "
    f"them: counts exactly, latency by intervals. {STATUS}"
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--base", metavar="REV", required=True, help="such as origin/main")
    parser.add_argument(
        "--exact-only", action="store_true", help="no latency: nothing here needs a quiet machine"
    )
    parser.add_argument("--no-memory", action="store_true", help="no training memory")
    parser.add_argument("--no-exact", action="store_true", help="latency alone")
    add_sampling(parser)
    parser.add_argument("--out", type=Path, help="folder for the records (reports/out/gate)")
    parser.add_argument("--cache", type=Path, help="folder of kept counts (OUT/cache)")
    add_outcome(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and compare; returns the exit status."""
    from bench.gate import regression

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
    return outcome_status(args, lambda allowances: regression.run(plan, allowances=allowances))
