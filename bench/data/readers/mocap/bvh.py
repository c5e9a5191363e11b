"""BVH files: a skeleton and its joint angles in one text."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from bench.data.readers.mocap.text import read_text
from bench.data.rotations import Real, rotation
from bench.data.sequences import DataError

_MOST_JOINTS: Final = 1000


@dataclass(eq=False)
class Joint:
    """A joint of the hierarchy.

    Attributes:
        name: as in the file; the end site of joint A is "A/end".
        parent: place in the list of joints, -1 for a root.
        offset: (3,), from the parent at rest, in the unit of the file.
        channels: such as "Zrotation", in the order of their columns.
    """

    name: str
    parent: int
    offset: Real
    channels: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Bvh:
    """A file as it was read.

    Attributes:
        joints: parents come before their children.
        channels: (T, all channels), in the order of the joints.
        fps: frames per second; a rate within 0.1% of a whole number is that number.
    """

    joints: list[Joint]
    channels: Real
    fps: float

    def positions(self) -> dict[str, Real]:
        """Place every joint: name to (T, 3) in the unit and the axes of the file.

        Rotations are applied in the order of the channels, the first outermost. A position channel
        replaces the offset in its coordinate, in the root as in other joints.
        """
        frames = len(self.channels)
        places: list[Real] = []
        turns: list[Real] = []
        column = 0
        for joint in self.joints:
            values = self.channels[:, column : column + len(joint.channels)]
            column += len(joint.channels)
            move = np.tile(joint.offset, (frames, 1))
            turning = [k for k, name in enumerate(joint.channels) if name.endswith("rotation")]
            for k, name in enumerate(joint.channels):
                if name.endswith("position"):
                    move[:, "XYZ".index(name[0])] = values[:, k]
            axes = "".join(joint.channels[k][0].lower() for k in turning)
            turn = rotation(np.deg2rad(values[:, turning]), axes)
            if joint.parent >= 0:
                around = turns[joint.parent]
                move = places[joint.parent] + np.einsum("tij,tj->ti", around, move)
                turn = around @ turn
            places.append(move)
            turns.append(turn)
        return {joint.name: place for joint, place in zip(self.joints, places, strict=True)}


def read_bvh(path: str | os.PathLike[str]) -> Bvh:
    """Read a BVH file.

    Raises:
        DataError: it is missing, no BVH, torn, or holds other than numbers where they belong.
    """
    path = Path(path)
    text = read_text(path, "BVH")
    head, found, tail = text.partition("MOTION")
    if not found or not head.split()[:1] == ["HIERARCHY"]:
        raise DataError(
            f"{path}: no BVH file; expected HIERARCHY, the joints, MOTION and the frames, so check "
            "that it is complete"
        )
    try:
        joints = _hierarchy(head.replace("{", " { ").replace("}", " } ").split()[1:])
        channels, seconds = _motion(tail.splitlines(), sum(len(j.channels) for j in joints))
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path}: torn or damaged BVH file ({error}); copy or export it again"
        ) from None
    fps = 1.0 / seconds
    nearest = round(fps)
    return Bvh(joints, channels, float(nearest) if abs(fps - nearest) < 1e-3 * fps else fps)


def _hierarchy(words: list[str]) -> list[Joint]:
    """Read the joints, parents first."""
    joints: list[Joint] = []
    open_joints: list[int] = []
    k = 0
    while k < len(words):
        word = words[k].upper()
        if word in ("ROOT", "JOINT", "END"):
            parent = open_joints[-1] if open_joints else -1
            name = f"{joints[parent].name}/end" if word == "END" else words[k + 1]
            if words[k + 2] != "{" or (word != "ROOT") != bool(open_joints):
                raise ValueError(f"misplaced {words[k]} {name!r}")
            if name in (joint.name for joint in joints) or len(joints) == _MOST_JOINTS:
                raise ValueError(f"second joint {name!r}")
            joints.append(Joint(name, parent, np.zeros(3)))
            open_joints.append(len(joints) - 1)
            k += 3
        elif word == "OFFSET":
            joints[open_joints[-1]].offset = np.array([float(x) for x in words[k + 1 : k + 4]])
            if joints[open_joints[-1]].offset.shape != (3,):
                raise ValueError("an OFFSET of other than 3 numbers")
            k += 4
        elif word == "CHANNELS":
            count = int(words[k + 1])
            names = [_channel(name) for name in words[k + 2 : k + 2 + count]]
            joints[open_joints[-1]].channels = names
            k += 2 + count
        elif word == "}":
            open_joints.pop()
            k += 1
        else:
            raise ValueError(f"{words[k]!r} where a joint, OFFSET, CHANNELS or a brace belongs")
    if open_joints or not joints:
        raise ValueError("braces that do not close" if joints else "no joint")
    return joints


def _channel(name: str) -> str:
    """Return the usual spelling of a channel."""
    usual = name[:1].upper() + name[1:].lower()
    if usual not in {f"{a}{kind}" for a in "XYZ" for kind in ("position", "rotation")}:
        raise ValueError(f"unknown channel {name!r}")
    return usual


def _motion(lines: list[str], width: int) -> tuple[Real, float]:
    """Read the frames, (T, width), and the seconds from each to the next."""
    lines = [line for line in lines if line.strip()]
    labels = [line.partition(":")[0].strip().lower() for line in lines[:2]]
    if labels != ["frames", "frame time"]:
        raise ValueError("no 'Frames:' and 'Frame Time:' after MOTION")
    count, seconds = int(lines[0].partition(":")[2]), float(lines[1].partition(":")[2])
    if count < 1 or not 0 < seconds < 10:
        raise ValueError(f"{count} frames of {seconds} s")
    rows = [line.split() for line in lines[2:]]
    if len(rows) != count:
        raise ValueError(f"{len(rows)} frames, but 'Frames: {count}'")
    wrong = [k for k, row in enumerate(rows) if len(row) != width]
    if wrong:
        raise ValueError(f"frame {wrong[0]} has {len(rows[wrong[0]])} numbers, not {width}")
    frames = np.array(rows, dtype=np.float64).reshape(count, width)
    if not np.isfinite(frames).all():
        raise ValueError("numbers that are not finite")
    return frames, seconds
