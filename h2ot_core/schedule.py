"""The hierarchical schedule: how many frames are kept, and before which block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from h2ot_core.errors import ConfigError


def _integers(name: str, value: int | Iterable[int]) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, Iterable) else (value,)
    for v in values:
        if isinstance(v, bool) or not hasattr(v, "__index__"):
            raise ConfigError(f"{name} must be integers, got {v!r} in {name} = {list(values)}.")
    return tuple(v.__index__() for v in values)


@dataclass(frozen=True)
class Schedule:
    """Numbers of representative tokens and the blocks they act before (paper, Algorithm 1).

    Args:
        frames: F = r_0, frames in the input.
        r: r_1 > ... > r_M, frames kept by each stage, all below F.
        b: b_1 < ... < b_M, the 0-based block before which each stage acts.
        blocks: L, the number of blocks of the host.

    Raises:
        ConfigError: naming what is wrong and what was given.
    """

    frames: int
    r: tuple[int, ...]
    b: tuple[int, ...]
    blocks: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "r", _integers("r", self.r))
        object.__setattr__(self, "b", _integers("b", self.b))
        r, b = list(self.r), list(self.b)
        if self.frames < 1:
            raise ConfigError(f"frames must be at least 1, got {self.frames}.")
        if len(r) != len(b):
            raise ConfigError(
                f"r and b must have one entry per stage each: got r = {r} ({len(r)}) and "
                f"b = {b} ({len(b)}). Give both, with the same length."
            )
        if any(k < 1 for k in r):
            raise ConfigError(f"every stage keeps at least 1 frame, got r = {r}.")
        if r and r[0] >= self.frames:
            raise ConfigError(
                f"r must be smaller than the {self.frames} input frames at the first stage, "
                f"got r = {r}; leave r and b empty for no pruning."
            )
        if any(late >= early for early, late in pairwise(r)):
            raise ConfigError(f"r must decrease strictly from stage to stage, got r = {r}.")
        if any(late <= early for early, late in pairwise(b)):
            raise ConfigError(f"b must increase strictly from stage to stage, got b = {b}.")
        if any(k < 0 or k >= self.blocks for k in b):
            raise ConfigError(
                f"b counts blocks from 0 and this host has {self.blocks} "
                f"(0 to {self.blocks - 1}), got b = {b}."
            )

    @property
    def stages(self) -> int:
        """M, the number of pruning stages; 0 means no pruning."""
        return len(self.r)

    @property
    def kept(self) -> int:
        """r_M, the frames left after the last stage (F without pruning)."""
        return self.r[-1] if self.r else self.frames

    def frames_at(self, block: int) -> int:
        """Frames that reach a block, where stages act before whole blocks."""
        before = [count for count, at in zip(self.r, self.b, strict=True) if at <= block]
        return before[-1] if before else self.frames


def odd_nearest(numerator: int, denominator: int) -> int:
    """The odd integer nearest a quotient: the smaller of two equally near, and at least 1.

    Every r that the paper prints is odd, so that a middle frame exists at every stage.
    """
    low = numerator // denominator
    low -= 1 - low % 2  # the odd integer at or below the quotient
    # nearer to low + 2 when the quotient exceeds low + 1
    return max(1, low + 2 if numerator > (low + 1) * denominator else low)


def middle(frames: int) -> int:
    """The centre frame that seq2frame puts out; of an even number the earlier, as published."""
    return (frames - 1) // 2
