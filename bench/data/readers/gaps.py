"""Frames that are not finite or not detected: 2D is interpolated, 3D does not count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.data.sequences import DataError, Mask, Split

Values = npt.NDArray[np.floating[Any]]


def interpolate(joints: Values, seen: Mask) -> Values:
    """Fill joints in time: linear between the frames that have them, held at the ends.

    Args:
        joints: (T, J, C).
        seen: (T, J), which joints are there; each in one frame at least.

    Returns:
        (T, J, C), a copy.
    """
    out, time = joints.copy(), np.arange(len(joints))
    for j in np.flatnonzero(~seen.all(axis=0)):
        known = seen[:, j]
        for c in range(joints.shape[-1]):
            out[~known, j, c] = np.interp(time[~known], time[known], joints[known, j, c])
    return out


def interpolate_gaps(joints: Values, name: str) -> tuple[Values, int]:
    """Interpolate 2D joints that are not finite.

    Args:
        joints: (T, J, C); a joint is missing in a frame if any of its C values is not finite.
        name: of the sequence, for messages.

    Returns:
        The joints, and the number of frames in which one was missing.

    Raises:
        DataError: a joint is missing in every frame.
    """
    seen: Mask = np.asarray(np.isfinite(joints).all(axis=-1), dtype=np.bool_)
    _check_any(seen, name, "2D")
    never = np.flatnonzero(~seen.any(axis=0))
    if len(never):
        raise DataError(
            f"sequence {name!r}: 2D joint {never[0]} is finite in none of its {len(seen)} frames; "
            "detect it again or leave the sequence out"
        )
    return interpolate(joints, seen), int((~seen.all(axis=1)).sum())


def finite_frames(poses: Values, name: str) -> Mask:
    """Return which frames (T,) of poses (T, J, 3) are finite in all joints.

    Raises:
        DataError: none is.
    """
    finite: Mask = np.asarray(np.isfinite(poses).all(axis=(1, 2)), dtype=np.bool_)
    _check_any(finite, name, "3D")
    return finite


def relative(poses: npt.NDArray[np.float64], valid: Mask, root: int = 0) -> npt.NDArray[np.float64]:
    """Return poses (T, J, 3) relative to their root joint, zero in frames that are not valid."""
    kept = np.where(valid[:, None, None], poses, 0.0)
    return kept - kept[:, root : root + 1]


def _check_any(usable: Mask, name: str, what: str) -> None:
    """Raise unless a frame is usable."""
    if not usable.any():
        raise DataError(
            f"sequence {name!r}: none of its {len(usable)} frames of {what} is finite; prepare the "
            "file again or leave the sequence out"
        )


class SplitReader:
    """What the readers of one split of a data set share: checks, and notes on what was changed.

    Attributes:
        expected: what the file should be, for messages.
        split: that is read.
        notes: `DataSet.notes`.
        interpolated: frames with a 2D joint that was not finite.
        excluded: frames with 3D that is not finite.
    """

    expected: ClassVar[str]

    def __init__(self, split: Split, notes: list[str]) -> None:
        self.split, self.notes = split, notes
        self.interpolated = self.excluded = 0

    def note(self, text: str) -> None:
        """Add a note on the split."""
        self.notes.append(f"{self.split}: {text}")

    def note_gaps(self) -> None:
        """Note how many frames were interpolated and excluded."""
        if self.interpolated:
            self.note(
                f"{self.interpolated} frames with 2D joints that are not finite were interpolated"
            )
        if self.excluded:
            self.note(f"{self.excluded} frames with 3D that is not finite do not count")

    def joints(self, joints: Values, name: str) -> Values:
        """Interpolate 2D joints, and count the frames."""
        joints, count = interpolate_gaps(joints, name)
        self.interpolated += count
        return joints

    def dictionary(self, file: object, table: Any, content: str) -> Mapping[Any, Any]:
        """Return a part of the file, or raise unless it is a dictionary."""
        if not isinstance(table, dict):
            raise DataError(
                f"{file}: expected a dictionary with {content}, got a {type(table).__name__}; "
                f"expected {self.expected}"
            )
        return table

    def entry(self, file: object, table: Any, key: str, owner: str) -> Any:
        """Return what a dictionary of the file has under a key, or raise that it lacks it."""
        if key not in self.dictionary(file, table, f"{key!r} of {owner}"):
            raise DataError(
                f"{file}: {owner} lacks {key!r}; it has {', '.join(map(str, table)) or 'none'}; "
                f"expected {self.expected}"
            )
        return table[key]


def floats(array: Any, dtype: type[np.floating[Any]] = np.float64) -> npt.NDArray[Any]:
    """Return numbers as floating point; what holds none becomes an array without axes."""
    try:
        return np.asarray(array, dtype=dtype)
    except (TypeError, ValueError):
        return np.zeros((), dtype=dtype)
