"""TPS: keep frames at even steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from h2ot_core.prune.base import AbstractPruner, Signals
from h2ot_core.schedule import Schedule


class UniformPruner(AbstractPruner):
    """Token Pruning Sampler (paper, Section 3.1.4).

    Stage m keeps positions k (n - 1) / (r - 1) of its n input frames, in whole numbers.
    The choice is the same for every input, so it is worked out once.

    Options:
        tps_rounding: how a position between two frames is settled. "half_even" keeps the middle
            frame of odd lengths and is symmetric in time; "floor" and "half_up" as named;
            "nearest" keeps the frame still there that is closest to the even grid over all F
            frames (ties to the earlier), which stays even over several stages.
    """

    options: ClassVar[Mapping[str, Any]] = {
        "tps_rounding": ("half_even", "floor", "half_up", "nearest")
    }

    def __init__(self, schedule: Schedule, centre: int | None, **options: Any) -> None:
        super().__init__(schedule, centre)
        self.kept = _chain(schedule.frames, schedule.r, options["tps_rounding"], centre)

    def fixed(self) -> list[list[int]]:
        """Source indices kept by each stage."""
        return self.kept

    def select(self, signals: Signals, stage: int) -> Tensor:
        """Positions of this stage's frames among its input frames; (1, r_m)."""
        before = self.kept[stage - 1] if stage else range(self.schedule.frames)
        position = {frame: i for i, frame in enumerate(before)}
        positions = [[position[frame] for frame in self.kept[stage]]]
        return torch.tensor(positions, device=signals.index.device)


def _chain(
    frames: int, counts: Sequence[int], rounding: str, centre: int | None
) -> list[list[int]]:
    """Source indices kept after each stage."""
    kept: list[list[int]] = []
    current = list(range(frames))
    for count in counts:
        if rounding == "nearest":
            current = _nearest(current, count, frames)
        else:
            current = [current[p] for p in _positions(len(current), count, rounding)]
        if centre is not None and centre not in current:
            pick = min(range(count), key=lambda i: (abs(current[i] - centre), current[i]))
            current = sorted([*current[:pick], centre, *current[pick + 1 :]])
        kept.append(current)
    return kept


def _positions(n: int, r: int, rounding: str) -> list[int]:
    """r positions among n, ends included; one position is the middle one."""
    if r == 1:
        return [(n - 1) // 2]
    positions = []
    for k in range(r):
        whole, rest = divmod(k * (n - 1), r - 1)
        if rounding != "floor":
            up = whole % 2 == 1 if rounding == "half_even" else True
            whole += 2 * rest > r - 1 or (2 * rest == r - 1 and up)
        positions.append(whole)
    return positions


def _nearest(current: Sequence[int], r: int, frames: int) -> list[int]:
    """The r kept frames closest to the even grid over all frames, each used once."""
    if r == 1:
        return [min(current, key=lambda frame: (abs(2 * frame - (frames - 1)), frame))]
    chosen: list[int] = []
    at = 0
    for k in range(r):
        ideal = k * (frames - 1)  # in units of 1 / (r - 1) frames
        last = len(current) - (r - k)  # leave enough frames for the grid points to come
        while at < last and abs(current[at + 1] * (r - 1) - ideal) < abs(
            current[at] * (r - 1) - ideal
        ):
            at += 1
        chosen.append(current[at])
        at += 1
    return chosen
