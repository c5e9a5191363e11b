"""The train command: data, model and recipe to weights in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import h2ot_core
from bench.data.sequences import DataSet
from bench.data.synthetic.detector import DetectorNoise
from bench.evaluation import default_protocol, evaluate
from bench.records.case import Case
from bench.records.session import require_device
from bench.train import elastic
from bench.train.batches import dataset_feed, split_validation
from bench.train.loop import BEST, FINAL, Outcome, Run, fit
from bench.train.positions import plant_positions
from bench.train.recipes import Recipe
from h2ot_core import weights

_BEFORE = ("step", "seconds", "curve", "recipe", "feed")  # kept of the first part's card
ON_TEST = "chosen on the test split, as the published code does"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A configuration, its training data, its recipe and its output folder.

    Attributes:
        case: the configuration; its device and input are not used.
        data: opens the data set.
        recipe: see :class:`Recipe`.
        run: see :class:`Run`.
        validation: share of the training clips to choose the epoch by; 0 for none.
        validate_on_test: choose the epoch on the test split instead, as published.
    """

    case: Case
    data: Callable[[], DataSet]
    recipe: Recipe
    run: Run
    validation: float = 0.05
    validate_on_test: bool = False


def train(job: Job, log: Callable[[str], None] = lambda line: None) -> Outcome:
    """Train a configuration; the same call resumes from the folder's saved state.

    Raises:
        UsageError: if the device or folder cannot be used.
        DataError: if the data cannot be used.
    """
    device = _device(job.run)
    data = job.data()
    torch.manual_seed(job.recipe.seed)
    model = h2ot_core.build(**job.case.build_arguments())
    if job.validate_on_test:
        takes, aside, how = list(data.sequences("train")), list(data.sequences("test")), ON_TEST
    else:
        takes, aside = split_validation(data.sequences("train"), job.validation)
        clips = len({take.clip for take in aside})
        how = f"chosen on {clips} clips of the training split, set aside" if aside else "the last"
    feed = dataset_feed(
        data,
        takes,
        frames=model.schedule.frames,
        channels=model.host.channels,
        recipe=job.recipe,
        device=device,
    )
    watch = _watch(replace(data, load=lambda split: aside)) if aside else None
    for note in data.notes:
        log(f"note: {note}")
    log(f"model: {job.case.label}, {sum(p.numel() for p in model.parameters())} parameters")
    log(f"data: {data.name}, {feed.description['windows']} windows of {len(takes)} takes")
    log(f"recipe: {job.recipe}")
    log(f"weights kept: {how}")
    outcome = fit(model, feed, job.recipe, job.run, validate=watch, card={"chosen": how})
    _report(outcome, job.run, log)
    return outcome


def train_supernet(
    motion: Path | None, recipe: Recipe, run: Run, log: Callable[[str], None] = lambda line: None
) -> Outcome:
    """Train the elastic supernet, then again together with TRA; the same call resumes.

    Args:
        motion: an open motion file beside generated motion; None for generated motion alone.
        recipe: the supernet's, perhaps with another budget.
        run: see :class:`Run`.
        log: called with lines for the user.
    """
    noise = DetectorNoise()
    recorded, made, aside, name = elastic.training_clips(motion)
    feed = elastic.SupernetFeed(
        recorded, made, noise, recipe.epochs * elastic.STEPS_PER_EPOCH, recipe.seed,
        steps=elastic.STEPS_PER_EPOCH, about={"data": name},
    )  # fmt: skip
    log(
        f"supernet: {dict(elastic.SIZES)}, {len(elastic.subnets())} configurations and shorter "
        "windows"
    )
    log(f"data: {name}: {len(recorded)} recorded and {len(made)} generated clips")
    card: dict[str, Any] = {
        "chosen": "the last",
        "validation_clips": [clip.name for clip in aside],
    }
    watch = elastic.Watch(aside, noise)
    model = elastic.make_supernet(recipe.seed)
    first = replace(run, folder=run.folder / "first")
    outcome = fit(model, feed, recipe, first, validate=watch, card=card)
    _report(outcome, first, log)
    if not outcome.done:
        return outcome
    card["before"] = {name: weights.read_card(first.folder / FINAL)[name] for name in _BEFORE}
    plant_positions(model, *elastic.windows_for_positions(aside, noise))
    second = replace(elastic.RECOVERING, seed=recipe.seed)
    steps = second.epochs * elastic.STEPS_PER_EPOCH
    tra = replace(feed, total=steps, ladder=(), recovering=True)
    outcome = fit(model, tra, second, run, validate=watch, card=card)
    _report(outcome, run, log)
    return outcome


def _report(outcome: Outcome, run: Run, log: Callable[[str], None]) -> None:
    for point in outcome.curve[-1:]:
        log(", ".join(f"{name} {value:g}" for name, value in point.items()))
    if outcome.done:
        best = f", the best of the curve {run.folder / BEST}" if outcome.curve else ""
        log(f"weights: {run.folder / FINAL}{best}")
    else:
        log(f"step {outcome.step} of {outcome.total}; the same command goes on")


def _watch(data: DataSet) -> Callable[[nn.Module], Mapping[str, float]]:
    """Measures a model on the validation set."""

    def measure(model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, h2ot_core.Hourglass)
        result = evaluate(model, data, default_protocol(model, data), progress=False)
        return {"mpjpe_mm": result.mean["mpjpe_mm"]}

    return measure


def _device(run: Run) -> torch.device:
    """The device of the data: that of the model."""
    if run.accelerator != "cuda":
        return torch.device("cpu")
    require_device("cuda")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
