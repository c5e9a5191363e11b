"""The command runtimes."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli import options
from bench.paper import main_cases

HELP = "speed and drift of torch.compile, CUDA graphs, 16 bits, TF32 and ONNX Runtime"
DESCRIPTION = (
    "Run each configuration in each runtime, in turn, on the same real motion; report the speed "
    "and how far the 3D joints move from where PyTorch puts them in float32, in millimetres. A "
    "runtime that is missing here, or cannot run a configuration, is stored with the reason. A "
    "configuration is also timed in turn with its baseline, so that the report can compare what "
    "pruning gains with what its FLOPs imply. Default: every host without pruning, with HoT and "
    "with H2OT."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from bench.scenarios.runtimes import RUNTIMES

    parser.add_argument(
        "--runtime", nargs="+", choices=tuple(RUNTIMES), default=list(RUNTIMES),
        help="of these only, and eager, with which they are compared (all)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", type=Path, metavar="FILE",
        help="that fit every configuration, whose MPJPE is reported too; default: drawn, with "
        "poses scaled to a person's size",
    )  # fmt: skip
    parser.add_argument("--rounds", type=options.positive, default=10, help="rounds (10)")
    options.add_shared(parser, "batch", "device", "threads", "motion", "store", "report", "out")
    options.add_own(parser, "one configuration instead of all hosts")


def run(args: argparse.Namespace) -> None:
    """Measure."""
    from bench.scenarios.runtimes.measure import Job, run

    motion = options.motion_source(args)
    own = options.own_case(args)
    cases = main_cases() if own is None else [own.baseline, own]
    job = Job(
        cases=options.in_setting(cases, options.setting(args, motion)), motion=motion,
        runtimes=args.runtime, rounds=args.rounds, weights=args.weights,
    )  # fmt: skip
    run(job, args.store)
    options.finish(args)
