"""The command peer."""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

from bench.cli import options
from bench.cli.options import positive
from bench.records.errors import UsageError
from bench.records.units import rounded

HELP = "compare with a checkout of a published repository"
DESCRIPTION = (
    "Load a model of a published repository from your checkout, in a process of its own, and the "
    "same model of this package in another; give both the same weights and the same real motion, "
    "check that the outputs agree, and time the two in turn. Known are NationalGAILab/HoT, "
    "JinluZhang1126/MixSTE, Walter0807/MotionBERT, TaatiTeam/MotionAGFormer and "
    "Vegetebird/MHFormer; what their code imports comes with the extra peer. The checkout's code "
    "is run. Exit status 1 if outputs differ."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--peer", required=True, metavar="PATH", type=Path, help="the checkout's folder"
    )
    parser.add_argument("--host", help="one that the repository has (its first)")
    parser.add_argument("--scheme", help="none, hot or tpc, as the repository has them (its first)")
    parser.add_argument("--frames", type=int, help="F, where the repository lets one choose")
    parser.add_argument("--r", type=int, nargs="+", help="frames kept")
    parser.add_argument("--b", type=int, nargs="+", help="block before which frames are dropped")
    options.add_shared(parser, option={"help": "such as width=256"})
    parser.add_argument("--rounds", type=positive, default=10, help="rounds (10)")
    options.add_shared(
        parser, batch={"default": None, "help": "clips per pass (1; 4 with --training)"}
    )
    options.add_shared(parser, "device", dtype={"choices": ("float32", "bfloat16")})
    parser.add_argument(
        "--runtime", default="eager",
        help="of this package's side, as for runtimes; the published code stays eager (eager)",
    )  # fmt: skip
    parser.add_argument(
        "--training", action="store_true",
        help="training steps instead of forward passes, and their estimated memory",
    )  # fmt: skip
    options.add_shared(parser, "threads", "motion")
    parser.add_argument("--store", type=Path, help="keep the records in this file")
    parser.set_defaults(interrupted="nothing of this comparison is stored")


def run(args: argparse.Namespace) -> int:
    """Compare and print; the exit status is 1 if the outputs differ."""
    from bench.records.session import progress, require_device
    from bench.scenarios.peer.compare import Job, compare
    from bench.scenarios.runtimes import RUNTIMES

    if args.runtime not in RUNTIMES:
        raise UsageError(f"no runtime {args.runtime!r}; there are {', '.join(RUNTIMES)}")
    if args.training and (args.runtime != "eager" or args.dtype != "float32"):
        raise UsageError("--training is eager and float32; leave out --runtime and --dtype")
    if args.runtime != "eager" and args.dtype != "float32":
        raise UsageError("--runtime starts from float32; leave out --dtype")
    require_device(args.device)
    job = Job(
        folder=args.peer, motion=options.motion_source(args), host=args.host, scheme=args.scheme,
        sizes=options.model_arguments(args, ("frames", "r", "b")), rounds=args.rounds,
        batch=args.batch or (4 if args.training else 1), dtype=args.dtype, device=args.device,
        threads=args.threads, runtime=args.runtime, training=args.training, store=args.store,
    )  # fmt: skip
    with progress("in turn", args.rounds) as tick:
        result = compare(job, tick=lambda turn: tick(f"turn {turn}"))
    print(_shown(result, job))
    return 0 if result.difference.agrees else 1


def _shown(result: Any, job: Any) -> str:
    """The result as text."""
    from tabulate import tabulate

    from bench.scenarios.peer.compare import LIMIT

    case, apart = result.case, result.difference
    kind = "float32" if apart.double is None else "float64"
    outputs = (
        f"outputs: largest difference {apart.judged:.1e} of the largest output in {kind}, "
        f"limit {LIMIT:.0e}"
    )
    if apart.double is not None:
        outputs += (
            f"; in float32, where rounding settles near ties, {apart.largest:.1e}, "
            f"for 99% of them within {apart.quantile:.1e} (the published code from itself, the "
            f"last bit of its input changed: {apart.nudged:.1e}); with uniform noise as input, in "
            f"which no two frames are nearly equal, for 99% within {apart.uniform:.1e}"
        )
    if apart.runtime is not None:
        outputs += (
            f"\nour output as {job.runtime} is apart from that in eager float32 by "
            f"{apart.runtime[0]:.1e} of the largest at most, {apart.runtime[1]:.1e} in the mean"
        )
    head = (
        f"{result.peer} ({result.revision}) and ours: {case.label}, {case.device}, {case.dtype}, "
        f"batch {case.batch}, {'training step' if job.training else 'forward pass'}"
        + (f", ours as {job.runtime}" if job.runtime != "eager" else "")
    )
    if not apart.agrees:
        return f"{head}\n{outputs}\nthe outputs differ, so nothing was timed"
    rows = [
        [side, rounded(1e3 * median(seconds), 2), ", ".join(f"{k} {v}" for k, v in found.items())]
        for side, seconds, found in (
            (result.peer, result.peer_s, result.versions["peer"]),
            ("ours", result.ours_s, result.versions["ours"]),
        )
    ]
    table = tabulate(rows, headers=["side", "median (ms)", "versions"], disable_numparse=True)
    ratio = result.ratio
    interval = (
        f"{ratio.low:.3f} to {ratio.high:.3f}, {ratio.level:.0%}"
        if ratio.low is not None
        else "no interval from fewer than 6 turns"
    )
    text = (
        f"{head}\n{outputs}\n\n{table}\n\npeer / ours: {ratio.value:.3f} ({interval}; "
        f"{len(result.peer_s)} turns)"
    )
    for kind, theirs, ours in (
        ("estimated", result.peer_bytes, result.ours_bytes),
        ("allocated", result.peer_allocated, result.ours_allocated),
    ):
        if theirs is not None and ours is not None:
            text += (
                f"\n{kind} peak memory of a step: {rounded(theirs / 2**30, 2)} and "
                f"{rounded(ours / 2**30, 2)} GiB, ours is {ours / theirs:.1%}"
            )
    return text
