"""The command energy."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cli.options import (
    STORE,
    add_configuration,
    motion_source,
    own_case,
    positive,
)
from bench.paper import cases


def add(commands: Any) -> None:
    """Add the command."""
    energy = commands.add_parser(
        "energy",
        help="joules per output frame, idling subtracted",
        description="Energy of some configurations from the counters of the GPU or the CPU, half a "
        "minute each; needs the extra energy. The record says why where there is none.",
    )
    add_configuration(energy)
    energy.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    energy.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    energy.add_argument("--batch", type=positive, default=1, help="clips per forward pass (1)")
    energy.add_argument("--threads", type=positive, help="CPU threads, as for run")
    energy.add_argument("--motion", metavar="FILE", type=Path, help="as for run")
    energy.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    energy.set_defaults(run=_energy)


def _energy(args: argparse.Namespace) -> int:
    from bench.models.context import Context
    from bench.scenarios.energy import take_energy

    motion = motion_source(args)
    own = own_case(args)
    found = [own.baseline, own] if own is not None else cases(args.table or [3])
    where: dict[str, Any] = {
        "batch": args.batch, "device": args.device, "dtype": args.dtype,
        "threads": args.threads or 0, "motion": motion.name,
    }  # fmt: skip
    wanted = [replace(case, **where) for case in dict.fromkeys(found)]
    missing = take_energy(wanted, args.store, Context(motion))
    for reason in missing:
        print(f"without a value, {reason}", file=sys.stderr)
    print(f"records: {args.store}; report: python -m bench report --store {args.store}")
    return 1 if missing else 0
