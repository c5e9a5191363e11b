"""TRI: recover all frames by linear interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from h2ot_core.errors import ConfigError
from h2ot_core.recover.base import AbstractRecoverer
from h2ot_core.schedule import Schedule
from h2ot_core.selection import Selection, bracket, equidistant, take


class InterpolationRecoverer(AbstractRecoverer):
    """Token Recovering Interpolation (paper, Section 3.2.2).

    A kept frame comes back exactly; a frame outside the kept range holds the nearest kept one.

    Options:
        tri_mode: "positions" interpolates between the frames that were kept; "equidistant"
            treats them as an even grid, as resizing does, and so moves those that are not.
        tri_where: "poses" interpolates the head's output, as Section 3.2.2 describes; "tokens"
            interpolates before the head, as Figure 2 allows.
        tri_frames: f of Table 6, frames recovered, spread evenly over the F; odd, so that one is
            the centre. For seq2frame alone: seq2seq returns all F, which 0 stands for.
    """

    options: ClassVar[Mapping[str, Any]] = {
        "tri_mode": ("positions", "equidistant"),
        "tri_where": ("poses", "tokens"),
        "tri_frames": 0,
    }

    def __init__(
        self, schedule: Schedule, width: int, heads: int, *, qkv_bias: bool = True, **options: Any
    ) -> None:
        super().__init__(schedule, width, heads, qkv_bias=qkv_bias)
        self.mode: str = options["tri_mode"]
        self.on_poses = options["tri_where"] == "poses"
        self.frames = options["tri_frames"] or schedule.frames
        has_centre = self.frames % 2 == 1 or self.frames == schedule.frames
        if not 1 < self.frames <= schedule.frames or not has_centre:
            raise ConfigError(
                f"tri_frames must be odd and between 3 and the {schedule.frames} input frames, got "
                f"{self.frames}."
            )

    def recover(self, x: Tensor, selection: Selection) -> Tensor:
        """(B, K, ...) to (B, f, ...); differentiable in x."""
        if self.mode == "equidistant":
            place = equidistant(selection.keep, self.frames, x.device)
        elif selection.bracket is not None and self.frames == selection.frames:
            place = selection.bracket
        else:
            place = bracket(selection.index, selection.frames, self.frames)
        weight = place.step.to(x.dtype) / place.gap.to(x.dtype)
        weight = weight.reshape(*weight.shape, *[1] * (x.dim() - 2))
        return torch.lerp(take(x, place.low), take(x, place.high), weight)
