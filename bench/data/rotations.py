"""Rotation matrices of angles about the coordinate axes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float64]

_PLANES: Final = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}


def rotation(angles: npt.NDArray[np.floating[Any]], axes: str, start: Real | None = None) -> Real:
    """Return the product of rotations about axes, the first of them outermost (leftmost).

    Args:
        angles: (T, len(axes)), radians, right-handed.
        axes: letters x, y and z in any order and number, such as "zyx".
        start: (T, 3, 3), multiplied from the left; None means the identity.

    Returns:
        (T, 3, 3), for column vectors.
    """
    result = start
    for angle, axis in zip(angles.T, axes, strict=True):
        i, j = _PLANES[axis]
        turn = np.tile(np.eye(3), (len(angles), 1, 1))
        turn[:, i, i] = turn[:, j, j] = np.cos(angle)
        turn[:, j, i] = np.sin(angle)
        turn[:, i, j] = -turn[:, j, i]
        result = turn if result is None else result @ turn
    return np.tile(np.eye(3), (len(angles), 1, 1)) if result is None else result
