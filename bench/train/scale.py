"""Full-size hosts trained from scratch on open motion, under a budget stated beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import h2ot_core
from bench.data.windows import MotionSource
from bench.metrics.accuracy import lifted, views
from bench.metrics.base import Reading
from bench.models.build import measured_model
from bench.models.resolve import resolve
from bench.records import session
from bench.records.case import Case
from bench.records.record import Record
from bench.train.batches import ViewFeed
from bench.train.loop import FINAL, Run, fit
from bench.train.recipes import Recipe, recipe_for
from bench.train.viewpoints import Viewpoints
from h2ot_core.metrics import mpjpe

METRIC = "scratch_mpjpe_mm"
SCHEMES = ("none", "hot", "h2ot")
HOSTS = ("mixste", "motionbert")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The budget of every row, fixed before any training.

    Attributes:
        steps: of the optimiser.
        batch: windows per step.
        rate: learning rate at the start; it falls to a hundredth along a cosine.
        seeds: trainings per row.
        precision: see :class:`bench.train.loop.Run`.
    """

    steps: int = 1500
    batch: int = 16
    rate: float = 4e-4
    seeds: int = 1
    precision: str = "bf16-mixed"

    def describe(self) -> str:
        """One line for a heading."""
        return (
            f"{self.steps} steps of {self.batch} windows ({self.steps * self.batch} clips), "
            f"AdamW at {self.rate:g} falling along a cosine, {self.precision}, {self.seeds} "
            f"seed{'s' if self.seeds > 1 else ''}"
        )


def scale_cases(hosts: Sequence[str], device: str, motion: str) -> list[Case]:
    """Baseline, HoT and H2OT of each host, at full size."""
    return [
        resolve({"host": host, "scheme": scheme}, device=device, motion=motion)
        for host in hosts
        for scheme in SCHEMES
    ]


def run(
    motion: MotionSource,
    budget: Budget,
    *,
    hosts: Sequence[str],
    folder: Path,
    store_path: Path,
    device: str,
    stop_after_s: float = 0.0,
    log: Callable[[str], None] = lambda line: None,
) -> bool:
    """Train and measure each row that the store lacks; call again until it returns True.

    Args:
        motion: train split to learn from, test split to measure on.
        budget: of every row.
        hosts: to train.
        folder: for the states, one folder per row and seed.
        store_path: of the record file.
        device: "cpu" or "cuda".
        stop_after_s: stop with everything saved after so many seconds; 0 for no limit.
        log: called with lines for the user.

    Returns:
        Whether all rows are done.
    """
    begun = time.monotonic()
    log(f"budget per row: {budget.describe()}")
    source = Viewpoints(motion.clips("train"), motion.noise)
    group = f"{budget.steps}x{budget.batch}@{budget.rate:g}/{budget.precision}"
    with session.opened(store_path) as (store, stamp):
        for seed in range(budget.seeds):
            for case in scale_cases(hosts, device, motion.name):
                if (case, METRIC, group, seed) in store:
                    continue
                left = stop_after_s - (time.monotonic() - begun) if stop_after_s else 0.0
                if stop_after_s and left < 20:
                    return False
                log(f"{case.label}, seed {seed}")
                place = folder / group.replace("/", "-") / f"{case.label}-{seed}"
                if not _train(case, budget, seed, source, motion, place, left):
                    return False
                reading = _measure(case, motion, place / FINAL)
                store.append(
                    [
                        Record(
                            case=case,
                            metric=reading.metric,
                            unit=reading.unit,
                            values=reading.values,
                            group=group,
                            part=seed,
                            protocol={**reading.protocol, "budget": budget.describe()},
                            **stamp,
                        )
                    ]
                )
                log(f"  {sum(reading.values) / len(reading.values):.1f} mm")
    return True


def _train(
    case: Case,
    budget: Budget,
    seed: int,
    source: Viewpoints,
    motion: MotionSource,
    place: Path,
    left: float,
) -> bool:
    recipe: Recipe = replace(
        recipe_for(case.host),
        name="scale",
        rate=budget.rate,
        schedule="cosine",
        warmup=min(100, budget.steps // 10),
        epochs=10,
        batch=budget.batch,
        flip="none",  # drawn with the viewpoint
        clip=1.0,
        seed=seed,
    )
    torch.manual_seed(seed)
    model = h2ot_core.build(**case.build_arguments())
    feed = ViewFeed(
        source,
        frames=case.frames,
        channels=model.host.channels,
        batch=budget.batch,
        steps=max(1, budget.steps // recipe.epochs),
        seed=seed,
        description={"data": motion.name},
    )
    run = Run(
        folder=place,
        precision=budget.precision,
        accelerator=case.device,
        save_every_s=60,
        stop_after_s=left,
    )
    return fit(model, feed, recipe, run).done


def _measure(case: Case, motion: MotionSource, weights: Path) -> Reading:
    """Errors on all views of the test split, flip included."""
    seen = views(motion, case.frames)
    poses, _ = lifted(measured_model(case, weights=weights), seen)
    poses[..., 0, :] = 0
    errors = mpjpe(poses, seen.y, reduce=False).mean(dim=-1) * 1000
    protocol = {
        **seen.about,
        "clips": list(seen.clips),
        "views": len(seen.clips),
        "flip": True,
        "root": "zeroed",
        "split": "test",
    }
    return Reading(metric=METRIC, unit="mm", values=tuple(errors.tolist()), protocol=protocol)
