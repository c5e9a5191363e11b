"""The command calibrate-gate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli.gate_options import add_sampling, sampling
from bench.records.errors import UsageError


def add(commands: Any) -> None:
    """Add the command."""
    calibrate = commands.add_parser(
        "calibrate-gate",
        help="measure the gate's own errors",
        description="How often the gate raises a false alarm, and which slowdowns it catches: in "
        "simulated suites, and in real runs on this machine, which take two and a half minutes "
        "each. Every run is stored as it comes; the same command resumes after an interruption. "
        "Writes gate_calibration.md and a power curve.",
    )
    calibrate.add_argument(
        "--simulated", type=int, default=300, metavar="N", help="A/A suites at each spread (300)"
    )
    calibrate.add_argument(
        "--power", type=int, default=200, metavar="N",
        help="simulated suites at each spread and slowdown (200)",
    )  # fmt: skip
    calibrate.add_argument(
        "--real", type=int, default=0, metavar="N",
        help="real A/A runs, and as many with each slowdown (0)",
    )  # fmt: skip
    calibrate.add_argument(
        "--slowdowns", type=float, nargs="*", default=[2.0, 5.0, 10.0], metavar="PERCENT",
        help="injected in real runs (2 5 10)",
    )  # fmt: skip
    add_sampling(calibrate)
    calibrate.add_argument(
        "--store", type=Path, help="folder of the runs (reports/out/gate/calibration)"
    )
    calibrate.add_argument(
        "--out", type=Path, default=Path("docs/results"), help="folder (docs/results)"
    )
    calibrate.set_defaults(run=_calibrate)


def _calibrate(args: argparse.Namespace) -> int:
    from bench.gate import calibrate
    from reports.gate_calibration import write

    if min(args.simulated, args.power, args.real) < 0:
        raise UsageError("numbers of runs cannot be negative")
    if any(percent <= 0 for percent in args.slowdowns):
        raise UsageError(f"a slowdown is a percentage above 0, got {args.slowdowns}")
    plan = calibrate.Plan(
        simulated=args.simulated,
        power=args.power,
        real=args.real,
        slowdowns=tuple(percent / 100 for percent in args.slowdowns),
        sampled=sampling(args),
        store=args.store or calibrate.STORE,
    )
    print(write(calibrate.run(plan), args.out))
    return 0
