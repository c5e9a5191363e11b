"""The command profile."""

from __future__ import annotations

import argparse
from dataclasses import replace

from bench.cli import options
from bench.records.units import rounded

HELP = "where a forward pass spends its time"
DESCRIPTION = (
    "Profile forward passes of one configuration (default: MixSTE with its default scheme) on real "
    "motion, and report which share matrix products, attention and everything else take. Shares "
    "are of the profiler's own run; nothing is stored."
)
_MIN_SHARE = 0.005  # of an operator that is listed


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_shared(parser, "batch", "device", "threads")
    parser.add_argument("--passes", type=options.positive, default=5, help="forward passes (5)")
    options.add_shared(parser, "motion")
    options.add_own(parser, "the configuration (mixste)")
    parser.set_defaults(interrupted="nothing was stored")


def run(args: argparse.Namespace) -> None:
    """Profile and print."""
    import torch
    from tabulate import tabulate

    from bench.scenarios import profile

    motion = options.motion_source(args)
    case = replace(options.model_case(args), **options.setting(args, motion))
    found = profile.run(case, motion, passes=args.passes)
    print(
        f"{replace(case, batch=1).label}, {case.device}, batch {case.batch}, "
        f"{torch.get_num_threads()} threads: "
        f"{rounded(1e3 * found.seconds, 1)} ms a pass under the profiler\n"
        f"matrix products {found.products:.1%}, attention {found.attention:.1%}, "
        f"everything else {found.rest:.1%}\n"
    )
    lines = [(kind, name, f"{share:.1%}") for kind, name, share in found.operators
             if share >= _MIN_SHARE]  # fmt: skip
    print(tabulate(lines, headers=["kind", "operator", "share"], disable_numparse=True))
