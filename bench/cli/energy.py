"""The command energy."""

from __future__ import annotations

import argparse
import sys

from bench.cli import options
from bench.paper import cases

HELP = "joules per output frame, idling subtracted"
DESCRIPTION = (
    "Energy of some configurations from the counters of the GPU or the CPU, half a minute each; "
    "needs the extra energy. The record says why where there is none."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_configuration(parser)
    options.add_shared(parser, device={"default": "cuda"})
    options.add_shared(parser, "dtype", "batch", "threads", "motion", "store")


def run(args: argparse.Namespace) -> int:
    """Measure; the exit status is 1 if a case has no value."""
    from bench.models.context import Context
    from bench.scenarios import energy

    motion = options.motion_source(args)
    own = options.own_case(args)
    found = [own.baseline, own] if own is not None else cases(args.table or [3])
    plan = options.in_setting(found, options.setting(args, motion))
    reasons = energy.run(plan, args.store, Context(motion))
    for reason in reasons:
        print(f"without a value, {reason}", file=sys.stderr)
    options.finish(args)
    return 1 if reasons else 0
