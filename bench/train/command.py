"""The commands train and accuracy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.case import Case
from bench.errors import UsageError

RUNS = Path("runs")
PART_S = 8 * 60

OwnCase = Callable[[argparse.Namespace], Case | None]


def add_train(commands: Any, add_own: Callable[..., None], own_case: OwnCase) -> None:
    """The train command."""
    train = commands.add_parser(
        "train",
        help="train a model, or the elastic trunk",
        description="Train one configuration on a data set by a published recipe, or the trunk "
        "that serves every schedule. The state is saved every two minutes; the same command goes "
        "on from there and ends with the same weights. For several devices start it with torchrun "
        "and --devices.",
    )
    train.add_argument(
        "--data", metavar="SOURCE", help="h36m:FOLDER, sh:FILE, 3dhp:FOLDER, motion:FILE, generated"
    )
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
        run=lambda given: _train(given, own_case), table=None,
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


def _train(given: argparse.Namespace, own_case: OwnCase) -> None:
    from bench.data.sources import open_data
    from bench.train import trunk
    from bench.train.job import Job, train, train_trunk
    from bench.train.loop import Run
    from bench.train.recipes import recipe_for

    given.host = given.host or "mixste"
    case = own_case(given)
    assert case is not None
    recipe = trunk.RECIPE if given.trunk else recipe_for(case.host, given.recipe)
    changes = {name: getattr(given, name) for name in ("epochs", "batch", "rate", "seed")}
    recipe = replace(recipe, **{name: v for name, v in changes.items() if v is not None})
    for name in ("epochs", "batch", "rate"):
        if getattr(recipe, name) <= 0:
            raise UsageError(f"--{name} must be above 0, got {getattr(recipe, name)}")
    run = Run(
        folder=given.out or RUNS / ("trunk" if given.trunk else case.label),
        precision=given.precision,
        accelerator=given.device,
        devices=given.devices,
        nodes=given.nodes,
        accumulate=given.accumulate,
        stop_after_s=60 * given.stop_after,
    )
    if given.trunk:
        train_trunk(given.motion, recipe, replace(run, validate_every=500), say=print)
        return
    if given.data is None:
        raise UsageError("train needs --data, such as --data h36m:FOLDER or --data generated")
    train(
        Job(
            case=case,
            data=lambda: open_data(given.data, detector=given.detector),
            recipe=recipe,
            run=run,
            validation=given.validation,
            validate_on_test=given.validate_on_test,
        ),
        say=print,
    )


def add_accuracy(
    commands: Any, store: Path, out: Path, report: Callable[..., None], card: Callable[..., None]
) -> None:
    """The accuracy command."""
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
    accuracy.add_argument("--store", type=Path, default=store, help=f"record file ({store})")
    accuracy.add_argument("--report", action="store_true", help="write the report when done")
    accuracy.add_argument("--out", type=Path, default=out, help=f"folder of the report ({out})")
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
    accuracy.set_defaults(run=lambda given: _accuracy(given, report, card))


def _accuracy(
    given: argparse.Namespace, report: Callable[..., None], card: Callable[..., None]
) -> None:
    from bench.data.windows import MotionSource

    motion = MotionSource.from_file(given.motion) if given.motion else MotionSource.generated()
    if given.scale == "paper":
        _scale(given, motion)
    else:
        from bench import accuracy
        from bench.trunk import open_trunk

        quick = given.quick
        session = accuracy.Session(
            motion=motion,
            trunk=open_trunk(given.trunk),
            views=given.views or (80 if quick else None),
            tables=(2, 5) if quick else accuracy.TABLES,
            rates=not quick,
            figures=not quick,
            rounds=0 if quick else 5,
            threads=given.threads,
        )
        accuracy.take(session, given.store)
        if given.card:
            card(given.store, session.trunk.header(), given.card)
    if given.report:
        report(given)
    else:
        print(f"records: {given.store}; report: python -m bench report --store {given.store}")


def _scale(given: argparse.Namespace, motion: Any) -> None:
    import torch

    from bench.train.scale import Budget, take_scale

    if given.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "no CUDA device here; --scale paper trains full-size models, which takes days on a "
            "CPU. Give --device cpu to do it all the same, with fewer --steps"
        )
    done = take_scale(
        motion,
        Budget(
            steps=given.steps, batch=given.batch, rate=given.rate, seeds=given.seeds,
            precision=given.precision,
        ),
        hosts=given.hosts,
        folder=given.runs,
        store_path=given.store,
        device=given.device,
        stop_after_s=60 * given.part,
        say=print,
    )  # fmt: skip
    if not done:
        print("not done; the same command goes on")
