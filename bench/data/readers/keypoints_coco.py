"""Keypoints in COCO-style JSON: results of a detector, or a data set."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.data.readers.keypoints import FAR, KeypointError, RawKeypoints, Real, other_skeleton

_PERSON_KEYS: Final = ("track_id", "person_id", "idx", "id")
_SPARSEST: Final = 10
"""Frames per image id above which a file is read as pictures, not as a video."""


@dataclass(frozen=True, eq=False)
class _Detection:
    """One person in one frame; joints are (17, 3)."""

    frame: int
    joints: Real
    score: float


def read_json(path: Path, person: int | None) -> RawKeypoints:
    """Read the joints of one person.

    Args:
        path: a JSON list of COCO results {image_id, keypoints: 51 numbers x, y, v, score}, where
            image_id is the frame number or a file name that ends in it; or a COCO data set with
            `images` (of one size; frames are numbered from 0 in the order of file_name, numbers in
            names compared as numbers) and `annotations`.
        person: use only detections with this `track_id` (or, where there is none, `person_id`,
            `idx` or `id`). None means the highest `score` of each frame, or the highest mean
            confidence where there is none.

    Raises:
        KeypointError: the file is torn, none of these, or holds another skeleton or no detection.
    """
    content = path.read_bytes()
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
        problem = other_skeleton(lengths[0] // 3 if lengths else 0)
        raise KeypointError(f"{path}: one frame as OpenPose writes it, with {problem}")
    found = f"keys {_some(data)}" if isinstance(data, dict) else type(data).__name__
    raise KeypointError(
        f"{path}: the JSON holds {found}; expected a list of COCO results, or a COCO data set with "
        f"'images' and 'annotations'"
    )


def _from_results(path: Path, data: list[Any], person: int | None) -> RawKeypoints:
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
    return RawKeypoints(
        joints=_filled_in(best, first, last - first + 1),
        coco=True,
        frames=np.arange(first, last + 1),
        sizes={},
        text="COCO results",
        crowded=crowded,
    )


def _from_dataset(path: Path, data: Mapping[str, Any], person: int | None) -> RawKeypoints:
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
    return RawKeypoints(
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
    """The detection of the highest score in each frame, and how many frames have others."""
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
        what = other_skeleton(len(values) // 3) if len(values) % 3 == 0 else "expected 51: x, y, v"
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
    if not isinstance(number, int) or isinstance(number, bool) or abs(number) > FAR:
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
