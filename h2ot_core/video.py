"""Lift a video with a model of windows of F frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from h2ot_core.errors import ConfigError, InputError, unknown
from h2ot_core.factory import PIPELINES
from h2ot_core.hourglass import Hourglass
from h2ot_core.schedule import middle
from h2ot_core.selection import Selection
from h2ot_core.windows import window_frames, window_starts

# Human3.6M joints, the order of every published host on that data set.
LEFT = (4, 5, 6, 11, 12, 13)
RIGHT = (1, 2, 3, 14, 15, 16)


def lift(
    model: Hourglass,
    poses2d: Tensor,
    *,
    pipeline: str | None = None,
    flip: bool = True,
    batch_size: int = 16,
    left: Sequence[int] = LEFT,
    right: Sequence[int] = RIGHT,
) -> Tensor:
    """Lift every frame of a video.

    Args:
        model: from :func:`h2ot_core.build`, with weights.
        poses2d: (T, J, C_in), normalised as the model was trained; any T from 1 up. The ends are
            padded with copies of the first and last frame.
        pipeline: "seq2seq" cuts the video into ceil(T / F) windows side by side and keeps every
            frame of them; "seq2frame" centres one window on each frame and keeps the middle. None
            means the model's own. A seq2seq model can be used either way.
        flip: also lift the mirrored video, mirror the result back and average (test-time
            augmentation as published). The mirrored pass keeps the frames of the first.
        batch_size: windows per forward pass; does not change the result.
        left, right: joints that a mirror exchanges.

    Returns:
        (T, J, 3), on the model's device.

    Raises:
        InputError: for an empty video, a wrong shape, or values that are not finite.
        ConfigError: for a seq2seq pipeline on a seq2frame model, or an unknown pipeline.
    """
    pipeline = chosen_pipeline(model, pipeline)
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    _check(model, poses2d, flip, left, right)
    like = next(model.parameters())
    video = poses2d.to(like.device, like.dtype)
    count, frames = video.shape[0], model.schedule.frames
    policy = "centre" if pipeline == "seq2frame" else "strict"
    starts = window_starts(count, frames, policy)
    shown = window_frames(starts.to(video.device), frames, count - 1)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = [
                lift_windows(model, video[index], pipeline, (left, right) if flip else None)
                for index in shown.split(batch_size)
            ]
    finally:
        model.train(was_training)
    poses = torch.cat(outputs).flatten(0, 1)
    # Frames before the video's first, in the first window, are padding.
    before = max(0, -int(starts[0])) if pipeline == "seq2seq" else 0
    return poses[before : before + count]


def chosen_pipeline(model: Hourglass, pipeline: str | None) -> str:
    """The pipeline in which a model is to be used; None means its own.

    Raises:
        ConfigError: for a seq2seq pipeline on a seq2frame model, or an unknown pipeline.
    """
    pipeline = pipeline or model.config.pipeline
    if pipeline not in PIPELINES:
        raise unknown("pipeline", pipeline, PIPELINES)
    if pipeline == "seq2seq" and model.config.pipeline == "seq2frame":
        raise ConfigError(
            f"this {model.config.host} model puts out the centre frame alone (scheme "
            f"{model.config.scheme!r}); use pipeline='seq2frame', or build a seq2seq model."
        )
    return pipeline


def lift_windows(
    model: Hourglass,
    x: Tensor,
    pipeline: str,
    mirror: tuple[Sequence[int], Sequence[int]] | None,
) -> Tensor:
    """Lift windows that are cut and checked already.

    Args:
        model: in evaluation mode.
        x: (W, F, J, C_in), normalised.
        pipeline: "seq2seq" for all frames, "seq2frame" for the centre.
        mirror: joints that the mirrored pass exchanges; None for no such pass.

    Returns:
        (W, F, J, 3) for seq2seq, (W, 1, J, 3) for seq2frame.
    """
    poses, _ = mirror_averaged(model, x, mirror)
    if pipeline == "seq2frame" and poses.shape[1] > 1:
        centre = middle(poses.shape[1])
        poses = poses[:, centre : centre + 1]
    return poses


def mirror_averaged(
    model: Hourglass, x: Tensor, mirror: tuple[Sequence[int], Sequence[int]] | None
) -> tuple[Tensor, tuple[Selection, ...]]:
    """Run a model on windows and on their mirror image, and average (as published).

    Args:
        model: in evaluation mode.
        x: (W, F, J, C_in), normalised.
        mirror: joints that the mirrored pass exchanges; None for no such pass.

    Returns:
        Poses as the model puts them out, and the frames that each stage kept of ``x``, which the
        mirrored pass keeps too.
    """
    first = model.run(x)
    poses = first.poses
    if mirror is not None:
        again = model.run(mirrored(x, *mirror), selections=first.selections).poses
        poses = (poses + mirrored(again, *mirror)) / 2
    return poses, first.selections


def mirrored(x: Tensor, left: Sequence[int], right: Sequence[int]) -> Tensor:
    """The mirror image of poses: x negated, left and right joints exchanged.

    Args:
        x: (..., J, C), 2D or 3D, the first channel horizontal and zero in the middle.
        left, right: joints to exchange, pair by pair.

    Returns:
        (..., J, C), a copy.
    """
    order = list(range(x.shape[-2]))
    for a, b in zip(left, right, strict=True):
        order[a], order[b] = b, a
    x = x[..., order, :].clone()
    x[..., 0].neg_()
    return x


def _check(
    model: Hourglass, poses2d: Tensor, flip: bool, left: Sequence[int], right: Sequence[int]
) -> None:
    joints, channels = model.host.joints, model.host.channels
    if not isinstance(poses2d, Tensor) or not poses2d.is_floating_point():
        got = f"a tensor of {poses2d.dtype}" if isinstance(poses2d, Tensor) else type(poses2d)
        raise InputError(f"poses2d must be a floating-point torch.Tensor, got {got}.")
    if poses2d.dim() != 3 or tuple(poses2d.shape[1:]) != (joints, channels):
        extra = ""
        if channels == 3 and poses2d.dim() == 3 and poses2d.shape[-1] == 2:
            extra = " The third channel is the detector's confidence; use 1 where there is none."
        raise InputError(
            f"poses2d must have shape (T, {joints}, {channels}) for this {model.config.host} "
            f"model, got {tuple(poses2d.shape)}.{extra}"
        )
    if poses2d.shape[0] == 0:
        raise InputError("the video is empty: poses2d has no frames; at least 1 is needed.")
    finite = torch.isfinite(poses2d)
    if not bool(finite.all()):
        frame, joint = (int(i) for i in (~finite).nonzero()[0][:2])
        raise InputError(
            f"poses2d contains {int((~finite).sum())} values that are NaN or infinite, the first "
            f"at frame {frame}, joint {joint}. Interpolate or drop undetected joints first."
        )
    if flip:
        check_sides(joints, left, right)


def check_sides(joints: int, left: Sequence[int], right: Sequence[int]) -> None:
    """Refuse joints to exchange that are not pairs.

    Raises:
        InputError: for different numbers of left and right joints, or one that is not there.
    """
    if len(left) != len(right) or max((*left, *right), default=0) >= joints:
        raise InputError(
            f"left and right must name pairs among {joints} joints, got {list(left)} and "
            f"{list(right)}; or use flip=False."
        )
