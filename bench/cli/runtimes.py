"""The command runtimes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cli.options import (
    OUT,
    STORE,
    add_own,
    finish,
    motion_source,
    own_case,
)
from bench.paper import main_cases
from bench.records.errors import UsageError

# The names of RUNTIMES, which takes torch to import.
NAMES = (
    "eager", "packed", "compile", "cuda_graph", "bf16", "packed_bf16", "compile_bf16",
    "cuda_graph_bf16", "fp16", "cuda_graph_fp16", "compile_cuda_graph_fp16", "tf32", "onnx",
)  # fmt: skip


def add(commands: Any) -> None:
    """Add the command."""
    runtimes = commands.add_parser(
        "runtimes",
        help="speed and drift of torch.compile, CUDA graphs, 16 bits, TF32 and ONNX Runtime",
        description="Run each configuration in each runtime, in turn, on the same real motion; "
        "tell the speed beside how far the 3D joints move from where PyTorch puts them in "
        "float32, in millimetres. What cannot be had here, or not for a configuration, is stored "
        "with the reason. A configuration is also timed in turn with its baseline, so that the "
        "report can hold what pruning gains against what its FLOPs imply. Default: every host "
        "without pruning, with HoT and with H2OT.",
    )
    runtimes.add_argument(
        "--runtime", nargs="+", choices=NAMES, default=list(NAMES),
        help="of these only, and eager, with which they are compared (all)",
    )  # fmt: skip
    runtimes.add_argument(
        "--weights", type=Path, metavar="FILE",
        help="that fit every configuration, whose MPJPE is told too; default: drawn, with poses "
        "scaled to a person's size",
    )  # fmt: skip
    runtimes.add_argument("--rounds", type=int, default=10, help="turns (10)")
    runtimes.add_argument("--batch", type=int, default=1, help="clips per forward pass (1)")
    runtimes.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    runtimes.add_argument("--threads", type=int, default=0, help="CPU threads (PyTorch's choice)")
    runtimes.add_argument(
        "--motion", metavar="FILE", type=Path, help="as for run; default: generated"
    )
    runtimes.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    runtimes.add_argument("--report", action="store_true", help="write the report when done")
    runtimes.add_argument("--out", type=Path, default=OUT, help=f"folder of the report ({OUT})")
    add_own(runtimes, "one configuration instead of all hosts")
    runtimes.set_defaults(run=_runtimes, table=None)


def _runtimes(args: argparse.Namespace) -> None:
    from bench.scenarios.runtimes.measure import Job, run

    for name in ("rounds", "batch"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} must be at least 1, got {getattr(args, name)}")
    motion = motion_source(args)
    own = own_case(args)
    cases = tuple(
        replace(
            case, batch=args.batch, device=args.device, threads=args.threads, motion=motion.name
        )
        for case in (main_cases() if own is None else dict.fromkeys([own.baseline, own]))
    )
    job = Job(
        cases=cases, motion=motion, runtimes=args.runtime, rounds=args.rounds,
        weights=args.weights,
    )  # fmt: skip
    run(job, args.store)
    finish(args)
