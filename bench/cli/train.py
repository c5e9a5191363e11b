"""The command train."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cli.options import (
    add_own,
    own_case,
)
from bench.data.readers import source_forms
from bench.records.errors import UsageError

RUNS = Path("runs")
PART_S = 8 * 60


def add(commands: Any) -> None:
    """Add the command."""
    train = commands.add_parser(
        "train",
        help="train a model, or the elastic trunk",
        description="Train one configuration on a data set by a published recipe, or the trunk "
        "that serves every schedule. The state is saved every two minutes; the same command goes "
        "on from there and ends with the same weights. For several devices start it with torchrun "
        "and --devices.",
    )
    train.add_argument("--data", metavar="SOURCE", help=source_forms())
    train.add_argument("--detector", metavar="NAME", help="as for evaluate")
    train.add_argument(
        "--trunk", action="store_true", help="train the trunk, on generated motion and --motion"
    )
    train.add_argument("--motion", type=Path, metavar="FILE", help="open motion for the trunk")
    train.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for the state and the weights (runs/LABEL)"
    )
    train.add_argument(
        "--recipe", default="code", choices=("code", "paper"),
        help="the published code's, or Table 1's (code)",
    )  # fmt: skip
    for name, kind, text in (
        ("--epochs", int, "passes over the data"),
        ("--batch", int, "windows per step"),
        ("--rate", float, "learning rate at the start"),
        ("--seed", int, "of everything drawn"),
    ):
        train.add_argument(name, type=kind, help=f"{text}, instead of the recipe's")
    train.add_argument(
        "--validation", type=float, default=0.05, metavar="SHARE",
        help="of the training clips, set aside to choose the epoch by (0.05)",
    )  # fmt: skip
    train.add_argument(
        "--validate-on-test", action="store_true",
        help="choose the epoch on the test split, as the published code does; the weights say so",
    )  # fmt: skip
    _add_machine(train)
    add_own(train, "the model (mixste)")
    train.set_defaults(
        run=_train, table=None,
        interrupted="the same command goes on from the last saved state",
    )  # fmt: skip


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--devices", type=int, default=1, help="processes per machine (1)")
    parser.add_argument("--nodes", type=int, default=1, help="machines (1)")
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    parser.add_argument(
        "--accumulate", type=int, default=1, help="parts into which a step's windows are cut (1)"
    )
    parser.add_argument(
        "--stop-after", type=float, default=0.0, metavar="MINUTES",
        help="leave after so long with the state saved",
    )  # fmt: skip


def _train(args: argparse.Namespace) -> None:
    from bench.data.sources import open_data
    from bench.train import elastic
    from bench.train.job import Job, train, train_trunk
    from bench.train.loop import Run
    from bench.train.recipes import recipe_for

    args.host = args.host or "mixste"
    case = own_case(args)
    assert case is not None
    recipe = elastic.RECIPE if args.trunk else recipe_for(case.host, args.recipe)
    changes = {name: getattr(args, name) for name in ("epochs", "batch", "rate", "seed")}
    recipe = replace(recipe, **{name: v for name, v in changes.items() if v is not None})
    for name in ("epochs", "batch", "rate"):
        if getattr(recipe, name) <= 0:
            raise UsageError(f"--{name} must be above 0, got {getattr(recipe, name)}")
    run = Run(
        folder=args.out or RUNS / ("trunk" if args.trunk else case.label),
        precision=args.precision,
        accelerator=args.device,
        devices=args.devices,
        nodes=args.nodes,
        accumulate=args.accumulate,
        stop_after_s=60 * args.stop_after,
    )
    if args.trunk:
        train_trunk(args.motion, recipe, replace(run, validate_every=500), say=print)
        return
    if args.data is None:
        raise UsageError("train needs --data, such as --data h36m:FOLDER or --data generated")
    train(
        Job(
            case=case,
            data=lambda: open_data(args.data, detector=args.detector),
            recipe=recipe,
            run=run,
            validation=args.validation,
            validate_on_test=args.validate_on_test,
        ),
        say=print,
    )
