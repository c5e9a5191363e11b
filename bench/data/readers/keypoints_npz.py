"""Keypoints in npz files: 17 joints of Human3.6M or COCO."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.data.readers.keypoints import KeypointError, RawKeypoints, Real, other_skeleton
from bench.data.readers.plain_npz import read_arrays

_ARRAYS: Final = ("keypoints", "positions_2d", "pixels", "arr_0")
_SKELETONS: Final = ("h36m", "coco")


def read_npz(path: Path, person: int | None) -> RawKeypoints:
    """Read the joints of one person.

    Args:
        path: an npz with `keypoints` (or `positions_2d`, `pixels`, `arr_0`) of shape (T, 17, 2), or
            (T, 17, 3) with the confidence, in pixels; optionally the numbers `width` and `height`,
            and `skeleton`, "h36m" (default) or "coco". Pickles are never loaded.
        person: None.

    Raises:
        KeypointError: the file is torn, or holds other arrays, another skeleton or no frame.
    """
    if person is not None:
        raise KeypointError(f"{path}: an npz holds one person; leave person = {person} out")

    def choose(names: list[str]) -> list[str]:
        joints = next((name for name in _ARRAYS if name in names), None)
        if joints is None:
            raise KeypointError(
                f"{path}: has {', '.join(map(repr, names)) or 'no arrays'}, expected "
                f"the array 'keypoints' (or {', '.join(map(repr, _ARRAYS[1:]))})"
            )
        return [joints, *(n for n in ("width", "height", "skeleton") if n in names)]

    arrays = read_arrays(path, choose, KeypointError)
    joints = _check_joints(path, *next(iter(arrays.items())))
    skeleton = "h36m"
    if "skeleton" in arrays:
        names = arrays["skeleton"]
        skeleton = str(names.ravel()[0]).lower() if names.size == 1 else ""
        if skeleton not in _SKELETONS:
            raise KeypointError(
                f"{path}: skeleton is {names.tolist()!r}; the 17 joints of 'h36m' (Human3.6M) or "
                f"'coco' are read"
            )
    return RawKeypoints(
        joints=joints,
        coco=skeleton == "coco",
        frames=np.arange(len(joints)),
        sizes={n: _scalar(arrays[n]) for n in ("width", "height") if n in arrays},
        text="17 COCO joints" if skeleton == "coco" else "17 Human3.6M joints",
    )


def _check_joints(path: Path, name: str, array: npt.NDArray[Any]) -> Real:
    """The joints as (T, 17, 3), confidence 1 where there is none."""
    if array.dtype.kind not in "fiu":
        raise KeypointError(
            f"{path}: array {name!r} holds {array.dtype}, expected numbers (frames, 17, 2), in "
            f"pixels"
        )
    if array.ndim == 3 and array.shape[2] in (2, 3) and array.shape[1] != 17:
        raise KeypointError(f"{path}: array {name!r} has {other_skeleton(array.shape[1])}")
    if array.ndim != 3 or array.shape[1] != 17 or array.shape[2] not in (2, 3):
        raise KeypointError(
            f"{path}: array {name!r} has shape {array.shape}, expected (frames, 17, 2), or "
            f"(frames, 17, 3) with the confidence"
        )
    if not len(array):
        raise KeypointError(f"{path}: array {name!r} is empty, it has no frames; 1 is needed")
    joints = np.ones((len(array), 17, 3))
    joints[..., : array.shape[2]] = array
    return joints


def _scalar(array: npt.NDArray[Any]) -> Any:
    """The one number of an array; otherwise its shape, for an error to show."""
    return array.item() if array.size == 1 else f"an array {array.shape}"
