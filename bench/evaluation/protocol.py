"""Protocols of evaluation: how a video is cut into windows, and which frames of them count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.data.sequences import Mask
from bench.records.errors import UsageError
from h2ot_core.windows import POLICIES, stretched_frames, window_frames, window_starts

Frames = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a model is evaluated.

    Attributes:
        windows: how a sequence of T frames is cut into windows of F (a key of
            :data:`h2ot_core.windows.POLICIES`; :func:`~h2ot_core.windows.window_starts` gives the
            sources), and which frames count. Ends are padded with copies of the first and last
            frame, in 2D and 3D: with "hot" these count like others, with "strict" they do not.
            "mixste" counts the overlap of the last window twice. "sh" drops a tail, and where
            T < F a frame's error is the mean over the frames of the stretched clip that show it.
            "centre" counts the middle of one window around each valid frame; it is the only policy
            for seq2frame models, and others may be evaluated so too.
        flip: also lift the mirrored input, mirror the result back and average (test-time
            augmentation). The mirrored pass keeps the frames of the first.
        zero_root: whether the predicted root is set to zero, as HoT and MotionBERT do. Otherwise
            its error counts, as in MixSTE.
        downsample: keep every d-th frame of a sequence, before cutting windows (Table 9).
        batch: windows per forward pass; does not change results.
    """

    windows: str = "strict"
    flip: bool = True
    zero_root: bool = True
    downsample: int = 1
    batch: int = 16

    def __post_init__(self) -> None:
        if self.windows not in POLICIES:
            raise UsageError(
                f"unknown window policy {self.windows!r}; choose one of {', '.join(POLICIES)}"
            )
        for name in ("downsample", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def meaning(self) -> dict[str, Any]:
        """What changes results, as plain values."""
        return {name: value for name, value in vars(self).items() if name != "batch"}

    def __str__(self) -> str:
        step = "" if self.downsample == 1 else f"; every {self.downsample}th frame"
        return (
            f"{self.windows} ({POLICIES[self.windows]}); flip {'on' if self.flip else 'off'}; "
            f"predicted root {'set to zero' if self.zero_root else 'as it comes'}{step}"
        )


@dataclass(frozen=True, eq=False)
class Layout:
    """The windows of one sequence.

    Attributes:
        starts: int64 (n,), frame at which each window begins; may lie before the first.
        source: int64 (n, F) or, for the centre alone, (n, 1): the frame of the sequence that each
            output stands for, -1 where an output does not count.
        frames: T.
        size: F.
        stretched: whether the one window shows the whole sequence, stretched.
    """

    starts: Frames
    source: Frames
    frames: int
    size: int
    stretched: bool = False

    def __len__(self) -> int:
        return len(self.starts)

    def index(self, rows: slice) -> Frames:
        """The frames of the sequence that some windows show, (rows, F)."""
        if self.stretched:
            return stretched_frames(self.frames, self.size).numpy()
        starts = torch.from_numpy(self.starts[rows])
        return window_frames(starts, self.size, self.frames - 1).numpy()


def lay_out(windows: str, valid: Mask, size: int) -> Layout:
    """Cut a sequence into windows.

    Args:
        windows: the policy, see :class:`Protocol`.
        valid: (T,), frames that may count.
        size: F.
    """
    frames = len(valid)
    starts: Frames = window_starts(frames, size, windows).numpy()
    if windows == "centre":
        return Layout(starts[valid], np.flatnonzero(valid)[:, None], frames, size)
    stretched = windows == "sh" and frames < size
    layout = Layout(starts, starts[:, None] + np.arange(size), frames, size, stretched)
    source = layout.index(slice(None))
    counts = valid[source]
    if windows == "strict":
        counts &= layout.source == source
    return Layout(starts, np.where(counts, source, -1), frames, size, stretched)
