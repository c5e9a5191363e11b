"""How a video of T frames is cut into windows of the F frames that a model takes.

One cutter for lifting, evaluation and training. A window is known by its first frame, which may
lie before the video; :func:`window_frames` holds the video's first and last frame beyond its ends.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from h2ot_core.errors import InputError, unknown
from h2ot_core.schedule import middle

POLICIES: Final[dict[str, str]] = {
    "hot": "windows side by side, both ends padded; padded frames count",
    "mixste": "windows side by side, the last one the last F frames; the overlap counts twice",
    "strict": "windows side by side, both ends padded; every frame counts once",
    "sh": "clips side by side; tails are dropped, a video shorter than a clip is stretched",
    "centre": "one window around each frame, of which the middle counts",
}
"""Policy to a one-line description; :func:`window_starts` gives the sources."""


def window_starts(frames: int, size: int, policy: str = "strict", *, stride: int = 0) -> Tensor:
    """The first frame of each window.

    ==========  ============================================================================
    policy      windows
    ==========  ============================================================================
    "hot"       ceil(T / F) side by side, the first beginning floor((nF - T) / 2) frames
                early (HoT, common/generator_stride.py)
    "strict"    as "hot"; only the frames of the video itself count in an evaluation
    "mixste"    side by side from frame 0, the last one the last F frames, or from frame 0
                where T < F (MixSTE, run.py)
    "sh"        side by side from frame 0, a tail shorter than F dropped; for T < F the one
                window shows :func:`stretched_frames` (MotionBERT, lib/utils/utils_data.py)
    "centre"    one around each frame, F // 2 frames (of an even F one fewer) before it: the
                input of seq2frame models
    ==========  ============================================================================

    Args:
        frames: T, length of the video, at least 1.
        size: F, length of a window.
        policy: a key of :data:`POLICIES`.
        stride: frames from one window to the next, whole windows only, in place of the policy
            (MotionBERT trains with F / 3); 0, or a video shorter than a window, means the policy.

    Returns:
        (n,) int64 in ascending order ("mixste" may repeat frames); below 0 or above T - F where a
        window reaches beyond the video.

    Raises:
        InputError: for an unknown policy, or a length below 1.
    """
    if frames < 1 or size < 1:
        raise InputError(f"a video of {frames} frames in windows of {size}: both must be above 0.")
    if stride and frames >= size:
        return torch.arange(0, frames - size + 1, stride)
    count = -(-frames // size)
    if policy in ("hot", "strict"):
        return torch.arange(count) * size - (count * size - frames) // 2
    if policy == "mixste":
        return (torch.arange(count) * size).clamp(max=max(frames - size, 0))
    if policy == "sh":
        return torch.arange(max(frames // size, 1)) * size
    if policy == "centre":
        return torch.arange(frames) - middle(size)
    raise unknown("window policy", policy, POLICIES)


def window_frames(starts: Tensor, size: int, last: int | Tensor, first: int | Tensor = 0) -> Tensor:
    """The frames that windows show, the ends of the video held beyond them.

    Args:
        starts: (n,), first frame of each window.
        size: F, length of a window.
        last, first: the last and first frame of the video, as numbers, or as tensors (n, 1) for
            windows of several videos that lie in one tensor.

    Returns:
        (n, F) int64, between ``first`` and ``last``, on the device of ``starts``.
    """
    frames = starts.unsqueeze(1) + torch.arange(size, device=starts.device)
    low, high = (torch.as_tensor(end, device=starts.device) for end in (first, last))
    return frames.clamp(low, high)


def stretched_frames(frames: int, size: int) -> Tensor:
    """The frames of a video shorter than a window that is stretched to one.

    Frame k of the window shows frame floor(k T / F). (MotionBERT draws at random between
    neighbouring frames; this is its form without randomness.)

    Returns:
        (1, F) int64.
    """
    return (torch.arange(size) * frames // size).unsqueeze(0)
