"""The command accuracy."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli import options
from bench.cli.options import above_zero, positive
from bench.cli.train import RUNS

HELP = "what every row of the tables does to the error of one trained trunk"
DESCRIPTION = (
    "Lift the test split of open motion (or generated motion) with one trained trunk under every "
    "configuration of Tables 2, 4 and 5, Table 9's frame rates and Figure 7. Every record is on "
    "disk as soon as it is measured; the same command resumes. With --scale paper, train full-size "
    "hosts from scratch instead."
)
_NO_CUDA = (
    "--scale paper trains full-size models, which takes days on a CPU. Give --device cpu to do it "
    "all the same, with fewer --steps"
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_shared(parser, "motion")
    parser.add_argument("--trunk", metavar="FILE", type=Path, help="default: the shipped one")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="80 views, Tables 2 and 5 only, no timing, frame rates or figure",
    )
    parser.add_argument("--views", type=positive, help="most views of the test split (all)")
    options.add_shared(parser, "threads", "store", "report", "out")
    parser.add_argument(
        "--card", type=Path, metavar="FILE", help="write the trunk's model card when done"
    )
    parser.add_argument(
        "--scale", default="trunk", choices=("trunk", "paper"),
        help="paper: full-size MixSTE and MotionBERT, none, HoT and H2OT, from scratch",
    )  # fmt: skip
    scale = parser.add_argument_group("with --scale paper")
    scale.add_argument("--hosts", nargs="+", default=["mixste", "motionbert"])
    scale.add_argument(
        "--steps", type=positive, default=1500, help="of the optimiser, per row (1500)"
    )
    options.add_shared(scale, batch={"default": 16, "help": "windows per step (16)"})
    scale.add_argument("--rate", type=above_zero, default=4e-4, help="learning rate (4e-4)")
    scale.add_argument("--seeds", type=positive, default=1, help="trainings per row (1)")
    scale.add_argument("--precision", default="bf16-mixed", choices=("32-true", "bf16-mixed"))
    options.add_shared(scale, device={"default": "cuda"})
    scale.add_argument(
        "--runs", type=Path, default=RUNS / "scale", help=f"folder of states ({RUNS / 'scale'})"
    )
    scale.add_argument(
        "--part", type=float, default=8.0, metavar="MINUTES",
        help="leave after so long, to be called again (8); 0 for when done",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Measure the trunk, or train from scratch."""
    (_scale if args.scale == "paper" else _trunk)(args)
    options.finish(args)


def _trunk(args: argparse.Namespace) -> None:
    from bench.models.supernet import open_supernet
    from bench.scenarios import accuracy

    plan = accuracy.Plan(
        motion=options.motion_source(args),
        trunk=open_supernet(args.trunk),
        views=args.views or (80 if args.quick else None),
        tables=(2, 5) if args.quick else accuracy.TABLES,
        rates=not args.quick,
        figures=not args.quick,
        rounds=0 if args.quick else 5,
        threads=args.threads,
    )
    accuracy.run(plan, args.store)
    if args.card:
        from reports.card import write_card

        print(f"model card: {write_card(args.store, plan.trunk.header(), args.card)}")


def _scale(args: argparse.Namespace) -> None:
    from bench.records.session import require_device
    from bench.train import scale

    require_device(args.device, _NO_CUDA)
    budget = scale.Budget(
        steps=args.steps, batch=args.batch, rate=args.rate, seeds=args.seeds,
        precision=args.precision,
    )  # fmt: skip
    done = scale.run(
        options.motion_source(args),
        budget,
        hosts=args.hosts,
        folder=args.runs,
        store_path=args.store,
        device=args.device,
        stop_after_s=60 * args.part,
        log=print,
    )
    if not done:
        print("not done; the same command goes on")
