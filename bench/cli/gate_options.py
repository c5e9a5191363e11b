"""What the gate's commands share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bench.gate.compare import Incomparable, Outcome
from bench.records.errors import UsageError

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
        "--budget", type=float, default=140.0, metavar="SECONDS", help="of the latency part (140)"
    )


def sampling(args: argparse.Namespace) -> Any:
    """The plan of the sampled part, as asked for."""
    from bench.gate import sampled

    if args.pairs < sampled.MIN_PAIRS:
        raise UsageError(f"--pairs must be at least {sampled.MIN_PAIRS}, got {args.pairs}")
    if args.budget <= 0:
        raise UsageError(f"--budget must be above 0 seconds, got {args.budget}")
    return sampled.Plan(pairs=args.pairs, budget_s=args.budget)


def add_outcome(parser: argparse.ArgumentParser) -> None:
    """Add where allowances are read and the summary is written."""
    parser.add_argument(
        "--allowances", metavar="FILE", type=Path, default=ALLOWANCES,
        help=f"intended increases ({ALLOWANCES})",
    )  # fmt: skip
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the summary to FILE")


def tell(outcome: Outcome, file: Path | None) -> int:
    """Print the summary, write it if asked to, and return the exit status."""
    from reports.gate_summary import markdown

    text = markdown(outcome)
    print(text)
    _write(file, text)
    return outcome.status


def refused(error: Incomparable, file: Path | None) -> int:
    """Say why nothing was compared; returns the exit status."""
    from reports.gate_summary import refusal

    print(f"error: {error}", file=sys.stderr)
    _write(file, refusal(str(error)))
    return 4


def _write(file: Path | None, text: str) -> None:
    if file is None:
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None
