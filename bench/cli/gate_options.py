"""What the gate's commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.options import above_zero, write_text
from bench.records.errors import UsageError

if TYPE_CHECKING:  # with PyTorch, which the help does not wait for
    from bench.gate import sampled
    from bench.gate.compare import Outcome
    from bench.gate.verdicts import Allowance

ALLOWANCES = Path("gate.toml")
STATUS = (
    "Exit status: 0 unchanged or improved, 1 regressed, 2 wrong usage, 3 inconclusive, "
    "4 incomparable or no baseline."
)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add how long latency is sampled."""
    from bench.gate.simulate import PAIRS

    parser.add_argument(
        "--pairs", type=int, default=PAIRS, help=f"processes per side, at least 4 ({PAIRS})"
    )
    parser.add_argument(
        "--budget", type=above_zero, default=140.0, metavar="SECONDS",
        help="of the latency part (140)",
    )  # fmt: skip


def sampling(args: argparse.Namespace) -> sampled.Plan:
    """The plan of the sampled part."""
    from bench.gate import sampled

    if args.pairs < sampled.MIN_PAIRS:
        raise UsageError(f"--pairs must be at least {sampled.MIN_PAIRS}, got {args.pairs}")
    return sampled.Plan(pairs=args.pairs, budget_s=args.budget)


def add_outcome(parser: argparse.ArgumentParser) -> None:
    """Add where allowances are read and the summary is written."""
    parser.add_argument(
        "--allowances", metavar="FILE", type=Path, default=ALLOWANCES,
        help=f"intended increases ({ALLOWANCES})",
    )  # fmt: skip
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the summary to FILE")


def outcome_status(
    args: argparse.Namespace, compare: Callable[[Sequence[Allowance]], Outcome]
) -> int:
    """Compare, print the summary, write it if asked to, and return the exit status."""
    from bench.gate.allowances import read_allowances
    from bench.gate.compare import Incomparable
    from reports.gate_summary import markdown, refusal

    try:
        outcome = compare(read_allowances(args.allowances))
    except Incomparable as error:
        print(f"error: {error}", file=sys.stderr)
        text, status = refusal(str(error)), 4
    else:
        text, status = markdown(outcome), outcome.status
        print(text)
    if args.markdown is not None:
        write_text(args.markdown, text)
    return status
