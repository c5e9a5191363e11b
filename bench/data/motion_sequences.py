"""Takes from the open motion format and from generated motion, seen by simulated cameras."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from bench.data.cameras import H36M_CAMERAS, normalise
from bench.data.readers.motion import Clip
from bench.data.sequences import Array, DataError, DataSet, Mask, MotionSequence, Split
from bench.data.synthetic.detector import DetectorNoise
from bench.data.windows import MARGIN, NEAREST_M, MotionSource, View

TEST_CAMERAS: Final = "S9"
"""The subject whose four camera placements the test split is seen by."""

TRAIN_CAMERAS: Final = ("S1", "S5", "S6", "S7", "S8")
"""Those of the train split, one subject's per clip."""

_TO_MM: Final = 1000.0


def motion_data(
    source: MotionSource, *, detector: str | None = None, seed: int = 0, subject: str = TEST_CAMERAS
) -> DataSet:
    """Turn motion into sequences: every clip x the four cameras of one Human3.6M subject.

    The cameras of a test clip stand where they stood for `subject`. Those of a train clip stand
    where they stood for one of S1, S5, S6, S7 and S8, chosen by the SHA-256 of the clip's name, so
    that training sees other placements than the test, as in Human3.6M. Frames in which a window
    would not be usable (a joint within `NEAREST_M` of the camera's plane or further than `MARGIN`
    outside the image) are left out: each maximal run of the other frames is a sequence. The first
    of a view is named "clip/camera", later ones "clip/camera/2" and so on.

    Args:
        source: where clips and the model of detector error come from; the data set has its name.
        detector: None for the source's noise, whose tag names the detector; "gt" for exact 2D.
        seed: of the detector error; equal to that of `MotionSource.windows` for equal numbers.
        subject: whose cameras see the test split, a key of `H36M_CAMERAS`.

    Returns:
        Takes with input (T, 17, 2), target in metres and `to_mm` 1000 throughout.

    Raises:
        ValueError: `detector` is something else.
        KeyError: an unknown subject; lists those that exist.
    """
    if detector not in (None, "gt"):
        raise ValueError(f"detector is {detector!r}; expected None or 'gt' for motion")
    if subject not in H36M_CAMERAS:
        raise KeyError(f"no cameras of {subject!r}; there are {', '.join(H36M_CAMERAS)}")
    notes: list[str] = []

    def load(split: Split) -> Sequence[MotionSequence]:
        sequences: list[MotionSequence] = []
        seen = used = 0
        of = subject if split == "test" else train_cameras
        for view in source.views(split=split, subject=of, seed=seed):
            runs = list(_sequences(view, exact=detector == "gt"))
            sequences += runs
            seen += len(view.usable)
            used += sum(map(len, runs))
        if used < seen:
            notes.append(
                f"{split}: {seen - used} of {seen} frames left out, where a joint comes within "
                f"{NEAREST_M} m of the camera or leaves the image by more than {MARGIN:.0%}"
            )
        return sequences

    return DataSet(
        name=source.name,
        description=source.description,
        detector=detector or source.noise.tag,
        fps=source.fps,
        load=load,
        notes=notes,
    )


def load_motion_file(
    path: str, *, detector: str | None = None, noise: DetectorNoise | None = None
) -> DataSet:
    """Read an open motion file; see :func:`motion_data` for the arguments."""
    return motion_data(MotionSource.from_file(path, noise=noise), detector=detector)


def load_generated(
    place: str, *, detector: str | None = None, noise: DetectorNoise | None = None
) -> DataSet:
    """Generate motion.

    Args:
        place: "", "SEED" or "SEED:FRAMES"; seed 0 and 1215 frames per clip are the defaults.
        detector, noise: see :func:`motion_data`.

    Raises:
        DataError: `place` is something else.
    """
    seed, _, frames = place.partition(":")
    try:
        numbers = int(seed or 0), int(frames or 1215)
    except ValueError:
        raise DataError(
            f"generated:{place} has no whole number as its seed; expected generated, "
            "generated:SEED or generated:SEED:FRAMES, such as generated:0"
        ) from None
    source = MotionSource.generated(numbers[0], frames=numbers[1], noise=noise)
    return motion_data(source, detector=detector)


def train_cameras(clip: Clip) -> str:
    """Return the subject whose cameras see a train clip; depends on the clip's name alone."""
    digest = hashlib.sha256(clip.name.encode()).digest()
    return TRAIN_CAMERAS[int.from_bytes(digest[:8], "little") % len(TRAIN_CAMERAS)]


def runs_of(mask: Mask) -> list[slice]:
    """Return the maximal runs of true values of a mask (T,), in order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _sequences(view: View, *, exact: bool) -> Iterator[MotionSequence]:
    """Cut a view into its usable runs."""
    clip, camera = view.clip, view.camera
    x: Array = view.input
    if exact:
        x = normalise(view.clean_px, camera.width, camera.height).astype(np.float32)
    for k, cut in enumerate(runs_of(view.usable), start=1):
        target = view.target[cut]
        yield MotionSequence(
            name=f"{clip.name}/{camera.id}" + (f"/{k}" if k > 1 else ""),
            clip=clip.name,
            subject=clip.subject,
            action=clip.action,
            camera=camera.id,
            input=x[cut],
            target=target,
            truth_mm=target * np.float32(_TO_MM),
            to_mm=np.full(len(target), _TO_MM, dtype=np.float32),
            valid=np.ones(len(target), dtype=np.bool_),
        )
