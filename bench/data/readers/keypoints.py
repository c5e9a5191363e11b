"""2D keypoints of one person through a video, from npz or COCO-style JSON (numpy only)."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.data.skeleton import JOINT_NAMES

Array = npt.NDArray[np.float32]
Real = npt.NDArray[np.float64]

COCO_NAMES: Final = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""The 17 joints of COCO's person, in storage order."""

_H36M_OF: Final = dict(
    zip((0, *range(5, 17)), (9, 11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3), strict=True)
)
"""COCO joint to the Human3.6M joint that it stands for."""

_ARRAYS: Final = ("keypoints", "positions_2d", "pixels", "arr_0")
_SKELETONS: Final = ("h36m", "coco")
_PERSON_KEYS: Final = ("track_id", "person_id", "idx", "id")
_SPARSEST: Final = 10
"""Frames per image id above which a file is taken for pictures instead of a video."""
_FAR: Final = 1e9
"""Pixels beyond this are no pixels; also the largest frame number."""


class KeypointError(ValueError):
    """Keypoints that cannot be used: says what was given, what was expected and how to mend it."""


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

    A joint with x = y = confidence = 0 counts as not detected. It is filled in by linear
    interpolation between the nearest frames that have it, or held at the ends of the video.

    Args:
        path: one of the following, told apart by content.
            An npz with `keypoints` (or `positions_2d`, `pixels`, `arr_0`) of shape (T, 17, 2), or
            (T, 17, 3) with the confidence, in pixels; optionally the numbers `width` and
            `height`, and `skeleton`, "h36m" (default) or "coco". Pickles are never loaded.
            A JSON list of COCO results {image_id, keypoints: 51 numbers x, y, v, score};
            image_id is the frame number, or a file name that ends in it.
            A JSON COCO data set with `images` (of one size; frames are numbered from 0 in the
            order of file_name, numbers in names compared as numbers) and `annotations`.
        width: of the image, pixels; goes before what the file says.
        height: likewise.
        person: in JSON, take only detections with this `track_id` (or, where there is none,
            `person_id`, `idx` or `id`). By default the highest `score` of each frame is taken,
            or the highest mean confidence where there is none.

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
            magic = file.read(6)
            content = b"" if magic.startswith(b"PK") else magic + file.read()
    except OSError as error:
        raise KeypointError(f"{path}: cannot be read ({error.strerror})") from None
    if magic.startswith(b"PK"):
        if person is not None:
            raise KeypointError(f"{path}: an npz holds one person; leave person = {person} out")
        found = _from_npz(path)
    else:
        found = _from_json(path, content, person)
    size = [
        _size(path, name, given, found.sizes.get(name))
        for name, given in (("width", width), ("height", height))
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
class _Found:
    """What a file holds, before joints are filled in and mapped.

    Attributes:
        joints: (T, 17, 3) float64, x, y and confidence; zeros where there is no detection.
        coco: whether these are COCO's joints, not Human3.6M's.
        frames: (T,) frame numbers.
        sizes: width and height, where the file says.
        text: what kind of file it is.
        crowded: frames with more than one person to choose from.
    """

    joints: Real
    coco: bool
    frames: npt.NDArray[np.int64]
    sizes: Mapping[str, Any]
    text: str
    crowded: int = 0


def _finish(path: Path, found: _Found, width: int, height: int) -> Keypoints:
    """Check the values, fill in what was not detected, and map to Human3.6M's joints."""
    joints = found.joints
    finite = (np.abs(joints) < _FAR).all(axis=-1)  # False for NaN too
    if not finite.all():
        row, joint = np.argwhere(~finite)[0]
        name = _names(found)[joint]
        raise KeypointError(
            f"{path}: {int((~finite).sum())} joints have values that are NaN, infinite or beyond "
            f"any image, the first at frame {found.frames[row]}, joint {joint} ({name}); "
            f"interpolate them, or set x, y and confidence all to 0 to have that done"
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
    joints = _interpolate(joints, seen)
    joints[..., 2] = joints[..., 2].clip(0, 1)
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


def _names(found: _Found) -> Sequence[str]:
    return COCO_NAMES if found.coco else JOINT_NAMES


def _interpolate(joints: Real, seen: npt.NDArray[np.bool_]) -> Real:
    """Fill x and y of unseen joints along time; (T, 17, 3) and (T, 17)."""
    joints = joints.copy()
    time = np.arange(len(joints))
    for joint in np.flatnonzero(~seen.all(axis=0)):
        known = seen[:, joint]
        for axis in range(2):
            values = joints[:, joint, axis]
            values[~known] = np.interp(time[~known], time[known], values[known])
    return joints


def _size(path: Path, name: str, given: int | None, stored: Any) -> int:
    """Width or height in pixels, from the caller or the file."""
    value = stored if given is None else given
    if value is None:
        raise KeypointError(
            f"{path}: the {name} of the image is not known; give it in pixels with --{name} (the "
            f"joints are scaled by the size of the image)"
        )
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 1 <= value < _FAR or value != int(value):
        raise KeypointError(
            f"{path}: {name} is {value!r}, expected a whole number of pixels above 0"
        )
    return int(value)


# --- npz ---------------------------------------------------------------------------------------


def _from_npz(path: Path) -> _Found:
    with path.open("rb") as file:  # opened here, because numpy leaves torn files open
        try:
            archive = np.load(file, allow_pickle=False)
        except Exception as error:  # a damaged file can make the reader raise nearly anything
            raise KeypointError(
                f"{path}: the npz is torn or incomplete ({_cause(error)}); copy or export it again"
            ) from None
        with archive:
            name = next((name for name in _ARRAYS if name in archive.files), None)
            if name is None:
                raise KeypointError(
                    f"{path}: has {', '.join(map(repr, archive.files)) or 'no arrays'}, expected "
                    f"the array 'keypoints' (or {', '.join(map(repr, _ARRAYS[1:]))})"
                )
            read = [name, *(n for n in ("width", "height", "skeleton") if n in archive.files)]
            arrays = {n: _read_array(path, archive, n) for n in read}
    joints = _check_array(path, name, arrays[name])
    skeleton = "h36m"
    if "skeleton" in arrays:
        skeleton = str(arrays["skeleton"].ravel()[0]) if arrays["skeleton"].size == 1 else ""
        if skeleton.lower() not in _SKELETONS:
            raise KeypointError(
                f"{path}: skeleton is {arrays['skeleton'].tolist()!r}; the 17 joints of 'h36m' "
                f"(Human3.6M) or 'coco' are read"
            )
    coco = skeleton.lower() == "coco"
    return _Found(
        joints=joints,
        coco=coco,
        frames=np.arange(len(joints)),
        sizes={n: _scalar(arrays[n]) for n in ("width", "height") if n in arrays},
        text="17 COCO joints" if coco else "17 Human3.6M joints",
    )


def _read_array(path: Path, archive: Any, name: str) -> npt.NDArray[np.generic]:
    """Read one array of the archive; object arrays (pickles) and damage are refused."""
    try:
        array: npt.NDArray[np.generic] = archive[name]
    except Exception as error:  # as above
        if "allow_pickle" in str(error):
            raise KeypointError(
                f"{path}: array {name!r} is an object array (a pickle), which is never loaded "
                f"because loading one can run code; store one person's joints as plain numbers "
                f"(frames, 17, 2)"
            ) from None
        raise KeypointError(
            f"{path}: array {name!r} is torn or damaged ({_cause(error)}); copy or export the file "
            f"again"
        ) from None
    if not isinstance(array, np.ndarray):  # an entry that is no array comes back as bytes
        raise KeypointError(f"{path}: {name!r} is no array; write the file with np.savez")
    return array


def _cause(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_array(path: Path, name: str, array: npt.NDArray[Any]) -> Real:
    """The joints as (T, 17, 3), confidence 1 where there is none."""
    if array.dtype.kind not in "fiu":
        raise KeypointError(
            f"{path}: array {name!r} holds {array.dtype}, expected numbers (frames, 17, 2), in "
            f"pixels"
        )
    if array.ndim == 3 and array.shape[2] in (2, 3) and array.shape[1] != 17:
        raise KeypointError(f"{path}: array {name!r} has {_other_skeleton(array.shape[1])}")
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


def _other_skeleton(joints: int) -> str:
    hint = "; the first 17 of COCO's whole-body joints are these" if joints == 133 else ""
    return (
        f"{joints} joints, but the 17 of Human3.6M (.npz) or COCO ({', '.join(COCO_NAMES[:2])}, "
        f"..., {COCO_NAMES[-1]}) are read{hint}"
    )


# --- JSON --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Detection:
    """One person in one frame; joints are (17, 3)."""

    frame: int
    joints: Real
    score: float


def _from_json(path: Path, content: bytes, person: int | None) -> _Found:
    if content.startswith(b"\x93NUMPY"):
        raise KeypointError(
            f"{path}: a single numpy array; store it as npz with np.savez(file, keypoints=array)"
        )
    if not content.strip():
        raise KeypointError(f"{path}: the file is empty; expected .npz or COCO-style .json")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        if content.lstrip()[:1] in (b"{", b"["):
            raise KeypointError(
                f"{path}: the JSON is torn or wrong ({error}); copy or export it again"
            ) from None
        raise KeypointError(
            f"{path}: neither npz nor JSON; expected keypoints as .npz or COCO-style .json"
        ) from None
    if isinstance(data, list):
        return _from_results(path, data, person)
    if isinstance(data, dict) and {"annotations", "images"} <= data.keys():
        return _from_dataset(path, data, person)
    if isinstance(data, dict) and isinstance(data.get("people"), list):
        lengths = [
            len(entry["pose_keypoints_2d"])
            for entry in data["people"]
            if isinstance(entry, dict) and isinstance(entry.get("pose_keypoints_2d"), list)
        ]
        given = _other_skeleton(lengths[0] // 3 if lengths else 0)
        raise KeypointError(f"{path}: one frame as OpenPose writes it, with {given}")
    found = f"keys {_some(data)}" if isinstance(data, dict) else type(data).__name__
    raise KeypointError(
        f"{path}: the JSON holds {found}; expected a list of COCO results, or a COCO data set with "
        f"'images' and 'annotations'"
    )


def _from_results(path: Path, data: list[Any], person: int | None) -> _Found:
    if not data:
        raise KeypointError(f"{path}: no detections, the list is empty")
    for i, entry in enumerate(data):
        if not isinstance(entry, dict) or "image_id" not in entry or "keypoints" not in entry:
            found = f"keys {_some(entry)}" if isinstance(entry, dict) else type(entry).__name__
            raise KeypointError(
                f"{path}: result {i} holds {found}; expected COCO results with 'image_id' and "
                f"'keypoints'"
            )
    entries = [
        (_frame_number(path, i, entry["image_id"]), f"result {i}", entry)
        for i, entry in enumerate(data)
    ]
    best, crowded = _choose(path, entries, person)
    # The video reaches as far as the file does, whoever is in it.
    numbers = {frame for frame, _, _ in entries}
    first, last = min(numbers), max(numbers)
    if last - first + 1 > _SPARSEST * max(len(numbers), 2):
        raise KeypointError(
            f"{path}: image ids run from {first} to {last}, but there are only {len(numbers)}, so "
            f"this seems not to be one video; number its frames one by one"
        )
    return _Found(
        joints=_filled_in(best, first, last - first + 1),
        coco=True,
        frames=np.arange(first, last + 1),
        sizes={},
        text="COCO results",
        crowded=crowded,
    )


def _from_dataset(path: Path, data: Mapping[str, Any], person: int | None) -> _Found:
    images, annotations = data["images"], data["annotations"]
    for name, entries, key in (("image", images, "id"), ("annotation", annotations, "image_id")):
        if not isinstance(entries, list):
            raise KeypointError(f"{path}: '{name}s' is no list; expected a COCO data set")
        for i, entry in enumerate(entries):
            if not isinstance(entry, dict) or not isinstance(entry.get(key), (int, str)):
                raise KeypointError(f"{path}: {name} {i} has no {key!r}; expected a COCO data set")
    if not images:
        raise KeypointError(f"{path}: the data set is empty, it has no images")
    sizes: dict[str, Any] = {}
    for key in ("width", "height"):
        values = list({repr(image[key]): image[key] for image in images if key in image}.values())
        if len(values) > 1:
            raise KeypointError(
                f"{path}: images have different sizes, {key} {values[0]!r} and {values[1]!r}; "
                f"expected one video"
            )
        if values:
            sizes[key] = values[0]
    named = all(isinstance(image.get("file_name"), str) for image in images)
    label = "file_name" if named else "id"
    ordered = sorted(images, key=lambda image: _natural(str(image[label])))
    place = {image["id"]: i for i, image in enumerate(ordered)}
    if len(place) != len(images):
        raise KeypointError(f"{path}: two images have the same id; expected one id per frame")
    entries = []
    for i, entry in enumerate(annotations):
        if entry["image_id"] not in place:
            raise KeypointError(
                f"{path}: annotation {i} is of image {entry['image_id']!r}, which 'images' lacks"
            )
        # A data set may hold boxes without joints beside those with them.
        if entry.get("keypoints"):
            entries.append((place[entry["image_id"]], f"annotation {i}", entry))
    best, crowded = _choose(path, entries, person)
    return _Found(
        joints=_filled_in(best, 0, len(images)),
        coco=True,
        frames=np.arange(len(images)),
        sizes=sizes,
        text="COCO data set",
        crowded=crowded,
    )


def _choose(
    path: Path, entries: Sequence[tuple[int, str, dict[str, Any]]], person: int | None
) -> tuple[dict[int, _Detection], int]:
    """The surest detection of each frame, and in how many frames there were others."""
    if person is not None:
        there = [_person(entry) for _, _, entry in entries]
        entries = [e for e, who in zip(entries, there, strict=True) if who == person]
        if not entries:
            known = {repr(who): who for who in there if who is not None}
            raise KeypointError(
                f"{path}: nobody has the id {person}; there are {_some(known.values())}"
            )
    best: dict[int, _Detection] = {}
    several: set[int] = set()
    for frame, where, entry in entries:
        one = _detection(path, frame, where, entry)
        if not (one.joints != 0).any():
            continue
        if frame in best:
            several.add(frame)
        if frame not in best or one.score > best[frame].score:
            best[frame] = one
    if not best:
        raise KeypointError(f"{path}: no detections, no frame has a person with keypoints")
    return best, len(several)


def _detection(path: Path, frame: int, where: str, entry: Mapping[str, Any]) -> _Detection:
    values = entry["keypoints"]
    if not isinstance(values, list):
        raise KeypointError(f"{path}: keypoints of {where} are no list; expected 51 numbers")
    if len(values) != 51:
        what = _other_skeleton(len(values) // 3) if len(values) % 3 == 0 else "expected 51: x, y, v"
        raise KeypointError(f"{path}: keypoints of {where} are {len(values)} numbers, {what}")
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise KeypointError(f"{path}: keypoints of {where} are not all numbers")
    try:
        joints = np.array(values, dtype=np.float64).reshape(17, 3)
    except OverflowError:
        raise KeypointError(f"{path}: keypoints of {where} hold a number out of range") from None
    score = entry.get("score")
    if not isinstance(score, (int, float)):
        score = float(joints[:, 2].mean())
    return _Detection(frame, joints, score)


def _filled_in(best: Mapping[int, _Detection], first: int, count: int) -> Real:
    joints = np.zeros((count, 17, 3))
    for frame, one in best.items():
        joints[frame - first] = one.joints
    return joints


def _frame_number(path: Path, place: int, image_id: Any) -> int:
    """The frame that an image id means: the number itself, or the last one in a file name."""
    digits = re.findall("[0-9]+", Path(image_id).stem) if isinstance(image_id, str) else []
    number: Any = int(digits[-1][-12:]) if digits else image_id
    if not isinstance(number, int) or isinstance(number, bool) or abs(number) > _FAR:
        raise KeypointError(
            f"{path}: image_id of result {place} is {image_id!r}, expected the number of a frame "
            f"or a file name that ends in it"
        )
    return number


def _person(entry: Mapping[str, Any]) -> Any:
    return next((entry[key] for key in _PERSON_KEYS if key in entry), None)


def _natural(text: str) -> list[tuple[int, int | str]]:
    """A key that sorts frame_2 before frame_10."""
    parts = re.split("([0-9]{1,18})", text)  # every other part is digits
    return [(0, int(part)) if i % 2 else (1, part) for i, part in enumerate(parts) if part]


def _some(values: Any) -> str:
    listed = [repr(value) for value in values]
    return (", ".join(listed[:8]) or "none") + (", ..." if len(listed) > 8 else "")
