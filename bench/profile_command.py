"""The command profile."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.case import Case
from bench.errors import UsageError
from bench.units import rounded

OwnCase = Callable[[argparse.Namespace], Case | None]
_FEWEST = 0.005  # share below which an operator is not listed


def add(commands: Any, add_own: Callable[..., None], own_case: OwnCase) -> None:
    """The profile command.

    Args:
        commands: the subcommands of the command line.
        add_own: adds the arguments of a configuration.
        own_case: reads them.
    """
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
    profile.set_defaults(
        run=lambda given: _profile(given, own_case), table=None, interrupted="nothing was stored"
    )


def _profile(given: argparse.Namespace, own_case: OwnCase) -> None:
    import torch
    from tabulate import tabulate

    import h2ot_core
    from bench import given as inputs
    from bench.data.windows import MotionSource
    from bench.profiling import shares

    for name in ("batch", "passes"):
        if getattr(given, name) < 1:
            raise UsageError(f"--{name} must be at least 1, got {getattr(given, name)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; use --device cpu")
    if given.threads:
        torch.set_num_threads(given.threads)
    given.host = given.host or "mixste"
    case = own_case(given)
    assert case is not None
    model = h2ot_core.build(**case.build_arguments()).eval()
    h2ot_core.load_published(model, inputs.weights(model))
    motion = MotionSource.from_file(given.motion) if given.motion else MotionSource.generated()
    taken = inputs.inputs(model, motion, given.batch)
    x = next(value for name, value in sorted(taken.items()) if name != "noise")
    model.check_finite = given.device == "cpu"  # as in every other measurement
    found = shares(model.to(given.device), x.to(given.device), passes=given.passes)
    print(
        f"{case.label}, {given.device}, batch {given.batch}, {torch.get_num_threads()} threads: "
        f"{rounded(1e3 * found.seconds, 1)} ms a pass under the profiler\n"
        f"matrix products {found.products:.1%}, attention {found.attention:.1%}, "
        f"everything else {found.rest:.1%}\n"
    )
    lines = [(kind, name, f"{share:.1%}") for kind, name, share in found.operators
             if share >= _FEWEST]  # fmt: skip
    print(tabulate(lines, headers=["kind", "operator", "share"], disable_numparse=True))
