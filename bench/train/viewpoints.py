"""Training windows from random viewpoints: world motion in, 2D and 3D windows out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.cameras import H36M_CAMERAS, Camera, normalise, project, world_to_camera
from bench.data.readers.motion import Clip
from bench.data.sequences import DataError
from bench.data.skeleton import LEFT, RIGHT
from bench.data.synthetic.detector import DetectorNoise
from bench.data.windows import MARGIN, NEAREST_M

Array = npt.NDArray[np.float32]

CAMERA_SUBJECTS = ("S1", "S5", "S6", "S7", "S8")
"""Whose cameras are used in training; tests use those of S9."""

_TRIES = 20


@dataclass(frozen=True, eq=False)
class Viewpoints:
    """Draws windows of motion, each rotated, moved and projected by a random camera.

    A window is rotated about the vertical by a random angle, its mean root is placed within
    `spread` of the origin, one of the 20 training cameras projects it, detector noise is added,
    and half of all windows are mirrored.

    Attributes:
        clips: motion to draw from; those shorter than a window are held at both ends.
        noise: model of detector error.
        spread: metres, half the side of the square in which the mean root lies.
        shortest: share of a window that a clip must fill to be drawn from.
    """

    clips: Sequence[Clip]
    noise: DetectorNoise = field(default_factory=DetectorNoise)
    spread: float = 1.0
    shortest: float = 0.75

    def __post_init__(self) -> None:
        positions = np.concatenate([clip.positions for clip in self.clips])
        lengths = np.array([len(clip.positions) for clip in self.clips])
        object.__setattr__(self, "_positions", positions)
        object.__setattr__(self, "_lengths", lengths)
        object.__setattr__(self, "_starts", np.cumsum(lengths) - lengths)
        cameras = [camera for subject in CAMERA_SUBJECTS for camera in H36M_CAMERAS[subject]]
        object.__setattr__(self, "_cameras", cameras)

    def draw(self, rng: np.random.Generator, frames: int, count: int) -> tuple[Array, Array]:
        """Draw windows.

        Args:
            rng: stream of random numbers; equal streams give equal windows.
            frames: F, length of a window.
            count: B, number of windows.

        Returns:
            Network input (B, F, 17, 2) and target (B, F, 17, 3) in metres, relative to joint 0.

        Raises:
            DataError: no clip is long enough, or the motion cannot be kept in view.
        """
        lengths: npt.NDArray[np.int64] = self._lengths  # type: ignore[attr-defined]
        eligible = np.flatnonzero(lengths >= self.shortest * frames)
        if not len(eligible):
            raise DataError(
                f"no clip is long enough for windows of {frames} frames: the longest of "
                f"{len(lengths)} has {lengths.max()}; use shorter windows or longer clips"
            )
        # Every possible start of a window is equally likely.
        places = np.maximum(lengths[eligible] - frames + 1, 1)
        picks = eligible[
            np.searchsorted(np.cumsum(places), rng.integers(places.sum(), size=count), side="right")
        ]
        drawn = [self._window(rng, int(clip), frames) for clip in picks]
        return np.stack([x for x, _ in drawn]), np.stack([y for _, y in drawn])

    def _window(self, rng: np.random.Generator, clip: int, frames: int) -> tuple[Array, Array]:
        length = int(self._lengths[clip])  # type: ignore[attr-defined]
        if length >= frames:
            index = rng.integers(length - frames + 1) + np.arange(frames)
        else:
            index = np.clip(np.arange(frames) - (frames - length) // 2, 0, length - 1)
        first = self._starts[clip]  # type: ignore[attr-defined]
        world = self._positions[first + index].astype(np.float64)  # type: ignore[attr-defined]
        world[..., :2] -= world[:, 0, :2].mean(axis=0)
        for attempt in range(_TRIES):
            # With every failed attempt the motion moves closer to the centre.
            reach = self.spread * (1 - attempt / _TRIES)
            seen = self._seen(rng, world, reach)
            if seen is not None:
                return seen
        raise DataError(
            f"clip {self.clips[clip].name!r} cannot be kept in view of any camera over {frames} "
            f"frames; leave it out or use shorter windows"
        )

    def _seen(
        self, rng: np.random.Generator, world: npt.NDArray[np.float64], reach: float
    ) -> tuple[Array, Array] | None:
        """One window from one viewpoint, or None if a joint is too near or out of the image."""
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        moved = world.copy()
        moved[..., :2] = world[..., :2] @ turn + rng.uniform(-reach, reach, 2)
        cameras: Sequence[Camera] = self._cameras  # type: ignore[attr-defined]
        camera = cameras[int(rng.integers(len(cameras)))]
        points = world_to_camera(moved, camera)
        if points[..., 2].min() < NEAREST_M:
            return None
        pixels = project(points, camera)
        size = np.array([camera.width, camera.height])
        if (pixels < -MARGIN * size).any() or (pixels > (1 + MARGIN) * size).any():
            return None
        detected = self.noise.detect(pixels, rng)
        x = normalise(detected, camera.width, camera.height).astype(np.float32)
        y = (points - points[:, :1]).astype(np.float32)
        return (mirrored(x), mirrored(y)) if rng.random() < 0.5 else (x, y)


def mirrored(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Negate x and exchange left and right Human3.6M joints; (..., 17, C) to the same."""
    order = np.arange(values.shape[-2])
    order[[*LEFT, *RIGHT]] = [*RIGHT, *LEFT]
    flipped = values[..., order, :].copy()
    flipped[..., 0] *= -1
    return flipped
