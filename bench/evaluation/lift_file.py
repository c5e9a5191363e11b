"""Lift a file of 2D keypoints to 3D."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import h2ot_core
from bench.data.cameras import normalise
from bench.data.readers.keypoints import Keypoints, load_keypoints
from bench.data.skeleton import JOINT_NAMES
from bench.models.build import measured_model
from bench.models.resolve import resolve
from bench.models.weights import check_options
from bench.records.errors import UsageError
from bench.records.files import replacing
from bench.records.progress import progress

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to lift, with what, and where to.

    Attributes:
        keypoints: the input; see :func:`bench.data.readers.keypoints.load_keypoints`.
        out: the npz to write.
        arguments: for ``h2ot_core.build``; the host is "mixste" by default.
        weights: a published checkpoint; None needs ``untrained``.
        untrained: lift with random weights, the same in every run.
        width, height: of the image, pixels; None means those in the file.
        person: whose detections to use; None means the highest score of each frame.
        fps: frames per second of the video.
        flip: also lift the mirrored video and average.
        batch: windows per forward pass.
        device: "cpu" or "cuda".
    """

    keypoints: Path
    out: Path
    arguments: Mapping[str, Any]
    weights: Path | None = None
    untrained: bool = False
    width: int | None = None
    height: int | None = None
    person: int | None = None
    fps: float = 50.0
    flip: bool = True
    batch: int = 16
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Lifted:
    """The input, its poses (T, 17, 3) and their unit."""

    keypoints: Keypoints
    poses: Array
    unit: str


def lift_file(job: Job, log: Callable[[str], None] = lambda line: None) -> Lifted:
    """Lift a file of keypoints and write the poses.

    The npz is written atomically, with ``poses_3d`` float32 (T, 17, 3) in the camera's axes
    (x right, y down, z away), as the model puts them out; ``frames`` (T,); ``fps``;
    ``joint_names`` (17,); ``config``, JSON arguments of ``h2ot_core.build``; ``weights``, a file
    name or "none"; ``unit``, "metres" where the host's published weights put out metres, else
    "unstated"; ``source``, what was read.

    Args:
        job: what to do.
        log: called with each line of progress for the user.

    Raises:
        UsageError: without weights, or if a file cannot be written or the device is not there.
        KeypointError: if the keypoints cannot be used.
        h2ot_core.ConfigError, h2ot_core.CheckpointError, h2ot_core.InputError: from building,
            loading and lifting.
    """
    _check(job)
    keypoints = load_keypoints(job.keypoints, width=job.width, height=job.height, person=job.person)
    log(keypoints.source)
    case = replace(resolve({"host": "mixste", **job.arguments}), device=job.device)
    asked = {"scheme": None, **job.arguments}  # the file says which scheme was asked for
    model = measured_model(case, weights=job.weights or "initial", **asked)
    model.check_finite = True  # the keypoints are a user's
    poses = _lift(model, keypoints, job, log)
    unit = model.host.output_unit if job.weights is not None else "unstated"
    arrays = {
        "poses_3d": poses,
        "frames": keypoints.frames,
        "fps": np.array(job.fps),
        "joint_names": np.array(JOINT_NAMES),
        "config": np.array(json.dumps(model.config.arguments)),
        "weights": np.array(job.weights.name if job.weights else "none"),
        "unit": np.array(unit),
        "source": np.array(keypoints.source),
    }
    with replacing(job.out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    log(f"{job.out}: poses_3d {poses.shape}, unit {unit}")
    return Lifted(keypoints=keypoints, poses=poses, unit=unit)


def network_input(keypoints: Keypoints, channels: int) -> Tensor:
    """Keypoints as network input: float32 (T, 17, C_in), the third channel the confidence."""
    x = normalise(keypoints.pixels, keypoints.width, keypoints.height).astype(np.float32)
    if channels == 3:
        x = np.concatenate([x, keypoints.confidence[..., None]], axis=-1)
    return torch.from_numpy(x)


def _check(job: Job) -> None:
    """Check options and paths, before anything takes time."""
    without = "a model without trained weights puts out noise, not poses"
    check_options(job.weights, job.untrained, job.device, without=without)
    if not (math.isfinite(job.fps) and job.fps > 0):
        raise UsageError(f"--fps must be above 0, got {job.fps}")
    if job.out.suffix != ".npz":
        raise UsageError(f"the poses are written as npz; give {job.out} the suffix .npz")
    if job.out.resolve() == job.keypoints.resolve():
        raise UsageError(f"{job.out} is the input; name another file to write")
    if not job.out.parent.is_dir():
        raise UsageError(f"cannot write {job.out}: no folder {job.out.parent}")


def _lift(
    model: h2ot_core.Hourglass, keypoints: Keypoints, job: Job, log: Callable[[str], None]
) -> Array:
    """Poses (T, 17, 3), with a progress line."""
    x = network_input(keypoints, model.host.channels)
    frames, config = len(x), model.config
    windows = frames if config.pipeline == "seq2frame" else -(-frames // config.frames)
    log(
        f"{frames} frames in {windows} windows of {config.frames} ({config.pipeline}), "
        f"{config.host} on {job.device}"
    )
    start = time.perf_counter()
    try:
        with _counted(model, windows * (2 if job.flip else 1)):
            poses = h2ot_core.lift(model, x, flip=job.flip, batch_size=job.batch).cpu().numpy()
    except torch.OutOfMemoryError:
        raise UsageError(
            f"the device is out of memory with {job.batch} windows per pass; give a smaller --batch"
        ) from None
    if not np.isfinite(poses).all():
        raise UsageError("the model puts out NaN or infinity; its weights are not usable")
    seconds = time.perf_counter() - start
    log(f"lifted in {seconds:.1f} s, {frames / seconds:.0f} frames per second")
    return poses.astype(np.float32)


@contextmanager
def _counted(model: h2ot_core.Hourglass, total: int) -> Iterator[None]:
    """Show the windows that the model has run on a progress line."""
    run = model.run
    with progress("lifting", total, unit="window") as tick:

        def counting(x: Tensor, *args: Any, **options: Any) -> h2ot_core.Output:
            output = run(x, *args, **options)
            tick(done=x.shape[0])
            return output

        model.run = counting  # type: ignore[method-assign]
        try:
            yield
        finally:
            del model.run
