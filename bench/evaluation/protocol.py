"""Protocols of evaluation: how a video is cut into windows, and which frames of them count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from bench.data.takes import Mask
from bench.records.errors import UsageError
from h2ot_core.windows import POLICIES, stretched_frames, window_frames, window_starts

Frames = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a model is evaluated.

    Attributes:
        windows: how a take of T frames is cut into windows of F (a key of
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
        downsample: keep every d-th frame of a take, before cutting windows (Table 9).
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


DEFAULTS: Final[dict[str, str]] = {
    "h36m": "hot",
    "sh": "sh",
    "3dhp": "strict",
    "motion": "strict",
}
"""A data set's protocol to the windows of a seq2seq model; seq2frame models take "centre".

Flip and zero_root are on in all. In 3DHP only valid frames count. P-STMO and MotionAGFormer (which
puts out all frames) take one window per valid frame there, which is "centre"; "strict" lifts each
frame once instead, as D3DP nearly does.
"""


def default_windows(data: str, pipeline: str) -> str:
    """The window policy of a data set's protocol and a model's pipeline.

    Raises:
        UsageError: if the protocol of the data is not known.
    """
    if data not in DEFAULTS:
        raise UsageError(
            f"no evaluation is known for protocol {data!r}; give windows, one of "
            f"{', '.join(POLICIES)}"
        )
    return "centre" if pipeline == "seq2frame" else DEFAULTS[data]


@dataclass(frozen=True, eq=False)
class Layout:
    """The windows of one take.

    Attributes:
        starts: int64 (n,), frame at which each window begins; may lie before the first.
        source: int64 (n, F) or, for the centre alone, (n, 1): the frame of the take that each
            output stands for, -1 where an output does not count.
        frames: T.
        size: F.
        stretched: whether the one window shows the whole take, stretched.
    """

    starts: Frames
    source: Frames
    frames: int
    size: int
    stretched: bool = False

    def __len__(self) -> int:
        return len(self.starts)

    def index(self, rows: slice) -> Frames:
        """The frames of the take that some windows show, (rows, F)."""
        if self.stretched:
            return stretched_frames(self.frames, self.size).numpy()
        starts = torch.from_numpy(self.starts[rows])
        return window_frames(starts, self.size, self.frames - 1).numpy()


def lay_out(windows: str, valid: Mask, size: int) -> Layout:
    """Cut a take into windows.

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
