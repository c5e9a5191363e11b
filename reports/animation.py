"""Lifted poses as an animation: the 2D input and the 3D side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import animation, style
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection  # type: ignore[import-untyped]

from bench.data.readers.keypoints import Keypoints
from bench.data.skeleton import LEFT, PARENTS, RIGHT
from bench.records.errors import UsageError
from bench.records.files import replacing
from bench.records.progress import progress

Array = npt.NDArray[np.float32]

_MAX_FRAMES = 300  # frames in an animation
_FRAME_RATES = (10.0, 30.0)  # slowest and fastest an animation plays
# Colours that people with any colour vision can tell apart.
_SIDES = {"left": "#0072b2", "right": "#d55e00", "middle": "#555555"}
_BONES = [(parent, joint) for joint, parent in enumerate(PARENTS) if parent >= 0]


def check_target(path: Path, say: Callable[[str], None] = lambda line: None) -> Path:
    """The path to draw to: a GIF instead of an MP4 where ffmpeg is not installed.

    Args:
        path: as the user wrote it.
        say: called with a line where another file is drawn.

    Raises:
        UsageError: if the suffix is another, or there is no such folder.
    """
    if path.suffix not in (".gif", ".mp4"):
        raise UsageError(f"--animate writes .gif or .mp4, got {path}")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: no folder {path.parent}")
    if path.suffix == ".mp4" and not animation.writers.is_available("ffmpeg"):
        say(f"ffmpeg is not installed, so {path.with_suffix('.gif')} is drawn instead of an mp4")
        return path.with_suffix(".gif")
    return path


def animate(path: Path, poses: Array, keypoints: Keypoints, *, fps: float, unit: str) -> str:
    """Draw the 2D input and the 3D poses side by side, with axes that do not move.

    The 3D view is from slightly above and beside the camera, which is assumed to be level. The
    lowest joint of every frame is put on the ground, since the poses have no global position.

    Args:
        path: a .gif, or a .mp4 where ffmpeg is installed; written atomically.
        poses: (T, 17, 3), camera axes (x right, y down, z away).
        keypoints: the input, T frames.
        fps: frames per second of the video.
        unit: of the poses, for the heading.

    Returns:
        How many frames were drawn, for the user.

    Raises:
        UsageError: if the file cannot be written.
    """
    stride = max(-(-len(poses) // _MAX_FRAMES), math.ceil(fps / _FRAME_RATES[1]))
    rate = max(fps / stride, _FRAME_RATES[0])
    chosen = range(0, len(poses), stride)
    bodies = _standing(poses[::stride])
    with style.context("default"):
        figure = Figure(figsize=(8, 4), dpi=96)
        flat = _flat(figure.add_axes((0.06, 0.09, 0.40, 0.78)), keypoints.pixels[::stride])
        deep = _deep(figure.add_axes((0.48, 0.0, 0.52, 0.9), projection="3d"), bodies, unit)
        label = figure.text(0.5, 0.965, "", ha="center", va="top", fontsize=9)
        for side, x in (("left", 0.06), ("right", 0.11)):
            figure.text(x, 0.965, side, va="top", fontsize=9, color=_SIDES[side])
        kind = animation.PillowWriter if path.suffix == ".gif" else animation.FFMpegWriter
        writer = kind(fps=rate)  # type: ignore[arg-type]  # any number will do
        with (
            replacing(path) as temporary,
            writer.saving(figure, str(temporary), 96),
            progress("drawing", len(chosen), unit="frame") as tick,
        ):
            for i, body in zip(chosen, bodies, strict=True):
                flat.set_segments(keypoints.pixels[i][_BONES])
                deep.set_segments(body[_BONES])
                label.set_text(f"frame {keypoints.frames[i]}, {i / fps:.2f} s")
                writer.grab_frame()
                tick()
    every = "every frame" if stride == 1 else f"one frame in {stride}"
    speed = rate * stride / fps
    pace = "" if speed < 1.01 else f", {speed:.3g} times as fast as filmed"
    return f"{every} drawn, {len(chosen)} of {len(poses)}{pace}"


def _colours() -> list[str]:
    """Colour of each bone, by the side of its lower joint."""
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
