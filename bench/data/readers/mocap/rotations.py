"""Rotation matrices of angles about the coordinate axes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float64]

_PLANES: Final = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}


def rotation(degrees: npt.NDArray[np.floating[Any]], axes: str) -> Real:
    """Return the product of rotations about axes, the first of them outermost (leftmost).

    Args:
        degrees: (T, len(axes)), right-handed angles.
        axes: letters x, y and z in any order and number, such as "zyx".

    Returns:
        (T, 3, 3), for column vectors; the identity where `axes` is empty.
    """
    result = np.tile(np.eye(3), (len(degrees), 1, 1))
    for angle, axis in zip(np.deg2rad(degrees).T, axes, strict=True):
        i, j = _PLANES[axis]
        turn = np.tile(np.eye(3), (len(degrees), 1, 1))
        turn[:, i, i] = turn[:, j, j] = np.cos(angle)
        turn[:, j, i] = np.sin(angle)
        turn[:, i, j] = -turn[:, j, i]
        result = result @ turn
    return result
