"""The command accuracy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli.options import (
    OUT,
    STORE,
    finish,
    motion_source,
)
from bench.cli.train import RUNS
from bench.records.errors import UsageError


def add(commands: Any) -> None:
    """Add the command."""
    accuracy = commands.add_parser(
        "accuracy",
        help="what every row of the tables does to the error of one trained trunk",
        description="Lift the test split of open motion (or generated motion) with one trained "
        "trunk under every configuration of Tables 2, 4 and 5, Table 9's frame rates and Figure 7. "
        "Every record is on disk as soon as it is measured; the same command resumes. With --scale "
        "paper, train full-size hosts from scratch instead.",
    )
    accuracy.add_argument("--motion", metavar="FILE", type=Path, help="default: generated")
    accuracy.add_argument("--trunk", metavar="FILE", type=Path, help="default: the shipped one")
    accuracy.add_argument(
        "--quick",
        action="store_true",
        help="80 views, Tables 2 and 5 only, no timing, frame rates or figure",
    )
    accuracy.add_argument("--views", type=int, help="most views of the test split (all)")
    accuracy.add_argument("--threads", type=int, default=0, help="CPU threads (PyTorch's choice)")
    accuracy.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    accuracy.add_argument("--report", action="store_true", help="write the report when done")
    accuracy.add_argument("--out", type=Path, default=OUT, help=f"folder of the report ({OUT})")
    accuracy.add_argument(
        "--card", type=Path, metavar="FILE", help="write the trunk's model card when done"
    )
    accuracy.add_argument(
        "--scale", default="trunk", choices=("trunk", "paper"),
        help="paper: full-size MixSTE and MotionBERT, none, HoT and H2OT, from scratch",
    )  # fmt: skip
    scale = accuracy.add_argument_group("with --scale paper")
    scale.add_argument("--hosts", nargs="+", default=["mixste", "motionbert"])
    scale.add_argument("--steps", type=int, default=1500, help="of the optimiser, per row (1500)")
    scale.add_argument("--batch", type=int, default=16, help="windows per step (16)")
    scale.add_argument("--rate", type=float, default=4e-4, help="learning rate (4e-4)")
    scale.add_argument("--seeds", type=int, default=1, help="trainings per row (1)")
    scale.add_argument("--precision", default="bf16-mixed", choices=("32-true", "bf16-mixed"))
    scale.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    scale.add_argument(
        "--runs", type=Path, default=RUNS / "scale", help=f"folder of states ({RUNS / 'scale'})"
    )
    scale.add_argument(
        "--part", type=float, default=8.0, metavar="MINUTES",
        help="leave after so long, to be called again (8); 0 for when done",
    )  # fmt: skip
    accuracy.set_defaults(run=_accuracy)


def _accuracy(args: argparse.Namespace) -> None:
    motion = motion_source(args)
    if args.scale == "paper":
        _scale(args, motion)
    else:
        from bench.models.supernet import open_supernet
        from bench.scenarios import accuracy

        quick = args.quick
        session = accuracy.Session(
            motion=motion,
            trunk=open_supernet(args.trunk),
            views=args.views or (80 if quick else None),
            tables=(2, 5) if quick else accuracy.TABLES,
            rates=not quick,
            figures=not quick,
            rounds=0 if quick else 5,
            threads=args.threads,
        )
        accuracy.take(session, args.store)
        if args.card:
            from reports.card import write_card

            print(f"model card: {write_card(args.store, session.trunk.header(), args.card)}")
    finish(args)


def _scale(args: argparse.Namespace, motion: Any) -> None:
    import torch

    from bench.train.scale import Budget, take_scale

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "no CUDA device here; --scale paper trains full-size models, which takes days on a "
            "CPU. Give --device cpu to do it all the same, with fewer --steps"
        )
    done = take_scale(
        motion,
        Budget(
            steps=args.steps, batch=args.batch, rate=args.rate, seeds=args.seeds,
            precision=args.precision,
        ),
        hosts=args.hosts,
        folder=args.runs,
        store_path=args.store,
        device=args.device,
        stop_after_s=60 * args.part,
        say=print,
    )  # fmt: skip
    if not done:
        print("not done; the same command goes on")
