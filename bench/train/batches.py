"""Training batches: the batch of any step, from the seed and the step alone."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bench.data.sequences import DataError, DataSet, MotionSequence
from bench.train.recipes import Recipe
from bench.train.viewpoints import Viewpoints
from h2ot_core.windows import window_frames, window_starts


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows of one step.

    Attributes:
        x: (B, F, J, C_in) float32, network input.
        y: (B, F, J, 3) float32, target in the unit of training.
        subnet: further arguments of the model's forward (a supernet's configuration); empty for a
            model.
    """

    x: Tensor
    y: Tensor
    subnet: Mapping[str, Any] = field(default_factory=dict)


class Feed(Protocol):
    """A source of batches; equal steps give equal batches, so a resumed run repeats nothing."""

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        ...

    @property
    def description(self) -> Mapping[str, Any]:
        """The training data, for the model card."""
        ...

    def batch(self, step: int, part: int, parts: int) -> Batch:
        """The windows of a step that belong to share `part` of `parts` equal ones."""
        ...


def ahead(
    feed: Feed, first: int, last: int, part: int, parts: int, depth: int = 3
) -> Generator[Batch, None, None]:
    """Batches of steps first to last - 1, made by a thread while the device is busy."""
    with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
        steps = iter(range(first, last))
        waiting = [pool.submit(feed.batch, s, part, parts) for s in islice(steps, depth)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                for s in islice(steps, 1):
                    waiting.append(pool.submit(feed.batch, s, part, parts))
        finally:
            for future in waiting:
                future.cancel()


class TakeFeed:
    """Windows of takes, every one once per epoch in an order drawn anew (protocols, section 1).

    All takes are stacked once; a batch is one gather. With a device given they lie there, so that
    an accelerator waits for nothing.

    Args:
        takes: what to learn from.
        frames: F, length of a window. Where the recipe's stride keeps whole windows only, a shorter
            take still gives one, held at both ends.
        channels: of the network input; a missing confidence is 1.
        left, right: joints that a mirror exchanges.
        recipe: batch size, flips, stride and seed.
        device: where the stacked takes lie.
    """

    def __init__(
        self,
        takes: Sequence[MotionSequence],
        *,
        frames: int,
        channels: int,
        left: Sequence[int],
        right: Sequence[int],
        recipe: Recipe,
        device: torch.device | str = "cpu",
        description: Mapping[str, Any] | None = None,
    ) -> None:
        if not takes:
            raise DataError("no sequences to train on; check the split and the validation share")
        self._recipe = recipe
        self._frames = frames
        starts, lows, highs = [], [], []
        offset = 0
        for take in takes:
            count = len(take)
            if recipe.centred:
                first = window_starts(count, frames, "centre").tolist()
            else:
                first = window_starts(count, frames, stride=recipe.stride).tolist()
            starts += [offset + s for s in first]
            lows += [offset] * len(first)
            highs += [offset + count - 1] * len(first)
            offset += count
        self._starts, self._lows, self._highs = (
            torch.tensor(v, device=device) for v in (starts, lows, highs)
        )
        x = np.concatenate([take.input for take in takes])
        ones = np.ones((*x.shape[:2], max(0, channels - x.shape[-1])), dtype=np.float32)
        x = np.concatenate([x[..., :channels], ones], axis=-1)
        self._x = torch.from_numpy(x).to(device)
        self._y = torch.from_numpy(np.concatenate([take.target for take in takes])).to(device)
        order = torch.arange(x.shape[1])
        order[[*left, *right]] = torch.tensor([*right, *left], dtype=order.dtype)
        self._order = order.to(device)
        self._count = len(starts) * (2 if recipe.flip == "duplicate" else 1)
        self.steps = max(1, self._count // recipe.batch)
        self.description = {**(description or {}), "takes": len(takes), "windows": len(starts)}

    def batch(self, step: int, part: int, parts: int) -> Batch:
        """As in :class:`Feed`."""
        recipe = self._recipe
        epoch, place = divmod(step, self.steps)
        chance = torch.Generator().manual_seed(seed_of(recipe.seed, "order", epoch))
        order = torch.randperm(self._count, generator=chance)
        size = min(recipe.batch, self._count)
        mine = order[place * size : (place + 1) * size][part::parts]
        if recipe.flip == "random":
            coins = torch.Generator().manual_seed(seed_of(recipe.seed, "flip", step))
            flip = (torch.rand(size, generator=coins) < 0.5)[part::parts]
        else:
            flip = (
                mine % 2 == 1
                if recipe.flip == "duplicate"
                else torch.zeros(len(mine), dtype=torch.bool)
            )
        window = mine // 2 if recipe.flip == "duplicate" else mine
        return self._cut(window.to(self._x.device), flip.to(self._x.device))

    def _cut(self, window: Tensor, flip: Tensor) -> Batch:
        index = window_frames(
            self._starts[window],
            self._frames,
            last=self._highs[window, None],
            first=self._lows[window, None],
        )
        return Batch(self._flipped(self._x[index], flip), self._flipped(self._y[index], flip))

    def _flipped(self, values: Tensor, flip: Tensor) -> Tensor:
        mirrored = values[:, :, self._order].clone()
        mirrored[..., 0].neg_()
        return torch.where(flip[:, None, None, None], mirrored, values)


class ViewFeed:
    """Windows of motion from freshly drawn viewpoints, for one configuration.

    Args:
        views: draws the windows.
        frames: F, length of a window.
        channels: of the network input; a missing confidence is 1.
        batch: windows per step.
        steps: per epoch.
        seed: of everything drawn.
        description: what the motion is.
    """

    def __init__(
        self,
        views: Viewpoints,
        *,
        frames: int,
        channels: int,
        batch: int,
        steps: int,
        seed: int,
        description: Mapping[str, Any],
    ) -> None:
        self._views, self._frames, self._channels = views, frames, channels
        self._size, self._seed = batch, seed
        self.steps = steps
        self.description = {**description, "detector": views.noise.tag, "windows": batch}

    def batch(self, step: int, part: int, parts: int) -> Batch:
        """As in :class:`Feed`."""
        rng = np.random.Generator(np.random.PCG64(seed_of(self._seed, "view", step, part)))
        x, y = self._views.draw(rng, self._frames, self._size // parts)
        ones = np.ones((*x.shape[:3], self._channels - 2), dtype=np.float32)
        return Batch(torch.from_numpy(np.concatenate([x, ones], axis=-1)), torch.from_numpy(y))


def seed_of(*key: object) -> int:
    """A seed derived from a key."""
    return (
        int.from_bytes(hashlib.sha256("/".join(map(str, key)).encode()).digest()[:8], "little") >> 1
    )


def split_validation(
    takes: Sequence[MotionSequence], share: float
) -> tuple[list[MotionSequence], list[MotionSequence]]:
    """Set whole clips aside for validation, so that no motion is on both sides.

    A clip belongs to the part that its name's digest says, whatever else the data holds.

    Args:
        takes: to divide.
        share: of the clips, 0 to below 1.

    Returns:
        Takes to learn from, and takes to validate on; at least one clip each if share > 0.
    """
    if not 0 <= share < 1:
        raise DataError(f"the validation share is at least 0 and below 1, got {share}")
    clips = sorted({take.clip for take in takes}, key=lambda name: seed_of("validation", name))
    aside = set(clips[: max(1, round(share * len(clips)))]) if share and len(clips) > 1 else set()
    return (
        [take for take in takes if take.clip not in aside],
        [take for take in takes if take.clip in aside],
    )


def dataset_feed(
    data: DataSet,
    takes: Sequence[MotionSequence],
    *,
    frames: int,
    channels: int,
    recipe: Recipe,
    device: torch.device | str = "cpu",
) -> TakeFeed:
    """The feed of some of a data set's takes."""
    return TakeFeed(
        takes,
        frames=frames,
        channels=channels,
        left=data.left,
        right=data.right,
        recipe=recipe,
        device=device,
        description={"data": data.name, "detector": data.detector, "about": data.description},
    )
