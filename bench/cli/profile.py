"""The command profile."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli.options import (
    add_own,
    motion_source,
    own_case,
)
from bench.records.errors import UsageError
from bench.records.units import rounded

_FEWEST = 0.005  # share below which an operator is not listed


def add(commands: Any) -> None:
    """Add the command."""
    profile = commands.add_parser(
        "profile",
        help="where a forward pass spends its time",
        description="Profile forward passes of one configuration (default: MixSTE with its default "
        "scheme) on real motion, and tell which share matrix products, attention and everything "
        "else take. Shares are of the profiler's own run; nothing is stored.",
    )
    profile.add_argument("--batch", type=int, default=1, help="clips per forward pass (1)")
    profile.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    profile.add_argument("--threads", type=int, default=0, help="CPU threads (PyTorch's choice)")
    profile.add_argument("--passes", type=int, default=5, help="forward passes (5)")
    profile.add_argument(
        "--motion", metavar="FILE", type=Path, help="as for run; default: generated"
    )
    add_own(profile, "the configuration (mixste)")
    profile.set_defaults(run=_profile, table=None, interrupted="nothing was stored")


def _profile(args: argparse.Namespace) -> None:
    import torch
    from tabulate import tabulate

    from bench.models import inputs
    from bench.models.build import measured_model
    from bench.scenarios.profile import shares

    for name in ("batch", "passes"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; use --device cpu")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.host = args.host or "mixste"
    case = own_case(args)
    assert case is not None
    model = measured_model(case, weights="rule")
    motion = motion_source(args)
    taken = inputs.inputs(model, motion, args.batch)
    x = next(value for name, value in sorted(taken.items()) if name != "noise")
    found = shares(model, x.to(args.device), passes=args.passes)
    print(
        f"{case.label}, {args.device}, batch {args.batch}, {torch.get_num_threads()} threads: "
        f"{rounded(1e3 * found.seconds, 1)} ms a pass under the profiler\n"
        f"matrix products {found.products:.1%}, attention {found.attention:.1%}, "
        f"everything else {found.rest:.1%}\n"
    )
    lines = [(kind, name, f"{share:.1%}") for kind, name, share in found.operators
             if share >= _FEWEST]  # fmt: skip
    print(tabulate(lines, headers=["kind", "operator", "share"], disable_numparse=True))
