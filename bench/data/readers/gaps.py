"""Frames that are not finite: 2D is filled, 3D does not count."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.takes import DataError, Mask

Values = npt.NDArray[np.floating[Any]]


def filled(joints: Values, name: str) -> tuple[Values, int]:
    """Fill values that are not finite: per joint, linear in time between its neighbours.

    At the ends of a take, where there is only one neighbour, its value is held.

    Args:
        joints: (T, J, C); a joint is missing in a frame if any of its C values is not finite.
        name: of the take, for messages.

    Returns:
        The filled joints, and the number of frames in which a joint was missing.

    Raises:
        DataError: a joint is missing in every frame.
    """
    seen: Mask = np.asarray(np.isfinite(joints).all(axis=-1), dtype=np.bool_)
    if seen.all():
        return joints, 0
    _some(np.flatnonzero(seen), len(seen), name, "2D")
    never = np.flatnonzero(seen.sum(axis=0) == 0)
    if len(never):
        raise DataError(
            f"take {name!r}: 2D joint {never[0]} is finite in none of its {len(seen)} frames; "
            "detect it again or leave the take out"
        )
    out, time = joints.copy(), np.arange(len(joints))
    for j in np.flatnonzero(seen.sum(axis=0) < len(seen)):
        have = seen[:, j]
        for c in range(joints.shape[-1]):
            out[~have, j, c] = np.interp(time[~have], time[have], joints[have, j, c])
    return out, int((seen.sum(axis=1) < seen.shape[1]).sum())


def finite_frames(poses: Values, name: str) -> Mask:
    """Return which frames (T,) of poses (T, J, 3) are finite in all joints.

    Raises:
        DataError: none is.
    """
    finite: Mask = np.asarray(np.isfinite(poses).all(axis=(1, 2)), dtype=np.bool_)
    _some(np.flatnonzero(finite), len(finite), name, "3D")
    return finite


def _some(finite: npt.NDArray[np.int64], frames: int, name: str, what: str) -> None:
    """Raise unless there are places that are finite."""
    if not len(finite):
        raise DataError(
            f"take {name!r}: none of its {frames} frames of {what} is finite; prepare the "
            "file again or leave the take out"
        )
