"""2D keypoints of one person through a video, from npz or COCO-style JSON (numpy only)."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.data.readers import KEYPOINT_READERS, imported
from bench.data.readers.gaps import interpolate
from bench.data.skeleton import COCO_NAMES, JOINT_NAMES
from bench.records.errors import UsageError

Array = npt.NDArray[np.float32]
Real = npt.NDArray[np.float64]

_H36M_OF: Final = dict(
    zip((0, *range(5, 17)), (9, 11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3), strict=True)
)
"""COCO joint to the Human3.6M joint that it stands for."""

FAR: Final = 1e9
"""Pixels beyond this are no pixels; also the largest frame number."""


class KeypointError(UsageError, ValueError):
    """Unusable keypoints; the message has the value, what was expected and the remedy."""


@dataclass(frozen=True, eq=False)
class Keypoints:
    """One person's joints in every frame of a video.

    Attributes:
        pixels: float32 (T, 17, 2), Human3.6M joint order, x to the right and y down.
        confidence: float32 (T, 17) in [0, 1]; 0 where the joint was not detected.
        width: of the image, pixels.
        height: of the image, pixels.
        frames: int64 (T,), frame numbers, consecutive.
        filled: frames without a detection, interpolated.
        source: one line on what was read and what was filled in.
    """

    pixels: Array
    confidence: Array
    width: int
    height: int
    frames: npt.NDArray[np.int64]
    filled: int
    source: str


def load_keypoints(
    path: str | os.PathLike[str],
    *,
    width: int | None = None,
    height: int | None = None,
    person: int | None = None,
) -> Keypoints:
    """Read the keypoints of one person.

    A joint with x = y = confidence = 0 counts as not detected. It is interpolated
    linearly between the nearest frames that have it, and held at the ends of the video.

    Args:
        path: in one of the formats of :data:`bench.data.readers.KEYPOINT_READERS`, recognised by
            content: see :func:`bench.data.readers.keypoints_npz.read_npz` and
            :func:`bench.data.readers.keypoints_coco.read_json`.
        width: of the image, pixels; overrides that in the file.
        height: likewise.
        person: whose detections to use, where a file holds several people; None means the highest
            score of each frame.

    Raises:
        KeypointError: the file is missing, torn or none of these, holds another skeleton, object
            arrays, no frame or no detection, a value that is not finite, or a joint that no frame
            has; or the size of the image is not known.
    """
    path = Path(path)
    if not path.is_file():
        raise KeypointError(
            f"{path}: no such file; expected keypoints as .npz or COCO-style .json, check the path"
        )
    try:
        with path.open("rb") as file:
            head = file.read(6)
        reader = next(row for row in reversed(KEYPOINT_READERS.values()) if row.accepts(path, head))
        found: RawKeypoints = imported(reader.load)(path, person)
    except OSError as error:
        raise KeypointError(f"{path}: cannot be read ({error.strerror})") from None
    size = [
        _size(path, name, found.sizes.get(name) if chosen is None else chosen)
        for name, chosen in (("width", width), ("height", height))
    ]
    return _finish(path, found, size[0], size[1])


def coco_to_h36m(joints: Real) -> Real:
    """Turn COCO joints into those of Human3.6M.

    Hip, Thorax and Spine are the middles of the hips, of the shoulders, and of these two. As in
    the published demonstrations, Neck/Nose lies a quarter of the way from the nose to the Thorax,
    and Head as far above the eyes as the nose below them, between eyes and ears. Confidences are
    the means of the hips, of the shoulders, of both, of the nose alone, and of eyes and ears.

    Args:
        joints: (T, 17, 3), x, y and confidence, in the order of `COCO_NAMES`.

    Returns:
        (T, 17, 3), in the order of `bench.data.skeleton.JOINT_NAMES`.
    """
    out = np.empty_like(joints)
    out[:, list(_H36M_OF.values())] = joints[:, list(_H36M_OF)]
    out[:, 0] = joints[:, 11:13].mean(axis=1)
    out[:, 8] = joints[:, 5:7].mean(axis=1)
    out[:, 7] = (out[:, 0] + out[:, 8]) / 2
    out[:, 9, :2] += (out[:, 8, :2] - out[:, 9, :2]) / 4
    out[:, 10] = joints[:, 1:5].mean(axis=1)
    out[:, 10, 1] = joints[:, 1:3, 1].sum(axis=1) - joints[:, 0, 1]
    return out


@dataclass(frozen=True, eq=False)
class RawKeypoints:
    """What a file holds, before joints are interpolated and mapped to Human3.6M's.

    Attributes:
        joints: (T, 17, 3) float64, x, y and confidence; zeros where there is no detection.
        coco: whether these are COCO's joints, not Human3.6M's.
        frames: (T,) frame numbers.
        sizes: width and height, where the file has them.
        text: what kind of file it is.
        crowded: frames with more than one person to choose from.
    """

    joints: Real
    coco: bool
    frames: npt.NDArray[np.int64]
    sizes: Mapping[str, Any]
    text: str
    crowded: int = 0


def _finish(path: Path, found: RawKeypoints, width: int, height: int) -> Keypoints:
    """Check the values, fill in what was not detected, and map to Human3.6M's joints."""
    joints = found.joints
    finite = (np.abs(joints) < FAR).all(axis=-1)  # False for NaN too
    if not finite.all():
        row, joint = np.argwhere(~finite)[0]
        name = _names(found)[joint]
        raise KeypointError(
            f"{path}: {int((~finite).sum())} joints have values that are NaN, infinite or beyond "
            f"any image, the first at frame {found.frames[row]}, joint {joint} ({name}); "
            f"interpolate them, or set x, y and confidence all to 0 to have them interpolated"
        )
    seen = (joints != 0).any(axis=-1)
    lost = [name for name, ever in zip(_names(found), seen.any(axis=0), strict=True) if not ever]
    if len(lost) == 17:
        raise KeypointError(
            f"{path}: no detections, x = y = confidence = 0 throughout; a person must be found in "
            f"at least one frame"
        )
    if lost:
        raise KeypointError(
            f"{path}: {', '.join(lost)} not detected in any frame, so there is nothing to "
            f"interpolate from; lifting needs all 17 joints"
        )
    if np.abs(joints[..., :2]).max() <= 2 < max(width, height):
        raise KeypointError(
            f"{path}: every joint lies within 2 pixels of the image's corner, so these seem to be "
            f"normalised coordinates; expected pixels of an image of {width} x {height}"
        )
    joints = np.concatenate(
        [interpolate(joints[..., :2], seen), joints[..., 2:].clip(0, 1)], axis=-1
    )
    if found.coco:
        joints = coco_to_h36m(joints)
    filled = int((~seen.any(axis=1)).sum())
    single = int((~seen).sum()) - 17 * filled
    notes = [f"{path.name}: {found.text}, {len(joints)} frames of {width} x {height} pixels"]
    if filled:
        notes.append(f"{filled} frames without a detection, interpolated")
    if single:
        notes.append(f"{single} single joints not detected, interpolated")
    if found.crowded:
        notes.append(
            f"{found.crowded} frames with several people, the surest taken (--person ID picks one)"
        )
    return Keypoints(
        pixels=joints[..., :2].astype(np.float32),
        confidence=joints[..., 2].astype(np.float32),
        width=width,
        height=height,
        frames=found.frames,
        filled=filled,
        source="; ".join(notes),
    )


def _names(found: RawKeypoints) -> Sequence[str]:
    return COCO_NAMES if found.coco else JOINT_NAMES


def _size(path: Path, name: str, value: Any) -> int:
    """Check a width or height in pixels."""
    if value is None:
        raise KeypointError(
            f"{path}: the {name} of the image is not known; give it in pixels with --{name} (the "
            f"joints are scaled by the size of the image)"
        )
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 1 <= value < FAR or value != int(value):
        raise KeypointError(
            f"{path}: {name} is {value!r}, expected a whole number of pixels above 0"
        )
    return int(value)


def other_skeleton(joints: int) -> str:
    """What is wrong with a skeleton of so many joints."""
    hint = "; the first 17 of COCO's whole-body joints are these" if joints == 133 else ""
    return (
        f"{joints} joints, but the 17 of Human3.6M (.npz) or COCO ({', '.join(COCO_NAMES[:2])}, "
        f"..., {COCO_NAMES[-1]}) are read{hint}"
    )
