"""The command train."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from bench.cli import options
from bench.cli.options import above_zero, positive
from bench.data.readers import source_forms
from bench.records.errors import UsageError

HELP = "train a model, or the elastic trunk"
DESCRIPTION = (
    "Train one configuration on a data set by a published recipe, or the trunk that serves every "
    "schedule. The state is saved every two minutes; the same command goes on from there and ends "
    "with the same weights. For several devices start it with torchrun and --devices."
)
RUNS = Path("runs")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--data", metavar="SOURCE", help=source_forms())
    parser.add_argument("--detector", metavar="NAME", help="as for evaluate")
    parser.add_argument(
        "--trunk", "--supernet", action="store_true",
        help="train the trunk, on generated motion and --motion",
    )  # fmt: skip
    options.add_shared(parser, motion={"help": "open motion for the trunk"})
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for the state and the weights (runs/LABEL)"
    )
    parser.add_argument(
        "--recipe", default="code", metavar="NAME",
        help="of the host: code (of its repository) or paper (Table 1) (code)",
    )  # fmt: skip
    for name, kind, text in (
        ("--epochs", positive, "passes over the data"),
        ("--batch", positive, "windows per step"),
        ("--rate", above_zero, "learning rate at the start"),
        ("--seed", int, "of everything drawn"),
    ):
        parser.add_argument(name, type=kind, help=f"{text}, instead of the recipe's")
    parser.add_argument(
        "--validation", type=float, default=0.05, metavar="SHARE",
        help="of the training clips, set aside to choose the epoch by (0.05)",
    )  # fmt: skip
    parser.add_argument(
        "--validate-on-test", action="store_true",
        help="choose the epoch on the test split, as the published code does; the weights say so",
    )  # fmt: skip
    _add_machine(parser)
    options.add_own(parser, "the model (mixste)")
    parser.set_defaults(interrupted="the same command goes on from the last saved state")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    options.add_shared(parser, "device")
    parser.add_argument("--devices", type=positive, default=1, help="processes per machine (1)")
    parser.add_argument("--nodes", type=positive, default=1, help="machines (1)")
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    parser.add_argument(
        "--accumulate",
        type=positive,
        default=1,
        help="parts into which a step's windows are cut (1)",
    )
    parser.add_argument(
        "--stop-after", type=float, default=0.0, metavar="MINUTES",
        help="leave after so long with the state saved",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Train."""
    from bench.data.sources import open_data
    from bench.train import elastic
    from bench.train.job import Job, train, train_supernet
    from bench.train.loop import Run
    from bench.train.recipes import recipe_for

    case = options.model_case(args)
    recipe = elastic.RECIPE if args.trunk else recipe_for(case.host, args.recipe)
    changes = {name: getattr(args, name) for name in ("epochs", "batch", "rate", "seed")}
    recipe = replace(recipe, **{name: v for name, v in changes.items() if v is not None})
    place = Run(
        folder=args.out or RUNS / ("trunk" if args.trunk else case.label),
        precision=args.precision,
        accelerator=args.device,
        devices=args.devices,
        nodes=args.nodes,
        accumulate=args.accumulate,
        stop_after_s=60 * args.stop_after,
    )
    if args.trunk:
        train_supernet(args.motion, recipe, replace(place, validate_every=500), log=print)
        return
    if args.data is None:
        raise UsageError("train needs --data, such as --data h36m:FOLDER or --data generated")
    job = Job(
        case=case,
        data=lambda: open_data(args.data, detector=args.detector),
        recipe=recipe,
        run=place,
        validation=args.validation,
        validate_on_test=args.validate_on_test,
    )
    train(job, log=print)
