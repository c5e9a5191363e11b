"""Acclaim files, as those of the CMU database: a skeleton (ASF) and its motions (AMC).

Every bone has a direction and a length at rest, and a frame of its own (`axis`) in which its
angles (`dof`) turn it and what hangs on it: with C the rotation of the axis and M that of the
angles, a bone's rotation in the world is its parent's times C M C⁻¹, and it ends at its parent's
end plus its length along the turned direction.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.data.readers.mocap.text import read_text, words_of
from bench.data.rotations import Real, rotation
from bench.data.sequences import DataError

ROOT: Final = "root"
_MOVES: Final = ("tx", "ty", "tz")
_TURNS: Final = ("rx", "ry", "rz")


@dataclass(frozen=True, eq=False)
class Bone:
    """A bone; the root is one of no length.

    Attributes:
        name: as in the file, `root` for the root.
        parent: place in the list of bones, -1 for the root.
        offset: (3,), from its beginning to its end at rest, in the unit of the file.
        axis: (3, 3), C above.
        dof: of tx, ty, tz (in the root only), rx, ry, rz, in the order of the motion file.
    """

    name: str
    parent: int
    offset: Real
    axis: Real
    dof: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Skeleton:
    """An ASF file as it was read.

    Attributes:
        bones: the root first, parents before their children.
        position: (3,), of the root, added to that of the motion.
        length: what the file's lengths were multiplied by: dividing by it gives inches.
        degrees: whether angles are degrees; otherwise radians.
    """

    bones: list[Bone]
    position: Real
    length: float
    degrees: bool


def read_asf(path: str | os.PathLike[str]) -> Skeleton:
    """Read a skeleton.

    Raises:
        DataError: the file is missing, no ASF file, or torn.
    """
    path = Path(path)
    sections = _sections(path)
    try:
        missing = [name for name in ("root", "bonedata", "hierarchy") if name not in sections]
        if missing:
            raise ValueError(f"no section :{missing[0]}")
        units = {words[0]: words[1] for words in sections.get("units", []) if len(words) > 1}
        degrees = units.get("angle", "deg").lower().startswith("deg")
        root = {words[0].lower(): words[1:] for words in sections["root"]}
        axes = "".join(root.get("axis", ["XYZ"])).lower()
        start = Bone(
            ROOT,
            -1,
            np.zeros(3),
            _axis(root.get("orientation", ["0", "0", "0"]), axes, degrees),
            _dof(root["order"], (*_MOVES, *_TURNS), ROOT),
        )
        described = _bones(sections["bonedata"], degrees)
        bones = [start]
        for parent, name in _edges(sections["hierarchy"]):
            places = {bone.name: k for k, bone in enumerate(bones)}
            if parent not in places or name not in described or name in places:
                raise ValueError(f"misplaced bone {name!r} at {parent!r}")
            offset, axis, dof = described[name]
            bones.append(Bone(name, places[parent], offset, axis, dof))
        position = _vector(root.get("position", ["0", "0", "0"]))
        length = float(units.get("length", "1"))
        if not length > 0:
            raise ValueError(f"a unit of length of {length}")
    except (ValueError, IndexError, KeyError) as error:
        raise DataError(
            f"{path}: torn, damaged or no ASF file ({error}); copy or download it again"
        ) from None
    return Skeleton(bones, position, length, degrees)


def read_amc(path: str | os.PathLike[str], skeleton: Skeleton) -> dict[str, Real]:
    """Read a motion and place the ends of all bones.

    Args:
        path: of the AMC file.
        skeleton: that it moves.

    Returns:
        Name of the bone to the place of its end, (T, 3), in inches if the skeleton is of the CMU
        database; `root` to the place of the root.

    Raises:
        DataError: the file is missing, no AMC file, torn, or of another skeleton.
    """
    path = Path(path)
    try:
        values, degrees = _frames(path, skeleton)
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path}: torn, damaged or of another skeleton ({error}); copy or download it again"
        ) from None
    frames = len(next(iter(values.values())))
    places: list[Real] = []
    turns: list[Real] = []
    for bone in skeleton.bones:
        table = values.get(bone.name, np.zeros((frames, 0)))
        turning = [k for k, name in enumerate(bone.dof) if name in _TURNS]
        angles = np.deg2rad(table[:, turning]) if degrees else table[:, turning]
        # The first angle is applied first, hence stands innermost.
        axes = "".join(bone.dof[k][1] for k in reversed(turning))
        turn = bone.axis @ rotation(angles[:, ::-1], axes) @ bone.axis.T
        if bone.parent < 0:
            place = np.tile(skeleton.position, (frames, 1))
            for k, name in enumerate(bone.dof):
                if name in _MOVES:
                    place[:, _MOVES.index(name)] += table[:, k]
        else:
            turn = turns[bone.parent] @ turn
            place = places[bone.parent] + turn @ bone.offset
        places.append(place)
        turns.append(turn)
    return {
        bone.name: place / skeleton.length
        for bone, place in zip(skeleton.bones, places, strict=True)
    }


def _sections(path: Path) -> dict[str, list[list[str]]]:
    """Split a file at its `:keywords`: keyword to the words of its lines."""
    sections: dict[str, list[list[str]]] = {}
    here: list[list[str]] = []
    for line in read_text(path, "ASF").splitlines():
        words = words_of(line)
        if words and words[0].startswith(":"):
            here = sections.setdefault(words[0][1:].lower(), [])
        elif words:
            here.append(words)
    return sections


def _bones(lines: list[list[str]], degrees: bool) -> dict[str, tuple[Real, Real, tuple[str, ...]]]:
    """Read :bonedata: name to offset, axis and dof."""
    found = {}
    bone: dict[str, list[str]] = {}
    for words in lines:
        key = words[0].lower()
        if key == "begin":
            bone = {}
        elif key == "end":
            name = bone["name"][0]
            *angles, axes = bone["axis"]
            offset = _vector(bone["direction"]) * float(bone["length"][0])
            dof = _dof(bone.get("dof", []), _TURNS, name)
            found[name] = (offset, _axis(angles, axes.lower(), degrees), dof)
        else:
            bone[key] = words[1:]
    return found


def _edges(lines: list[list[str]]) -> list[tuple[str, str]]:
    """Read :hierarchy as pairs of parent and child."""
    return [
        (words[0], child)
        for words in lines
        if words[0].lower() not in ("begin", "end")
        for child in words[1:]
    ]


def _axis(angles: list[str], axes: str, degrees: bool) -> Real:
    """Return C: rotations about the fixed axes, the first applied first."""
    values = _vector(angles)
    if sorted(axes) != ["x", "y", "z"]:
        raise ValueError(f"axis order {axes!r}")
    values = np.deg2rad(values) if degrees else values
    return rotation(values[None, ::-1], axes[::-1])[0]


def _vector(words: list[str]) -> Real:
    """Return three finite numbers."""
    vector = np.array([float(word) for word in words])
    if vector.shape != (3,) or not np.isfinite(vector).all():
        raise ValueError(f"{' '.join(words)!r} where three numbers belong")
    return vector


def _dof(words: list[str], known: tuple[str, ...], bone: str) -> tuple[str, ...]:
    """Return degrees of freedom in lower case, if they are known ones."""
    dof = tuple(word.lower() for word in words)
    for name in dof:
        if name not in known:
            raise ValueError(f"bone {bone!r} moves by {name!r}, which is not supported")
    return dof


def _frames(path: Path, skeleton: Skeleton) -> tuple[dict[str, Real], bool]:
    """Read the numbers of a motion, bone to (T, dof), and whether its angles are degrees."""
    moving = {bone.name: len(bone.dof) for bone in skeleton.bones if bone.dof}
    rows: dict[str, list[list[float]]] = {name: [] for name in moving}
    degrees = skeleton.degrees
    frames = 0
    for line in read_text(path, "AMC").splitlines():
        words = words_of(line)
        if not words:
            continue
        if words[0].startswith(":"):
            degrees = {":degrees": True, ":radians": False}.get(words[0].lower(), degrees)
        elif len(words) == 1 and words[0].isdigit():
            _complete(rows, frames)
            frames += 1
        else:
            name, *numbers = words
            if len(numbers) != moving.get(name) or len(rows[name]) != frames - 1:
                raise ValueError(f"frame {frames}: {len(numbers)} numbers for bone {name!r}")
            rows[name].append([float(number) for number in numbers])
    _complete(rows, frames)
    if not frames:
        raise ValueError("no frame")
    values = {name: np.array(row, dtype=np.float64) for name, row in rows.items()}
    if not all(np.isfinite(table).all() for table in values.values()):
        raise ValueError("numbers that are not finite")
    return values, degrees


def _complete(rows: dict[str, list[list[float]]], frames: int) -> None:
    """Raise unless all frames so far have all bones."""
    for name, row in rows.items():
        if len(row) != frames:
            raise ValueError(f"frame {frames} lacks bone {name!r}")
