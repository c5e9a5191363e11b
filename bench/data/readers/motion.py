"""Clips of motion and the open motion file they are stored in.

The file is an npz of plain arrays (never pickles): `positions` (sum of T, 17, 3) float32 metres,
`starts` (N + 1,) integers, `names`, `subjects`, `actions`, `split` (N,) strings, `fps` (), and
`joint_names` (17,). `descriptions`, `skeleton`, `source`, `parents` and `license` are written
too; readers do not need them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from bench.data.readers.plain_npz import read_arrays
from bench.data.skeleton import JOINT_NAMES, PARENTS
from bench.records.errors import UsageError
from bench.records.files import replacing

Array = npt.NDArray[np.float32]
Split = Literal["train", "test"]

_PER_CLIP: Final = ("names", "subjects", "actions", "split")
_REQUIRED: Final = ("positions", "starts", *_PER_CLIP, "fps", "joint_names")


class MotionError(UsageError, ValueError):
    """Unusable motion; the message has the value, what was expected and the remedy."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One continuous stretch of one person's motion.

    Attributes:
        name: unique within its file or generator call.
        subject: the person, as the source names them.
        action: what is done, e.g. `walking`.
        split: `train` or `test`.
        positions: float32 (T, 17, 3), metres, world frame, right-handed, z up.
        fps: frames per second.
    """

    name: str
    subject: str
    action: str
    split: Split
    positions: Array
    fps: int


def load_motion(path: str | os.PathLike[str]) -> list[Clip]:
    """Read every clip of an open motion file.

    Args:
        path: an npz with the arrays named at the top of this module. Pickles are never loaded.

    Returns:
        The clips in file order; their positions are read-only views of one array. Any
        positive integer frame rate is accepted.

    Raises:
        MotionError: the file is missing, is no npz, is torn, lacks an array, or holds arrays of
            another shape, type, joint order or with frames that are not finite.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    positions, starts = arrays["positions"], arrays["starts"]
    if positions.dtype != np.float32 or positions.ndim != 3 or positions.shape[1:] != (17, 3):
        raise MotionError(
            f"{path}: array 'positions' is {positions.dtype} {positions.shape}, expected float32 "
            "(frames, 17, 3) in metres; reorder to the 17 joints and store with .astype('float32')"
        )
    _check_starts(path, starts, len(positions))
    clips = len(starts) - 1
    for name in _PER_CLIP:
        if arrays[name].dtype.kind != "U" or arrays[name].shape != (clips,):
            raise MotionError(
                f"{path}: array {name!r} is {arrays[name].dtype} {arrays[name].shape}, expected "
                f"one string per clip, shape ({clips},); store it as np.array(list_of_str)"
            )
    _check_labels(path, arrays["names"].tolist(), arrays["split"].tolist())
    _check_joints(path, arrays)
    fps = _check_fps(path, arrays["fps"])
    _check_finite(path, positions, starts, arrays["names"].tolist())
    frames = np.asarray(positions, dtype=np.float32)
    frames.flags.writeable = False
    return [
        Clip(
            name=str(arrays["names"][i]),
            subject=str(arrays["subjects"][i]),
            action=str(arrays["actions"][i]),
            split="train" if arrays["split"][i] == "train" else "test",
            positions=frames[starts[i] : starts[i + 1]],
            fps=fps,
        )
        for i in range(clips)
    ]


def save_motion(
    path: str | os.PathLike[str],
    clips: Sequence[Clip],
    *,
    source: str = "unstated",
    license: str = "No terms were stated when this file was written.",
) -> None:
    """Write clips to an open motion file, so that `load_motion` returns the same clips.

    The file is written atomically: to a temporary file beside it, which then replaces it.

    Args:
        path: where to write; an existing file is replaced. No suffix is added.
        clips: at least one; names unique, one frame rate for all.
        source: where the motion comes from, stored once per clip.
        license: terms of use, stored as they are.

    Raises:
        MotionError: the clips do not fit one file.
    """
    path = Path(path)
    if not clips:
        raise MotionError(f"{path}: no clips to save; a motion file holds at least one clip")
    if len({clip.fps for clip in clips}) > 1:
        raise MotionError(
            f"{path}: clips have frame rates {sorted({clip.fps for clip in clips})}, but a motion "
            "file has one; resample them or save one file per rate"
        )
    for clip in clips:
        shape, dtype = clip.positions.shape, clip.positions.dtype
        if dtype != np.float32 or len(shape) != 3 or shape[1:] != (17, 3) or not shape[0]:
            raise MotionError(
                f"{path}: clip {clip.name!r} has positions {dtype} {shape}, expected float32 "
                "(frames, 17, 3) with at least one frame"
            )
    positions = np.concatenate([clip.positions for clip in clips])
    starts = np.cumsum([0, *(len(clip.positions) for clip in clips)], dtype=np.int64)
    names = [clip.name for clip in clips]
    _check_labels(path, names, [clip.split for clip in clips])
    _check_finite(path, positions, starts, names)
    arrays: dict[str, Any] = {
        "positions": positions,
        "starts": starts,
        "names": np.array(names, dtype=np.str_),
        "subjects": np.array([clip.subject for clip in clips], dtype=np.str_),
        "actions": np.array([clip.action for clip in clips], dtype=np.str_),
        "descriptions": np.array([clip.action for clip in clips], dtype=np.str_),
        "split": np.array([clip.split for clip in clips], dtype=np.str_),
        "skeleton": np.array([clip.subject for clip in clips], dtype=np.str_),
        "source": np.array([source] * len(clips), dtype=np.str_),
        "fps": np.array(clips[0].fps, dtype=np.int64),
        "joint_names": np.array(JOINT_NAMES, dtype=np.str_),
        "parents": np.array(PARENTS, dtype=np.int64),
        "license": np.array(license, dtype=np.str_),
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _read_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read the required arrays, and `parents` where present."""
    if not path.is_file():
        raise MotionError(
            f"{path}: no such file; expected an open motion file (.npz), so check the path or "
            "use generated motion"
        )
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            raise MotionError(
                f"{path}: not an npz (npz files are zip archives and start with 'PK'); expected an "
                "open motion file as written by save_motion"
            )

    def choose(names: list[str]) -> list[str]:
        missing = [name for name in _REQUIRED if name not in names]
        if missing:
            raise MotionError(
                f"{path}: missing array {', '.join(map(repr, missing))}; it has "
                f"{', '.join(map(repr, names)) or 'no arrays'}, expected at least "
                f"{', '.join(map(repr, _REQUIRED))}"
            )
        return [*_REQUIRED, *(["parents"] if "parents" in names else [])]

    return read_arrays(path, choose, MotionError)


def _check_starts(path: Path, starts: npt.NDArray[np.generic], frames: int) -> None:
    """Raise unless `starts` cuts all frames into clips of at least one frame."""
    if starts.dtype.kind not in "iu" or starts.ndim != 1 or len(starts) < 2:
        raise MotionError(
            f"{path}: array 'starts' is {starts.dtype} {starts.shape}, expected integers "
            "(clips + 1,) with at least one clip"
        )
    bounds = starts.astype(np.int64)
    if (np.diff(bounds) <= 0).any():
        at = int(np.argmax(np.diff(bounds) <= 0))
        raise MotionError(
            f"{path}: array 'starts' is not increasing: starts[{at}] = {bounds[at]}, "
            f"starts[{at + 1}] = {bounds[at + 1]}; every clip needs at least one frame"
        )
    if bounds[0] != 0 or bounds[-1] != frames:
        raise MotionError(
            f"{path}: array 'starts' runs from {bounds[0]} to {bounds[-1]}, expected 0 to {frames} "
            "(the number of frames in 'positions'), so that the clips cover all frames"
        )


def _check_labels(path: Path, names: Sequence[str], split: Sequence[str]) -> None:
    """Raise unless clip names are unique and every split is `train` or `test`."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise MotionError(
                f"{path}: two clips are named {name!r}; records are keyed by clip name, so give "
                "each clip its own"
            )
        seen.add(name)
    for name, part in zip(names, split, strict=True):
        if part not in ("train", "test"):
            raise MotionError(
                f"{path}: clip {name!r} is in split {part!r}, expected 'train' or 'test'"
            )


def _check_joints(path: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    """Raise unless the joints come in Human3.6M order."""
    names = [str(name) for name in arrays["joint_names"].ravel()]
    if len(names) != len(JOINT_NAMES):
        raise MotionError(
            f"{path}: array 'joint_names' has {len(names)} names, expected the {len(JOINT_NAMES)} "
            f"of Human3.6M: {', '.join(JOINT_NAMES)}"
        )
    wrong = [
        f"joint {i} is {got!r}, expected {expected!r}"
        for i, (got, expected) in enumerate(zip(names, JOINT_NAMES, strict=True))
        if got != expected
    ]
    if wrong:
        raise MotionError(
            f"{path}: joints are in another order: {'; '.join(wrong)}; reorder 'positions' to the "
            "Human3.6M order"
        )
    if "parents" in arrays and tuple(arrays["parents"].ravel().tolist()) != PARENTS:
        raise MotionError(
            f"{path}: array 'parents' is {arrays['parents'].ravel().tolist()}, expected "
            f"{list(PARENTS)}, the parents in Human3.6M order"
        )


def _check_fps(path: Path, fps: npt.NDArray[np.generic]) -> int:
    """Return the frame rate, or raise unless it is one positive whole number."""
    if fps.dtype.kind not in "iu" or fps.size != 1 or int(fps.ravel()[0]) < 1:
        raise MotionError(
            f"{path}: array 'fps' is {fps.dtype} {fps.tolist()!r}, expected one positive whole "
            "number, such as np.int64(50)"
        )
    return int(fps.ravel()[0])


def _check_finite(
    path: Path,
    positions: npt.NDArray[np.generic],
    starts: npt.NDArray[np.generic],
    names: Sequence[str],
) -> None:
    """Raise, naming the first clip, if any position is NaN or infinite."""
    bad = ~np.isfinite(positions.astype(np.float32, copy=False)).all(axis=(1, 2))
    if not bad.any():
        return
    per_clip = np.add.reduceat(bad.astype(np.int64), starts[:-1].astype(np.int64))
    first = int(np.argmax(per_clip > 0))
    others = int((per_clip > 0).sum()) - 1
    more = f" (and {others} more clips have such frames)" if others else ""
    raise MotionError(
        f"{path}: clip {names[first]!r} has {per_clip[first]} frames that are not finite{more}; "
        "fill the gaps or drop those frames"
    )
