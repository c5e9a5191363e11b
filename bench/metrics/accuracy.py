"""Errors of the supernet under a configuration, on views of motion it was not trained on.

Every configuration lifts the same views, so that two can be compared view by view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

import h2ot_core
from bench.data.readers.motion import MotionError
from bench.data.windows import MotionSource
from bench.metrics.base import Metric, NotApplicable, Reading
from bench.models.build import measured_model
from bench.models.context import Context
from bench.records.case import Case
from h2ot_core.metrics import mpjpe, mpjve
from h2ot_core.video import LEFT, RIGHT, mirror_averaged
from h2ot_core.windows import window_frames, window_starts

READINGS: Final = ("trunk_mpjpe_mm", "trunk_mpjve_mm", "trunk_frame_noise_px")
STEPS: Final = (1, 2, 3, 4)
"""Downsampling steps of Table 9."""

_BATCH = 8  # windows per forward pass


@dataclass(frozen=True, eq=False)
class Views:
    """Stretches of motion seen by cameras, all of one length.

    Attributes:
        x: (W, T, 17, 2), network input.
        y: (W, T, 17, 3), metres relative to the root.
        noise: (W, T), mean distance in pixels of detected from clean 2D joints.
        clips, actions, cameras: of each view.
        about: for the record's protocol.
    """

    x: Tensor
    y: Tensor
    noise: Tensor
    clips: tuple[str, ...]
    actions: tuple[str, ...]
    cameras: tuple[str, ...]
    about: dict[str, Any]


def views(motion: MotionSource, frames: int, *, limit: int | None = None, step: int = 1) -> Views:
    """Cut the test split into views of `frames` frames, `step` frames apart.

    Args:
        motion: to cut.
        frames: T, length of a view after downsampling by `step`.
        limit: most views; clips come first, then cameras, then time.
        step: every how many frames one is kept; detection is at the full rate.

    Raises:
        MotionError: if no view is that long.
    """
    windows = motion.windows((frames - 1) * step + 1, limit=limit)
    noise = np.stack([w.detected_px[::step] - w.clean_px[::step] for w in windows])
    return Views(
        x=torch.from_numpy(np.stack([w.input[::step] for w in windows])),
        y=torch.from_numpy(np.stack([w.target[::step] for w in windows])),
        noise=torch.from_numpy(np.linalg.norm(noise, axis=-1).mean(axis=-1)),
        clips=tuple(w.clip for w in windows),
        actions=tuple(w.action for w in windows),
        cameras=tuple(w.camera for w in windows),
        about={"description": motion.description, "detector": motion.noise.describe()},
    )


def accuracy(case: Case, context: Context) -> list[Reading]:
    """Error and frame noise of each view, with the supernet's weights.

    Shorter windows than the view lie side by side over it, with both ends held and cropped
    (each frame counts once). Predictions are averaged with those of the mirrored view, which
    keeps the same frames, and their root is zeroed.

    Raises:
        NotApplicable: without a supernet, or for motion without long enough views.
    """
    if context.supernet is None:
        raise NotApplicable("no supernet is loaded")
    name, _, slow = case.motion.partition("@")
    if name != context.motion.name:
        raise NotApplicable(f"{case.motion} is not the motion at hand, {context.motion.name}")
    step = int(slow.removeprefix("1/")) if slow else 1
    try:
        seen = _views_for(context, step, rates=bool(slow))
    except MotionError as error:
        raise NotApplicable(str(error)) from None
    model = measured_model(case, weights=context.supernet)
    poses, noise = lifted(model, seen)
    poses[..., 0, :] = 0
    target = seen.y
    series = (
        mpjpe(poses, target, reduce=False).mean(dim=-1) * 1000,
        torch.stack([mpjve(p, t) for p, t in zip(poses, target, strict=True)]) * 1000,
        noise,
    )
    protocol = {
        **seen.about,
        **context.supernet.describe(),
        "views": len(seen.clips),
        "frames": seen.x.shape[1],
        "clips": list(seen.clips),
        "actions": list(seen.actions),
        "cameras": list(seen.cameras),
        "split": "test",
        "windows": "strict",
        "flip": True,
        "root": "zeroed",
        "step": step,
    }
    units = ("mm", "mm", "px")
    return [
        Reading(metric=metric, unit=unit, values=tuple(values.tolist()), protocol=protocol)
        for metric, unit, values in zip(READINGS, units, series, strict=True)
    ]


def mean_pose(case: Case, context: Context) -> list[Reading]:
    """Error of always predicting the mean pose of the training split: the score without any input.

    Raises:
        NotApplicable: for motion without long enough views.
    """
    try:
        seen = _views_for(context, 1, rates=False)
        train = context.motion.windows(case.frames, split="train", subject="S1")
    except MotionError as error:
        raise NotApplicable(str(error)) from None
    mean = torch.from_numpy(np.mean([w.target for w in train], axis=(0, 1)))
    errors = mpjpe(mean.expand_as(seen.y), seen.y, reduce=False).mean(dim=-1) * 1000
    protocol = {**seen.about, "clips": list(seen.clips), "train_windows": len(train)}
    values = tuple(errors.tolist())
    return [Reading(metric="mean_pose_mpjpe_mm", unit="mm", values=values, protocol=protocol)]


def _views_for(context: Context, step: int, *, rates: bool) -> Views:
    """The views of the tables, or those of Table 9, which span the same time at each rate."""
    assert context.supernet is not None or not rates
    frames = context.view_frames
    limit = context.view_limit
    if rates:
        frames = (frames - 1) * max(STEPS) // step + 1
    return views(context.motion, frames, limit=limit, step=step)


def lifted(model: h2ot_core.Hourglass, seen: Views) -> tuple[Tensor, Tensor]:
    """Lift views with test-time augmentation.

    Returns:
        Poses (W, T, 17, 3), and the mean noise (W,) of the frames that the last stage kept.
    """
    views_, length = seen.x.shape[:2]
    frames = model.schedule.frames
    starts = window_starts(length, frames)
    index = window_frames(starts, frames, length - 1)  # (n, F)
    x = seen.x[:, index].flatten(0, 1)  # (W n, F, 17, 2)
    noise = seen.noise[:, index].flatten(0, 1)
    poses, kept = [], []
    device, channels = next(model.parameters()).device, model.host.channels
    x = functional.pad(x, (0, channels - x.shape[-1]), value=1.0)  # confidence
    with torch.inference_mode():
        for part, px in zip(x.split(_BATCH), noise.split(_BATCH), strict=True):
            averaged, selections = mirror_averaged(model, part.to(device), (LEFT, RIGHT))
            poses.append(averaged.float().cpu())
            chosen = selections[-1].index.cpu() if selections else None
            left = px if chosen is None else px.gather(1, _rows(chosen, px))
            kept.append(left.mean(dim=1))
    out = torch.cat(poses).unflatten(0, (views_, len(starts))).flatten(1, 2)
    first = -int(starts[0])
    return out[:, first : first + length].clone(), torch.cat(kept).unflatten(0, (views_, -1)).mean(
        1
    )


def _rows(index: Tensor, like: Tensor) -> Tensor:
    """Frames kept, (1 or B, r_M), as one row per window."""
    return index.expand(len(like), -1)


ACCURACY = Metric("accuracy of the supernet", READINGS, accuracy)
MEAN_POSE = Metric("accuracy of the mean pose", ("mean_pose_mpjpe_mm",), mean_pose)
