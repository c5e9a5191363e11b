"""Lifting a file of 2D keypoints to 3D, and drawing what came out."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

import h2ot_core
from bench.data.cameras import normalise
from bench.data.keypoints import Keypoints, load_keypoints
from bench.data.skeleton import JOINT_NAMES, LEFT, PARENTS, RIGHT
from bench.errors import UsageError
from bench.weights import load_weights

Array = npt.NDArray[np.float32]

# Hosts whose published weights put out metres. The others put out image coordinates, which
# their own evaluation scales.
_METRES = ("mixste", "mhformer")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to lift, with what, and where to.

    Attributes:
        keypoints: the input; see :func:`bench.data.keypoints.load_keypoints`.
        out: the npz to write.
        arguments: for ``h2ot_core.build``; the host is "mixste" unless given.
        weights: a published checkpoint; None needs ``untrained``.
        untrained: lift with random weights, the same in every run.
        width, height: of the image, pixels; None means what the file says.
        person: whose detections to take; None means the surest of each frame.
        fps: frames per second of the video.
        flip: also lift the mirrored video and average.
        batch: windows per forward pass.
        device: "cpu" or "cuda".
        animate: a .gif or .mp4 to draw into; None draws nothing.
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
    animate: Path | None = None


def lift_file(job: Job, say: Callable[[str], None] = lambda line: None) -> None:
    """Lift a file of keypoints and write the poses.

    The npz appears whole or not at all, with ``poses_3d`` float32 (T, 17, 3) in the camera's axes
    (x right, y down, z away), as the model puts them out; ``frames`` (T,); ``fps``;
    ``joint_names`` (17,); ``config``, JSON arguments of ``h2ot_core.build``; ``weights``, a file
    name or "none"; ``unit``, "metres" where the host's published weights put out metres, else
    "unstated"; ``source``, what was read.

    Args:
        job: what to do.
        say: takes lines of progress for the user.

    Raises:
        UsageError: without weights, or if a file cannot be written or the device is not there.
        KeypointError: if the keypoints cannot be used.
        h2ot_core.ConfigError, h2ot_core.CheckpointError, h2ot_core.InputError: from building,
            loading and lifting.
    """
    _check(job)
    drawing = _drawing(job.animate, say) if job.animate is not None else None
    keypoints = load_keypoints(job.keypoints, width=job.width, height=job.height, person=job.person)
    say(keypoints.source)
    model = _model(job)
    poses = _lift(model, keypoints, job, say)
    trained = job.weights is not None and model.config.host in _METRES
    unit = "metres" if trained else "unstated"
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
    with _replacing(job.out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    say(f"{job.out}: poses_3d {poses.shape}, unit {unit}")
    if drawing is not None:
        say(f"{drawing}: {animate(drawing, poses, keypoints, fps=job.fps, unit=unit)}")


def network_input(keypoints: Keypoints, channels: int) -> Tensor:
    """Keypoints as a model takes them: float32 (T, 17, C_in), the third channel the confidence."""
    x = normalise(keypoints.pixels, keypoints.width, keypoints.height).astype(np.float32)
    if channels == 3:
        x = np.concatenate([x, keypoints.confidence[..., None]], axis=-1)
    return torch.from_numpy(x)


def _check(job: Job) -> None:
    """Find what is wrong before anything takes time."""
    if job.weights is None and not job.untrained:
        raise UsageError(
            "no --weights: a model without trained weights puts out noise, not poses; give the "
            "checkpoint of a published repository, or --untrained to try the command all the same"
        )
    if job.weights is not None and job.untrained:
        raise UsageError("--weights and --untrained exclude each other; give one")
    if job.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is there; leave --device out to use the CPU")
    if not (math.isfinite(job.fps) and job.fps > 0):
        raise UsageError(f"--fps must be above 0, got {job.fps}")
    if job.out.suffix != ".npz":
        raise UsageError(f"the poses are written as npz; give {job.out} the suffix .npz")
    if job.out.resolve() == job.keypoints.resolve():
        raise UsageError(f"{job.out} is the input; name another file to write")
    if job.animate is not None and job.animate.suffix not in (".gif", ".mp4"):
        raise UsageError(f"--animate writes .gif or .mp4, got {job.animate}")
    for path in (job.out, job.animate):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"cannot write {path}: no folder {path.parent}")


def _model(job: Job) -> h2ot_core.Hourglass:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = h2ot_core.build(**{"host": "mixste", **job.arguments})
    if job.weights is not None:
        load_weights(model, job.weights)
    return model.to(job.device).eval()


def _lift(
    model: h2ot_core.Hourglass, keypoints: Keypoints, job: Job, say: Callable[[str], None]
) -> Array:
    """Poses (T, 17, 3), with a progress line."""
    x = network_input(keypoints, model.host.channels)
    frames, config = len(x), model.config
    windows = frames if config.pipeline == "seq2frame" else -(-frames // config.frames)
    say(
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
    took = time.perf_counter() - start
    say(f"lifted in {took:.1f} s, {frames / took:.0f} frames per second")
    return poses.astype(np.float32)


@contextmanager
def _counted(model: h2ot_core.Hourglass, total: int) -> Iterator[None]:
    """Show on a progress line how many windows the model has run."""
    run = model.run
    with tqdm(total=total, desc="windows", file=sys.stderr, dynamic_ncols=True) as bar:

        def counting(x: Tensor, *args: Any, **options: Any) -> h2ot_core.Output:
            output = run(x, *args, **options)
            bar.update(x.shape[0])
            return output

        model.run = counting  # type: ignore[method-assign]
        try:
            yield
        finally:
            del model.run


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside the path, which takes its place when it is complete."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


# --- drawing -----------------------------------------------------------------------------------

_MOST = 300  # frames in an animation
_PER_SECOND = (10.0, 30.0)  # slowest and fastest an animation plays
# Colours that people with any colour vision can tell apart.
_SIDES = {"left": "#0072b2", "right": "#d55e00", "middle": "#555555"}
_BONES = [(parent, joint) for joint, parent in enumerate(PARENTS) if parent >= 0]


def _drawing(path: Path, say: Callable[[str], None]) -> Path:
    """Where to draw: a GIF in place of an MP4 where ffmpeg is not installed."""
    from matplotlib import animation

    if path.suffix == ".mp4" and not animation.writers.is_available("ffmpeg"):
        say(f"ffmpeg is not installed, so {path.with_suffix('.gif')} is drawn instead of an mp4")
        return path.with_suffix(".gif")
    return path


def animate(path: Path, poses: Array, keypoints: Keypoints, *, fps: float, unit: str) -> str:
    """Draw the 2D input and the 3D poses side by side, with axes that do not move.

    The 3D is seen a little from above and from the side of the camera, which is taken to stand
    level. The lowest joint of every frame is put on the ground, since the poses say nothing of
    where the body is.

    Args:
        path: a .gif, or a .mp4 where ffmpeg is installed; appears whole or not at all.
        poses: (T, 17, 3), camera axes (x right, y down, z away).
        keypoints: the input, T frames.
        fps: frames per second of the video.
        unit: of the poses, for the heading.

    Returns:
        How many frames were drawn, for the user.

    Raises:
        UsageError: if the file cannot be written.
    """
    from matplotlib import animation, style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stride = max(-(-len(poses) // _MOST), math.ceil(fps / _PER_SECOND[1]))
    rate = max(fps / stride, _PER_SECOND[0])
    chosen = range(0, len(poses), stride)
    bodies = _standing(poses[::stride])
    with style.context("default"):
        figure = Figure(figsize=(8, 4), dpi=96)
        FigureCanvasAgg(figure)
        flat = _flat(figure.add_axes((0.06, 0.09, 0.40, 0.78)), keypoints.pixels[::stride])
        deep = _deep(figure.add_axes((0.48, 0.0, 0.52, 0.9), projection="3d"), bodies, unit)
        label = figure.text(0.5, 0.965, "", ha="center", va="top", fontsize=9)
        for side, x in (("left", 0.06), ("right", 0.11)):
            figure.text(x, 0.965, side, va="top", fontsize=9, color=_SIDES[side])
        kind = animation.PillowWriter if path.suffix == ".gif" else animation.FFMpegWriter
        writer = kind(fps=rate)  # type: ignore[arg-type]  # any number will do
        with _replacing(path) as temporary, writer.saving(figure, str(temporary), 96):
            for i, body in zip(tqdm(chosen, "drawing", file=sys.stderr), bodies, strict=True):
                flat.set_segments(keypoints.pixels[i][_BONES])
                deep.set_segments(body[_BONES])
                label.set_text(f"frame {keypoints.frames[i]}, {i / fps:.2f} s")
                writer.grab_frame()
    every = "every frame" if stride == 1 else f"one frame in {stride}"
    speed = rate * stride / fps
    pace = "" if speed < 1.01 else f", {speed:.3g} times as fast as filmed"
    return f"{every} drawn, {len(chosen)} of {len(poses)}{pace}"


def _colours() -> list[str]:
    """Of each bone, by the side of its lower joint."""
    sides = {**dict.fromkeys(LEFT, "left"), **dict.fromkeys(RIGHT, "right")}
    return [_SIDES[sides.get(joint, "middle")] for _, joint in _BONES]


def _standing(poses: Array) -> Array:
    """Turn camera axes into x right, y away, z up, above the hip, the lowest joint at z = 0."""
    up = np.stack([poses[..., 0], poses[..., 2], -poses[..., 1]], axis=-1)
    up[..., :2] -= up[:, :1, :2]
    up[..., 2] -= up[..., 2].min(axis=1, keepdims=True)
    return up


def _flat(axes: Any, pixels: Array) -> Any:
    """Axes around all of the input, and the lines in them."""
    from matplotlib.collections import LineCollection

    low, high = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    (x, y), half = (low + high) / 2, max(0.55 * float((high - low).max()), 1.0)
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half), aspect="equal")
    axes.set_title("2D input, pixels", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    lines = LineCollection([], colors=_colours(), linewidths=2.5, capstyle="round")
    axes.add_collection(lines, autolim=False)
    return lines


def _deep(axes: Any, bodies: Array, unit: str) -> Any:
    """Axes that hold every body, and the lines in them."""
    from mpl_toolkits.mplot3d.art3d import Line3DCollection  # type: ignore[import-untyped]

    reach = 1.05 * max(float(np.abs(bodies[..., :2]).max()), float(bodies[..., 2].max()) / 2, 1e-6)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(0, 2 * reach))
    axes.set_box_aspect((1, 1, 1), zoom=1.1)
    axes.view_init(elev=12, azim=-65)
    axes.set_title("3D" if unit == "unstated" else f"3D, {unit}", fontsize=9, y=0.985)
    axes.tick_params(labelsize=6, pad=-2)
    for name in "xyz":
        axes.locator_params(axis=name, nbins=4)
    lines = Line3DCollection([], colors=_colours(), linewidths=2.5, capstyle="round")
    axes.add_collection3d(lines, autolim=False)
    return lines
