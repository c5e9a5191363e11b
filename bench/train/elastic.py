"""The elastic supernet (the trunk): its sizes, its training data and its two trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.data.readers.motion import Clip, load_motion
from bench.data.synthetic.detector import DetectorNoise
from bench.data.synthetic.generator import generate
from bench.paper import rows
from bench.train.batches import Batch, seed_of
from bench.train.recipes import Recipe
from bench.train.viewpoints import Viewpoints
from h2ot_core.elastic import Elastic

SIZES: Mapping[str, int] = {"frames": 243, "width": 64, "heads": 4, "depth": 8}
LADDER = ((0.45, 3, 48), (0.6, 27, 12))
"""Share of all steps, F, windows: up to that share, each step has so many windows of F frames.

Neighbouring frames are nearly equal, so poses are learned fastest from many short windows.
"""

FRAMES_PER_STEP = 486
"""Frames of all windows of a step after that: 2 windows of 243, 6 of 81, 18 of 27."""

RECIPE = Recipe(
    name="trunk",
    loss="mixste",
    optimizer="muon",
    rate=2e-3,
    weight_decay=0.01,
    schedule="cosine",
    warmup=30,
    epochs=50,
    batch=1,  # windows per step follow from their length
    flip="none",  # drawn with the viewpoint
    clip=1.0,
)
STEPS_PER_EPOCH = 100

RECOVERING = replace(RECIPE, name="trunk-recovering", rate=1e-3, warmup=20, epochs=20)
"""A second training of all weights, from planted positions on (see ``bench.train.positions``), in
which TRA is trained too; without them TRA does not learn which frame each token stands for."""

_GENERATED_SEEDS = range(100, 106)
_SHORT = 27
_VALIDATION_SHARE = 0.06
_VALIDATION_WINDOWS = 24
_WATCHED: Mapping[str, Mapping[str, Any]] = {
    "mpjpe_mm": {"scheme": "none"},
    "mpjpe_hot_mm": {"scheme": "hot"},
    "mpjpe_h2ot_mm": {"scheme": "h2ot"},
}


def subnets() -> list[dict[str, Any]]:
    """Arguments of every configuration in the paper's Tables 2, 4 and 5, each once."""
    found: dict[str, dict[str, Any]] = {}
    for number in (2, 4, 5):
        for row in rows(number):
            case = row.case()
            if case is not None and case.host == "mixste" and case.pipeline == "seq2seq":
                arguments = case.build_arguments()
                del arguments["host"]
                found.setdefault(case.label, arguments)
    return list(found.values())


@dataclass(eq=False)
class SupernetFeed:
    """Batches of one subnet each: short windows first, then every configuration of the tables.

    First come the windows of :data:`LADDER`, without pruning. Then each step draws: the full
    baseline (1/6), one of the tables' shorter windows (1/6), another of the tables'
    configurations (1/2), or windows of 27 frames (1/6). A quarter of all windows is generated
    motion; in a tenth of the steps all are, at 25, 16.7 or 12.5 Hz. With `recovering`, every other
    step draws a configuration with TRA instead.

    Attributes:
        recorded: clips of recorded motion; may be empty.
        generated: clips of generated motion.
        noise: model of detector error.
        total: steps of the whole training.
        recovering: in every other step draw a configuration with TRA, and twice as many windows.
        seed: of everything drawn.
        about: the clips, for the model card.
    """

    recorded: Sequence[Clip]
    generated: Sequence[Clip]
    noise: DetectorNoise
    total: int
    seed: int = 0
    ladder: Sequence[tuple[float, int, int]] = LADDER
    recovering: bool = False
    steps: int = STEPS_PER_EPOCH
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> Mapping[str, Any]:
        """The training data, for the model card."""
        return {
            **self.about,
            "detector": self.noise.tag,
            "ladder": list(self.ladder),
            "total": self.total,
            **({"recovering": True} if self.recovering else {}),
        }

    @cached_property
    def _sources(self) -> dict[int, Viewpoints]:
        """Generated motion by downsampling step; 0 is recorded motion."""
        found = {
            d: Viewpoints([_slower(clip, d) for clip in self.generated], self.noise)
            for d in (1, 2, 3, 4)
        }
        found[0] = Viewpoints(self.recorded, self.noise) if self.recorded else found[1]
        return found

    @cached_property
    def _subnets(self) -> dict[str, list[dict[str, Any]]]:
        everything = subnets()
        plain = [m for m in everything if m["prune"] == "none"]
        longest = SIZES["frames"]
        return {
            "full": [m for m in plain if m["frames"] == longest],
            "shorter": [m for m in plain if m["frames"] < longest],
            "pruned": [m for m in everything if m["prune"] != "none"],
            "recovered": [m for m in everything if m.get("recover") == "tra"],
            "short": [{"scheme": "none", "frames": _SHORT}],
        }

    def batch(self, step: int, part: int, parts: int) -> Batch:
        """As in :class:`bench.train.batches.Feed`."""
        shared = np.random.Generator(np.random.PCG64(seed_of(self.seed, "member", step)))
        subnet, count = self._subnet(shared, step)
        slow = int(shared.integers(2, 5)) if shared.random() < 0.1 else 0
        frames = subnet.get("frames", SIZES["frames"])
        count = max(1, count // parts)
        rng = np.random.Generator(np.random.PCG64(seed_of(self.seed, "windows", step, part)))
        made = count if slow else int(rng.binomial(count, 0.25))
        drawn = [(slow or 1, made), (0, count - made)]
        pairs = [self._sources[d].draw(rng, frames, n) for d, n in drawn if n]
        x, y = (np.concatenate(values) for values in zip(*pairs, strict=True))
        return Batch(torch.from_numpy(x), torch.from_numpy(y), subnet)

    def _subnet(self, rng: np.random.Generator, step: int) -> tuple[dict[str, Any], int]:
        """The configuration of a step, and its number of windows."""
        for share, frames, count in self.ladder:
            if step < share * self.total:
                return {"scheme": "none", "frames": frames}, count
        if self.recovering and step % 2:
            choices = self._subnets["recovered"]
            subnet = choices[int(rng.integers(len(choices)))]
            return subnet, 2 * FRAMES_PER_STEP // SIZES["frames"]
        kinds = ("full", "shorter", "pruned", "pruned", "pruned", "short")
        choices = self._subnets[kinds[int(rng.integers(len(kinds)))]]
        subnet = choices[int(rng.integers(len(choices)))]
        return subnet, FRAMES_PER_STEP // subnet.get("frames", SIZES["frames"])


def _slower(clip: Clip, step: int) -> Clip:
    return replace(clip, positions=clip.positions[::step]) if step > 1 else clip


def training_clips(motion: Path | None) -> tuple[list[Clip], list[Clip], list[Clip], str]:
    """Clips for the supernet: recorded and generated for training, those for validation, a name."""
    made = [clip for seed in _GENERATED_SEEDS for clip in generate(seed=seed, split="train")]
    made = [replace(clip, name=f"{clip.name}/{i}") for i, clip in enumerate(made)]
    if motion is None:
        aside = made[:: len(made) // 8]
        return [], [clip for clip in made if clip not in aside], aside, "generated"
    clips = [clip for clip in load_motion(motion) if clip.split == "train"]
    order = sorted(clips, key=lambda clip: seed_of("validation", clip.name))
    long = [clip for clip in order if len(clip.positions) >= SIZES["frames"]]
    aside = long[: max(1, round(_VALIDATION_SHARE * len(clips)))]
    left = [clip for clip in clips if clip not in aside]
    return left, made, aside, f"open motion {motion.stem} and generated"


class Watch:
    """Measures the supernet on fixed windows of validation clips."""

    def __init__(self, clips: Sequence[Clip], noise: DetectorNoise) -> None:
        rng = np.random.Generator(np.random.PCG64(seed_of("watch")))
        view = Viewpoints(clips, noise)
        x, y = view.draw(rng, SIZES["frames"], _VALIDATION_WINDOWS)
        self._x, self._y = torch.from_numpy(x), torch.from_numpy(y)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Mean joint error in millimetres of a few subnets."""
        device = next(model.parameters()).device
        measured = {}
        for name, subnet in _WATCHED.items():
            errors = [
                (model(x.to(device), **subnet).float().cpu() - y).norm(dim=-1)
                for x, y in zip(self._x.split(8), self._y.split(8), strict=True)
            ]
            measured[name] = float(torch.cat(errors).mean() * 1000)
        return measured


def windows_for_positions(
    clips: Sequence[Clip], noise: DetectorNoise
) -> tuple[torch.Tensor, torch.Tensor]:
    """A few short windows (B, F', 17, 2) and (B, F', 17, 3), always the same of the same clips."""
    rng = np.random.Generator(np.random.PCG64(seed_of("positions")))
    x, y = Viewpoints(clips, noise).draw(rng, _SHORT, 8)
    return torch.from_numpy(x), torch.from_numpy(y)


def make_supernet(seed: int = 0) -> Elastic:
    """A supernet with initial weights."""
    torch.manual_seed(seed)
    supernet = Elastic("mixste", **SIZES)
    head: Any = supernet.host.head_layers
    for weight in head[-1].parameters():
        nn.init.zeros_(weight)  # every joint starts at the root, not a metre away
    return supernet
