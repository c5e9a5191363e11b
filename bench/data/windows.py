"""Windows of motion as a network sees them: 2D detections in, 3D targets out."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from bench.data.cameras import H36M_CAMERAS, Camera, normalise, project, world_to_camera
from bench.data.readers.motion import Clip, MotionError, Split, load_motion
from bench.data.synthetic.detector import DetectorNoise
from bench.data.synthetic.generator import FPS, generate

Array = npt.NDArray[np.float32]
T = TypeVar("T")

NEAREST_M: Final = 0.5
"""A view in which a joint is less deep than this in front of the camera is left out, metres."""

MARGIN: Final = 0.25
"""Share of the image size by which joints may leave the image before a view is left out."""


@dataclass(frozen=True, eq=False)
class Window:
    """F consecutive frames of one clip seen by one camera.

    Attributes:
        detected_px: float32 (F, 17, 2), pixels with detector error.
        clean_px: float32 (F, 17, 2), exact pixels.
        input: float32 (F, 17, 2), the detections normalised for a network.
        target: float32 (F, 17, 3), metres, camera frame, relative to joint 0 (which is zero).
        clip: name of the clip.
        action: of the clip.
        camera: id of the camera.
        start: frame of the clip at which the window begins.
    """

    detected_px: Array
    clean_px: Array
    input: Array
    target: Array
    clip: str
    action: str
    camera: str
    start: int


@dataclass(frozen=True, eq=False)
class View:
    """A clip of T frames as one camera sees it.

    Attributes:
        clip: the clip itself.
        camera: the camera itself.
        clean_px, target: as in `Window`, for all T frames.
        usable: bool (T,), frames that a window may contain.
        noise: the model of detector error.
        seed: of the detector error.
    """

    clip: Clip
    camera: Camera
    clean_px: Array
    target: Array
    usable: npt.NDArray[np.bool_]
    noise: DetectorNoise
    seed: int

    @cached_property
    def detected_px(self) -> Array:
        """As in `Window`, for all T frames; depends on seed, clip and camera alone."""
        digest = hashlib.sha256(f"{self.seed}/{self.clip.name}/{self.camera.id}".encode()).digest()
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
        return _frozen(self.noise.detect(self.clean_px, rng))

    @cached_property
    def input(self) -> Array:
        """As in `Window`, for all T frames."""
        return _frozen(normalise(self.detected_px, self.camera.width, self.camera.height))

    def window(self, start: int, frames: int) -> Window:
        """Return the frames from `start` on; the arrays are slices of this view's."""
        cut = slice(start, start + frames)
        return Window(
            detected_px=self.detected_px[cut],
            clean_px=self.clean_px[cut],
            input=self.input[cut],
            target=self.target[cut],
            clip=self.clip.name,
            action=self.clip.action,
            camera=self.camera.id,
            start=start,
        )


class MotionSource:
    """Where windows come from: generated motion or a motion file.

    Make one with `MotionSource.generated` or `MotionSource.from_file`. Views are cached, so
    that later calls are fast.

    Attributes:
        name: short and stable, for record keys: `generated:<seed>`, or
            `motion:<file stem>:<first 8 hex digits of the file's sha256>`.
        description: one sentence for the heading of a report.
        noise: the model of detector error.
        fps: frames per second of the clips.
    """

    def __init__(
        self,
        name: str,
        description: str,
        clips: Callable[[Split], list[Clip]],
        noise: DetectorNoise,
        fps: int = FPS,
    ) -> None:
        self.name = name
        self.description = description
        self.noise = noise
        self.fps = fps
        self._load = clips
        self._clips: dict[Split, list[Clip]] = {}
        self._views: dict[tuple[Split, str, int], list[list[View]]] = {}

    @classmethod
    def generated(
        cls, seed: int = 0, *, frames: int = 1215, noise: DetectorNoise | None = None
    ) -> Self:
        """Use procedurally generated motion, one clip per activity.

        Args:
            seed: of the motion; the detector error has its own.
            frames: length of every clip.
            noise: model of detector error; None means its defaults.

        Raises:
            MotionError: `seed` or `frames` is out of range.
        """
        count = len(generate(seed=seed, frames=frames, split="test"))
        return cls(
            # The length shows only where it is not the usual one, so that names stay short.
            f"generated:{seed}" + ("" if frames == 1215 else f":{frames}"),
            f"Procedurally generated motion (seed {seed}), not recorded motion: {count} clips of "
            f"{frames} frames at 50 Hz in each split, {count * frames} frames.",
            lambda split: generate(seed=seed, frames=frames, split=split),
            noise or DetectorNoise(),
        )

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, noise: DetectorNoise | None = None) -> Self:
        """Use an open motion file.

        Args:
            path: npz as described in `bench.data.readers.motion`.
            noise: model of detector error; None means its defaults.

        Raises:
            MotionError: the file cannot be used; see `load_motion`.
        """
        clips = load_motion(path)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:8]
        counts = {part: _frames(c for c in clips if c.split == part) for part in _SPLITS}
        stem = Path(path).stem
        return cls(
            f"motion:{stem}:{digest}",
            f"Motion file {stem} (sha256 {digest}): {len(clips)} clips, {_frames(clips)} frames at "
            f"{clips[0].fps} Hz ({counts['train']} train, {counts['test']} test).",
            lambda split: [clip for clip in clips if clip.split == split],
            noise or DetectorNoise(),
            clips[0].fps,
        )

    def windows(
        self,
        frames: int,
        *,
        split: Split = "test",
        stride: int | None = None,
        limit: int | None = None,
        cameras: Sequence[str] | None = None,
        subject: str = "S9",
        seed: int = 0,
    ) -> list[Window]:
        """Cut the motion into windows.

        Each clip is moved horizontally so that its mean root is at the origin, and is seen by the
        four cameras of one Human3.6M subject. Left out are clips shorter than `frames`, the tail
        of a clip that fills no window, and windows in which a joint comes closer than `NEAREST_M`
        to the camera's plane or leaves the image by more than `MARGIN` of its size.

        Args:
            frames: F, length of a window.
            split: `train` or `test`.
            stride: frames between the starts of neighbouring windows; None means `frames`.
            limit: most windows to return, spread over clips first, then cameras, then time.
            cameras: ids of the cameras to use; None means all four.
            subject: whose camera positions to use, a key of `H36M_CAMERAS`.
            seed: of the detector error, which depends on (seed, clip, camera) alone: a window is
                the same whatever the limit, the stride or the cameras beside it.

        Returns:
            At least one window, ordered by clip, camera (table order) and start.

        Raises:
            MotionError: a number is out of range, or no window is left.
            KeyError: an unknown subject or camera; lists those that exist.
        """
        stride = frames if stride is None else stride
        if min(frames, stride, 1 if limit is None else limit) < 1:
            raise MotionError(
                f"frames is {frames}, stride {stride}, limit {limit}; expected whole numbers above "
                "0, or None for stride and limit"
            )
        per_clip = self._kept_views(split, subject, seed)
        chosen = _chosen(subject, cameras)
        places: list[list[tuple[int, int, int]]] = []  # per clip: (clip, camera, start)
        for i, views in enumerate(per_clip):
            last = len(views[0].clip.positions) - frames
            starts = range(0, last + 1, stride)
            usable = {
                c: [s for s in starts if views[c].usable[s : s + frames].all()] for c in chosen
            }
            places.append(_interleave(i, usable))
        if not any(places):
            raise self._nothing_left(frames, split, subject, per_clip)
        return [
            per_clip[i][c].window(start, frames) for i, c, start in sorted(_spread(places, limit))
        ]

    def views(
        self,
        *,
        split: Split = "test",
        subject: str | Callable[[Clip], str] = "S9",
        seed: int = 0,
    ) -> Iterator[View]:
        """Yield every clip as each of four cameras sees it, in the order of `windows`.

        A window is a cut of a view: for equal clip, camera, subject and seed they hold the same
        numbers. Views are made one at a time and not cached.

        Args:
            split: `train` or `test`.
            subject: whose camera positions to use, or which to use for a clip.
            seed: of the detector error.

        Raises:
            MotionError: there is no such split.
            KeyError: an unknown subject; lists those that exist.
        """
        for clip in self.clips(split):
            of = subject if isinstance(subject, str) else subject(clip)
            for camera in _cameras(of):
                yield self._view(clip, camera, seed)

    def clips(self, split: Split) -> list[Clip]:
        """Return the clips of a split, loaded once."""
        if split not in _SPLITS:
            raise MotionError(f"split is {split!r}; expected 'train' or 'test'")
        if split not in self._clips:
            self._clips[split] = self._load(split)
        return self._clips[split]

    def _kept_views(self, split: Split, subject: str, seed: int) -> list[list[View]]:
        """Return, per clip of the split, its views by the subject's cameras."""
        clips, cameras, key = self.clips(split), _cameras(subject), (split, subject, seed)
        if key not in self._views:
            self._views[key] = [[self._view(clip, c, seed) for c in cameras] for clip in clips]
        return self._views[key]

    def _view(self, clip: Clip, camera: Camera, seed: int) -> View:
        """Project one clip to one camera."""
        world = clip.positions.astype(np.float64)
        world[..., :2] -= world[:, 0, :2].mean(axis=0)
        points = world_to_camera(world, camera)
        near = (points[..., 2] < NEAREST_M).any(axis=-1)
        # Near points are projected as if at that depth, so that nothing divides by zero.
        depth = np.maximum(points[..., 2:], NEAREST_M)
        pixels = project(np.concatenate([points[..., :2], depth], axis=-1), camera)
        size = np.array([camera.width, camera.height])
        outside = ((pixels < -MARGIN * size) | (pixels > (1 + MARGIN) * size)).any(axis=(-2, -1))
        target = _frozen(points - points[:, :1])
        usable = np.asarray(~(near | outside))
        return View(clip, camera, _frozen(pixels), target, usable, self.noise, seed)

    def _nothing_left(
        self, frames: int, split: Split, subject: str, per_clip: list[list[View]]
    ) -> MotionError:
        """Explain why there is no window."""
        lengths = sorted(len(views[0].clip.positions) for views in per_clip)
        if not lengths:
            return MotionError(f"{self.name} has no clips in split {split!r}; use the other split")
        clips = (
            f"the {len(lengths)} clips of split {split!r} have {lengths[0]} to {lengths[-1]} "
            f"frames (median {lengths[len(lengths) // 2]})"
        )
        if lengths[-1] < frames:
            return MotionError(
                f"{self.name} has no window of {frames} frames: {clips}; ask for at most "
                f"{lengths[-1]} or use longer clips"
            )
        return MotionError(
            f"{self.name} has no usable window of {frames} frames: {clips}, but in every window a "
            f"joint comes within {NEAREST_M} m of a camera of {subject} or leaves its image by "
            f"more than {MARGIN:.0%}; check that positions are metres with z up, or ask for fewer "
            "frames"
        )


def batch(windows: Sequence[Window], channels: int = 2) -> Array:
    """Stack the network inputs of windows.

    Args:
        windows: at least one, all of F frames.
        channels: 2, or 3 for hosts that take a detector's confidence, which is 1 throughout.

    Returns:
        float32 (B, F, 17, channels), a copy.

    Raises:
        MotionError: there is no window, or they differ in length.
    """
    lengths = sorted({len(window.input) for window in windows})
    if len(lengths) != 1:
        raise MotionError(
            f"cannot stack {len(windows)} windows of lengths {lengths}; expected at least one, "
            "all of one length"
        )
    x = np.stack([window.input for window in windows])
    confidence = np.ones((*x.shape[:-1], channels - x.shape[-1]), dtype=x.dtype)
    return np.concatenate([x, confidence], axis=-1)


_SPLITS: Final[tuple[Split, ...]] = ("train", "test")


def _frames(clips: Iterable[Clip]) -> int:
    """Count frames."""
    return sum(len(clip.positions) for clip in clips)


def _frozen(values: npt.NDArray[np.floating[Any]]) -> Array:
    """Return a read-only float32 copy, because windows share cached arrays."""
    copy = values.astype(np.float32)
    copy.flags.writeable = False
    return copy


def _cameras(subject: str) -> tuple[Camera, ...]:
    """Return the cameras of a subject, or raise an error that lists the subjects."""
    if subject not in H36M_CAMERAS:
        raise KeyError(f"no cameras of {subject!r}; there are {', '.join(H36M_CAMERAS)}")
    return H36M_CAMERAS[subject]


def _chosen(subject: str, cameras: Sequence[str] | None) -> list[int]:
    """Return the positions, in the subject's table, of some cameras."""
    ids = [camera.id for camera in H36M_CAMERAS[subject]]
    for camera in cameras or ():
        if camera not in ids:
            raise KeyError(f"no camera {camera!r}; there are {', '.join(ids)}")
    if cameras is not None and not cameras:
        raise MotionError("cameras is empty; expected ids, or None for all four")
    return [i for i, camera in enumerate(ids) if cameras is None or camera in cameras]


def _interleave(clip: int, usable: dict[int, list[int]]) -> list[tuple[int, int, int]]:
    """Order the windows of one clip so that any first few lie on different cameras and times.

    Each clip begins elsewhere, at multiples of two irrational numbers, because any regular offset
    would make some `limit` take the same camera, or the same moment, of every clip.
    """
    columns = [
        [(clip, camera, start) for start in _scatter(_rolled(starts, clip * 2**0.5))]
        for camera, starts in usable.items()
    ]
    columns = _rolled(columns, clip * (5**0.5 - 1) / 2)
    rounds = max(map(len, columns))
    return [column[k] for k in range(rounds) for column in columns if k < len(column)]


def _rolled(values: list[T], turns: float) -> list[T]:
    """Rotate a list to the left by the fractional part of `turns`."""
    first = int(turns % 1.0 * len(values))
    return values[first:] + values[:first]


def _scatter(values: list[int]) -> list[int]:
    """Reorder so that any first few are far apart: the start, the half, the quarters, and so on."""
    width = max(len(values) - 1, 0).bit_length()
    order = (int(f"{i:0{width}b}"[::-1], 2) if width else 0 for i in range(1 << width))
    return [values[i] for i in order if i < len(values)]


def _spread(
    places: list[list[tuple[int, int, int]]], limit: int | None
) -> list[tuple[int, int, int]]:
    """Choose up to `limit` places, one per clip and round; a short last round skips evenly."""
    chosen: list[tuple[int, int, int]] = []
    for k in range(max(map(len, places))):
        row = [column[k] for column in places if k < len(column)]
        room = len(row) if limit is None else min(limit - len(chosen), len(row))
        chosen += [row[i * len(row) // room] for i in range(room)]
    return chosen
