"""The command calibrate-gate."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli.gate_options import add_sampling, sampling
from bench.cli.options import above_zero, at_least

HELP = "measure the gate's own errors"
DESCRIPTION = (
    "How often the gate raises a false alarm, and which slowdowns it catches: in simulated suites, "
    "and in real runs on this machine, which take two and a half minutes each. Every run is stored "
    "as it comes; the same command resumes after an interruption. Writes gate_calibration.md and a "
    "power curve."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    for name, default, text in (
        ("--simulated", 300, "A/A suites at each spread (300)"),
        ("--power", 200, "simulated suites at each spread and slowdown (200)"),
        ("--real", 0, "real A/A runs, and as many with each slowdown (0)"),
    ):
        parser.add_argument(name, type=at_least(0), default=default, metavar="N", help=text)
    parser.add_argument(
        "--slowdowns", type=above_zero, nargs="*", default=[2.0, 5.0, 10.0], metavar="PERCENT",
        help="injected in real runs (2 5 10)",
    )  # fmt: skip
    add_sampling(parser)
    parser.add_argument(
        "--store", type=Path, help="folder of the runs (reports/out/gate/calibration)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results"), help="folder (docs/results)"
    )


def run(args: argparse.Namespace) -> None:
    """Run the missing trials and write what they show."""
    from bench.gate import calibrate
    from reports.gate_calibration import write

    plan = calibrate.Plan(
        simulated=args.simulated,
        power=args.power,
        real=args.real,
        slowdowns=tuple(percent / 100 for percent in args.slowdowns),
        sampled=sampling(args),
        store=args.store or calibrate.STORE,
    )
    print(write(calibrate.run(plan), args.out))
