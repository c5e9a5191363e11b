"""Which frames were kept: sorted indices into a source sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from h2ot_core.errors import InputError


@dataclass(frozen=True, eq=False)
class Bracket:
    """Where each of F frames lies between its two neighbouring kept frames, in whole numbers.

    Attributes:
        low, high: (B, F) or (1, F) int64, positions in the kept sequence.
        step, gap: the same shape; a frame lies ``step / gap`` of the way from low to high.
    """

    low: Tensor
    high: Tensor
    step: Tensor
    gap: Tensor


@dataclass(frozen=True, eq=False)
class Selection:
    """The frames of a sequence that were kept, in order.

    Attributes:
        index: (B, K) int64, strictly increasing in every row, values in [0, frames);
            (1, K) where every row of a batch keeps the same frames.
        frames: F, the length of the sequence that ``index`` points into.
        bracket: interpolation neighbours, where they were worked out beforehand.
    """

    index: Tensor
    frames: int
    bracket: Bracket | None = None

    @property
    def keep(self) -> int:
        """K, the number of kept frames."""
        return self.index.shape[-1]

    def gather(self, x: Tensor) -> Tensor:
        """Pick the kept frames of ``x`` (B, F, ...); returns (B, K, ...)."""
        return take(x, self.index)

    def validate(self) -> Selection:
        """Check shape, type, order and range; returns self, raises :class:`InputError`.

        Reads the values, so it waits for an accelerator; for selections that come from outside.
        """
        index = self.index
        if index.dim() != 2 or index.dtype != torch.int64:
            raise InputError(
                f"a selection's index must be an int64 tensor (B, K), got {index.dtype} "
                f"of shape {tuple(index.shape)}."
            )
        if self.keep < 1 or self.keep > self.frames:
            raise InputError(f"a selection keeps 1 to {self.frames} frames, got {self.keep}.")
        if bool((index[:, 1:] <= index[:, :-1]).any()):
            raise InputError(
                "a selection's indices must increase strictly; sort them and drop repeats."
            )
        if int(index.min()) < 0 or int(index.max()) >= self.frames:
            raise InputError(
                f"a selection's indices must lie in [0, {self.frames}), got "
                f"{int(index.min())} to {int(index.max())}."
            )
        return self


def take(x: Tensor, index: Tensor) -> Tensor:
    """Pick positions along dimension 1.

    Args:
        x: (B, N, ...).
        index: (B, K) int64, or (1, K) for the same positions in every row.

    Returns:
        (B, K, ...); differentiable in ``x``.
    """
    if x.shape[0] == index.shape[0] == 1:
        return x[0].index_select(0, index[0]).unsqueeze(0)  # quicker than along dimension 1
    if index.shape[0] == 1:
        return x.index_select(1, index[0])
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return x[rows, index]


def bracket(index: Tensor, frames: int, targets: int | None = None) -> Bracket:
    """Find each target frame's two kept neighbours and its place between them.

    Targets before the first or after the last kept frame hold the nearest kept one.

    Args:
        index: (B, K) or (1, K) int64, strictly increasing.
        frames: F, the length that the indices point into.
        targets: f, frames to return to, evenly spaced from the first to the last of F; by
            default all F. They may lie between frames, so all is counted in parts of a frame.
    """
    targets = frames if targets is None else targets
    common = math.gcd(frames - 1, targets - 1) or 1
    parts, stride = max(1, (targets - 1) // common), (frames - 1) // common
    index = (index * parts).contiguous()
    t = (torch.arange(targets, device=index.device) * stride).expand(index.shape[0], -1)
    t = t.contiguous()
    high = torch.searchsorted(index, t).clamp_(max=index.shape[1] - 1)
    end = index.gather(1, high)
    # high is the first kept frame at or after t; a kept frame is its own low neighbour.
    low = torch.where(end <= t, high, high - 1).clamp_(min=0)
    start = index.gather(1, low)
    gap = (end - start).clamp_(min=1)
    return Bracket(low, high, (t - start).clamp_(min=0).minimum(gap), gap)


def equidistant(keep: int, targets: int, device: torch.device) -> Bracket:
    """The bracket of resizing with aligned corners, which takes the kept frames as an even grid.

    Kept frames that do not lie on that grid are moved; see ``tri_mode``.
    """
    t = torch.arange(targets, device=device).unsqueeze(0)
    gap = max(targets - 1, 1)
    low = t * (keep - 1) // gap
    return Bracket(
        low, (low + 1).clamp_(max=keep - 1), t * (keep - 1) - low * gap, torch.full_like(t, gap)
    )
