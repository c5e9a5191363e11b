"""Protocols of evaluation: how a video is cut into windows, and which frames of them count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from bench.data.takes import Mask
from bench.records.errors import UsageError
from h2ot_core.schedule import middle

Windows = Literal["hot", "mixste", "strict", "sh", "centre"]
Frames = npt.NDArray[np.int64]

WINDOWS: Final[dict[Windows, str]] = {
    "hot": "windows side by side, both ends padded; padded frames count",
    "mixste": "windows side by side, the last one the last F frames; the overlap counts twice",
    "strict": "windows side by side, both ends padded; every frame counts once",
    "sh": "clips side by side; tails are dropped, a video shorter than a clip is stretched",
    "centre": "one window around each frame, of which the middle counts",
}
"""Window policy to what it does, for people."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a model is evaluated.

    Attributes:
        windows: how a take of T frames is cut into windows of F, and which frames count:
            "hot" (HoT, common/generator_stride.py): ceil(T / F) windows, the first beginning
            floor((nF - T) / 2) frames early; ends are padded with copies of the first and last
            frame, in 2D and 3D, and these count like others;
            "mixste" (MixSTE, run.py): windows from the first frame on, the last one the last F
            frames, so that the overlap counts twice; only T < F is padded, at the end;
            "strict": windows as "hot", padding cut off, so that every frame counts once;
            "sh" (MotionBERT, lib/utils/utils_data.py): clips from the first frame on, a tail
            shorter than a clip is dropped; a take of T < F frames is stretched to one clip, in
            which clip frame k shows frame floor(k T / F), and a frame's error is the mean over
            the clip frames that show it. (Published code draws at random between neighbouring
            frames; this is its form without randomness.)
            "centre" (seq2frame): one window around each valid frame, ends padded, its middle
            counts. The only policy for seq2frame models; others may be evaluated so too.
        flip: also lift the mirrored input, mirror the result back and average (test-time
            augmentation). The mirrored pass keeps the frames of the first.
        zero_root: whether the predicted root is set to zero, as HoT and MotionBERT do. Otherwise
            its error counts, as in MixSTE.
        downsample: keep every d-th frame of a take, before cutting windows (Table 9).
        batch: windows per forward pass; does not change results.
    """

    windows: Windows = "strict"
    flip: bool = True
    zero_root: bool = True
    downsample: int = 1
    batch: int = 16

    def __post_init__(self) -> None:
        if self.windows not in get_args(Windows):
            raise UsageError(
                f"unknown window policy {self.windows!r}; choose one of {', '.join(WINDOWS)}"
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
            f"{self.windows} ({WINDOWS[self.windows]}); flip {'on' if self.flip else 'off'}; "
            f"predicted root {'set to zero' if self.zero_root else 'as it comes'}{step}"
        )


DEFAULTS: Final[dict[str, Windows]] = {
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


def default_windows(data: str, pipeline: str) -> Windows:
    """The window policy of a data set's protocol and a model's pipeline.

    Raises:
        UsageError: if the protocol of the data is not known.
    """
    if data not in DEFAULTS:
        raise UsageError(
            f"no evaluation is known for protocol {data!r}; give windows, one of "
            f"{', '.join(WINDOWS)}"
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
        steps = np.arange(self.size)
        if self.stretched:
            return (steps * self.frames // self.size)[None]
        return (self.starts[rows, None] + steps).clip(0, self.frames - 1)


def lay_out(windows: Windows, valid: Mask, size: int) -> Layout:
    """Cut a take into windows.

    Args:
        windows: the policy, see :class:`Protocol`.
        valid: (T,), frames that may count.
        size: F.
    """
    frames = len(valid)
    stretched = False
    if windows == "centre":
        shown = np.flatnonzero(valid)
        return Layout(shown - middle(size), shown[:, None], frames, size)
    if windows == "sh":
        stretched = frames < size
        starts = np.arange(max(frames // size, 1)) * size
    elif windows == "mixste":
        starts = np.arange(-(-frames // size)) * size
        starts[-1] = max(frames - size, 0)
    else:
        count = -(-frames // size)
        starts = np.arange(count) * size - (count * size - frames) // 2
    layout = Layout(starts, starts[:, None] + np.arange(size), frames, size, stretched)
    source = layout.index(slice(None))
    counts = valid[source]
    if windows == "strict":
        counts &= layout.source == source
    return Layout(starts, np.where(counts, source, -1), frames, size, stretched)
