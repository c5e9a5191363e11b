"""Folders of motion capture turned into an open motion file of 17 joints."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.data.readers.mocap.asf import Skeleton, read_amc, read_asf
from bench.data.readers.mocap.bvh import Bvh, Joint, read_bvh
from bench.data.readers.motion import Clip, Split, save_motion
from bench.data.rotations import Real
from bench.data.sequences import DataError
from bench.data.skeleton import JOINT_NAMES
from bench.records.progress import progress as progress_line

ASF_JOINTS: Final[dict[str, tuple[str, ...]]] = {
    "Hip": ("lhipjoint", "rhipjoint"),
    "RHip": ("rhipjoint",),
    "RKnee": ("rfemur",),
    "RFoot": ("rtibia",),
    "LHip": ("lhipjoint",),
    "LKnee": ("lfemur",),
    "LFoot": ("ltibia",),
    "Spine": ("lowerback",),
    "Thorax": ("thorax",),
    "Neck/Nose": ("lowerneck", "upperneck"),
    "Head": ("head",),
    "LShoulder": ("lclavicle",),
    "LElbow": ("lhumerus",),
    "LWrist": ("lradius",),
    "RShoulder": ("rclavicle",),
    "RElbow": ("rhumerus",),
    "RWrist": ("rradius",),
}
"""The 17 joints as ends of the bones of the CMU skeleton, or the mean of two: its root lies above
the hips, and its neck has two bones where Human3.6M has a point in the middle."""

BVH_JOINTS: Final[dict[str, tuple[str, ...]]] = {
    "Hip": ("LeftUpLeg", "RightUpLeg"),
    "RHip": ("RightUpLeg",),
    "RKnee": ("RightLeg",),
    "RFoot": ("RightFoot",),
    "LHip": ("LeftUpLeg",),
    "LKnee": ("LeftLeg",),
    "LFoot": ("LeftFoot",),
    "Spine": ("Spine",),
    "Thorax": ("Neck",),
    "Neck/Nose": ("Neck1", "Head"),
    "Head": ("Head/end",),
    "LShoulder": ("LeftArm",),
    "LElbow": ("LeftForeArm",),
    "LWrist": ("LeftHand",),
    "RShoulder": ("RightArm",),
    "RElbow": ("RightForeArm",),
    "RWrist": ("RightHand",),
}
"""The same points in the BVH conversions of the CMU database, where a joint is where it turns."""

_INCH: Final = 0.0254
UNITS: Final = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": _INCH, "cmu": _INCH / 0.45}
"""Metres per unit; "cmu" is that of the CMU database, inches times 0.45."""

_CMU_ONLY: Final = "LHipJoint"  # a joint that only the BVH conversions of CMU have
_ON_THORAX: Final = ("Neck", "LeftShoulder", "RightShoulder")
_HEIGHT_M: Final = (0.8, 2.6)  # of the head above the ankles, along straight bones
_PATHS: Final = ((10, 9, 8, 7, 0, 1, 2, 3), (10, 9, 8, 7, 0, 4, 5, 6))


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Where the 17 joints are in files of other makers.

    Attributes:
        unit: metres per unit of length; None for inches in AMC, and in BVH for centimetres, or
            CMU's unit where only that gives a skeleton the size of a person.
        up: the axis that points up, "y" or "z".
        skip: frames to leave out at the beginning, such as a T-pose.
        joints: each of the 17 to the names whose mean it is; None for CMU's names. "A/end" is the
            end site of joint A in BVH.
    """

    unit: float | None = None
    up: str = "y"
    skip: int = 0
    joints: Mapping[str, tuple[str, ...]] | None = None


@dataclass
class Imported:
    """What an import did.

    Attributes:
        clips: written.
        frames: of all clips.
        test_subjects: whose clips are the test split.
        broken: one line for each file that was left out.
    """

    clips: int = 0
    frames: int = 0
    test_subjects: tuple[str, ...] = ()
    broken: list[str] = field(default_factory=list)


def import_motion(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    mapping: str | os.PathLike[str] | None = None,
    actions: str | os.PathLike[str] | None = None,
    fps: int = 50,
    source_fps: float = 120.0,
    test_subjects: Sequence[str] | None = None,
    progress: bool = False,
) -> Imported:
    """Convert every AMC and BVH file of a folder and those below it to one motion file.

    The subject of an AMC file is the name of its ASF file (`07_01.amc` belongs to `07.asf`, or to
    the only ASF file beside it); that of a BVH file is the folder it lies in, or, directly in
    `folder`, its name up to the first "_". The action is the file's name unless `actions` has
    another. Motion is interpolated linearly from its rate to `fps`, and turned so that z is up.

    BVH conversions of the CMU database (known by their joint LHipJoint) begin with a T-pose and
    lack the length of the thorax bone. The T-pose is left out, and the bone gets
    the length of the one below it, which agrees to 1% in the database.

    Args:
        folder: to read.
        out: motion file to write, atomically.
        mapping: JSON file for other skeletons than CMU's; see `read_naming`.
        actions: CSV file with the columns file and action; files are named without
            suffix, or by its path below `folder`.
        fps: frames per second to write.
        source_fps: of AMC files, which do not state it; BVH files do.
        test_subjects: whose clips are the test split; None for every fifth subject in order, or
            the last of fewer than five. A single subject is all train.
        progress: show a bar.

    Returns:
        What was written, and one line for each broken file, which was left out.

    Raises:
        DataError: there is no file, none can be used, or an argument does not fit them.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".amc", ".bvh"))
    if not files:
        raise DataError(f"{folder}: has no .amc or .bvh file; expected some, so check the folder")
    if fps < 1 or not source_fps > 0:
        raise DataError(f"fps is {fps} and source-fps {source_fps}; expected both above 0")
    naming = Naming() if mapping is None else read_naming(mapping)
    named = {} if actions is None else _read_actions(Path(actions))
    done = Imported()
    skeletons: dict[Path, Skeleton] = {}
    found: list[tuple[str, str, str, Real]] = []
    with progress_line("reading", len(files), not progress, "file") as tick:
        for path in files:
            tick(path.stem)
            name = path.relative_to(folder).with_suffix("").as_posix()
            try:
                if path.suffix.lower() == ".amc":
                    subject, poses = _from_amc(path, naming, skeletons)
                    rate = source_fps
                else:
                    subject = path.parent.name if path.parent != folder else path.stem.split("_")[0]
                    poses, rate = _from_bvh(path, naming)
                poses = resampled(_upright(poses[naming.skip :], naming.up, path), rate, fps)
            except DataError as error:
                done.broken.append(str(error))
                continue
            action = named.get(name, named.get(path.stem, path.stem))
            found.append((name, subject, action, poses))
    if not found:
        raise DataError(
            f"{folder}: none of {len(files)} files can be used; the first: {done.broken[0]}"
        )
    done.test_subjects = _test_subjects([subject for _, subject, _, _ in found], test_subjects)
    clips: list[Clip] = []
    repeated: Counter[str] = Counter()
    for name, subject, action, poses in found:
        repeated[name] += 1  # an AMC and a BVH file may have one name
        unique = name if repeated[name] == 1 else f"{name} ({repeated[name]})"
        split: Split = "test" if subject in done.test_subjects else "train"
        clips.append(Clip(unique, subject, action, split, poses.astype(np.float32), fps))
    save_motion(out, clips, source=folder.resolve().name)
    done.clips, done.frames = len(clips), sum(len(clip.positions) for clip in clips)
    return done


def read_naming(path: str | os.PathLike[str]) -> Naming:
    """Read a mapping file: a JSON object with any of these.

    `unit`: "m", "cm", "mm", "inch", "cmu", or a number of metres. `up`: "y" or "z". `skip`: frames
    to leave out at the beginning. `joints`: an object with all of the 17 names of
    `bench.data.skeleton.JOINT_NAMES`, each with a joint's name, a list of two or more names whose
    mean it is, or `[name, "end"]` for the end site of a joint.

    Raises:
        DataError: it is missing, no such JSON, or lacks a joint.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no mapping in JSON ({error}); check the file") from None
    known = ("unit", "up", "skip", "joints")
    if not isinstance(data, dict) or set(data) - set(known):
        raise DataError(f"{path}: expected an object with {', '.join(known)} only")
    unit, up, skip = data.get("unit"), data.get("up", "y"), data.get("skip", 0)
    metres = UNITS.get(unit) if isinstance(unit, str) else unit
    if unit is not None and not (isinstance(metres, int | float) and metres > 0):
        raise DataError(
            f"{path}: unit is {unit!r}; expected one of {', '.join(UNITS)}, or metres above 0"
        )
    if up not in ("y", "z") or not isinstance(skip, int) or skip < 0:
        raise DataError(f"{path}: up is {up!r}, skip {skip!r}; expected 'y' or 'z', and frames")
    joints = data.get("joints")
    return Naming(
        unit=metres, up=up, skip=skip, joints=None if joints is None else _joints(path, joints)
    )


def _joints(path: Path, names_of: Any) -> dict[str, tuple[str, ...]]:
    """Check the joints of a mapping."""
    wrong = sorted(set(names_of) ^ set(JOINT_NAMES)) if isinstance(names_of, dict) else ["all"]
    if wrong:
        raise DataError(
            f"{path}: joints lack or do not know {', '.join(map(str, wrong))}; expected exactly "
            f"{', '.join(JOINT_NAMES)}"
        )
    joints = {}
    for name, value in names_of.items():
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise DataError(f"{path}: joint {name} is {value!r}; expected a name or a list of some")
        ends = len(names) == 2 and names[1] == "end"
        joints[name] = (f"{names[0]}/end",) if ends else tuple(names)
    return joints


def resampled(poses: Real, source: float, target: float) -> Real:
    """Interpolate (T, 17, 3) linearly from one frame rate to another, from the first frame on."""
    if source == target:
        return poses
    count = int((len(poses) - 1) * target / source + 1e-6) + 1
    at = np.minimum(np.arange(count) * (source / target), len(poses) - 1)
    below = np.minimum(at.astype(np.int64), max(len(poses) - 2, 0))
    above = np.minimum(below + 1, len(poses) - 1)
    share = (at - below)[:, None, None]
    return np.asarray(poses[below] * (1 - share) + poses[above] * share, dtype=np.float64)


def _from_amc(path: Path, naming: Naming, skeletons: dict[Path, Skeleton]) -> tuple[str, Real]:
    """Return the subject and the poses, (T, 17, 3) metres, of an AMC file."""
    beside = {p.stem: p for p in sorted(path.parent.iterdir()) if p.suffix.lower() == ".asf"}
    skeleton = beside.get(path.stem.split("_")[0])
    if skeleton is None and len(beside) == 1:
        (skeleton,) = beside.values()
    if skeleton is None:
        raise DataError(
            f"{path}: its skeleton is not beside it; expected {path.stem.split('_')[0]}.asf"
        )
    if skeleton not in skeletons:
        skeletons[skeleton] = read_asf(skeleton)
    places = read_amc(path, skeletons[skeleton])
    poses = _gathered(path, places, naming.joints or ASF_JOINTS)
    poses *= _INCH if naming.unit is None else naming.unit
    _check_height(path, poses, "inches divided by the file's scale")
    return skeleton.stem, poses


def _from_bvh(path: Path, naming: Naming) -> tuple[Real, float]:
    """Return the poses, (T, 17, 3) metres, and the frame rate of a BVH file."""
    file = _mended(read_bvh(path))
    places = file.positions()
    poses = _gathered(path, places, naming.joints or BVH_JOINTS)
    if naming.unit is not None:
        poses *= naming.unit
    elif _CMU_ONLY in places and not _like_a_person(poses * UNITS["cm"]):
        poses *= UNITS["cmu"]
    else:
        poses *= UNITS["cm"]
    _check_height(path, poses, "centimetres")
    return poses, file.fps


def _mended(file: Bvh) -> Bvh:
    """Undo the two oddities of BVH conversions of the CMU database, where they are there."""
    joints = {joint.name: joint for joint in file.joints}
    if not {_CMU_ONLY, "Spine1", *_ON_THORAX} <= set(joints):
        return file
    channels = file.channels
    root = file.joints[0].channels
    turning = [k for k, name in enumerate(root) if name.endswith("rotation")]
    if len(channels) > 1 and not channels[0, turning].any():
        channels = channels[1:]  # nobody is recorded facing exactly forward
    below = joints["Spine1"]
    thorax = np.array([0.0, np.linalg.norm(below.offset), 0.0])
    lost = not any(joints[name].offset.any() for name in _ON_THORAX)
    mended = [
        Joint(joint.name, joint.parent, thorax, joint.channels)
        if lost and joint.name in _ON_THORAX
        else joint
        for joint in file.joints
    ]
    return Bvh(mended, channels, file.fps)


def _gathered(
    path: Path, places: Mapping[str, Real], joints: Mapping[str, tuple[str, ...]]
) -> Real:
    """Return the 17 joints of a motion, (T, 17, 3)."""
    missing = [name for names in joints.values() for name in names if name not in places]
    if missing:
        raise DataError(
            f"{path}: has no joint {', '.join(missing)}; it has {', '.join(places)}, so give "
            "--mapping with their names"
        )
    return np.stack(
        [np.mean([places[name] for name in joints[joint]], axis=0) for joint in JOINT_NAMES], axis=1
    )


def _height(poses: Real) -> float:
    """Return the length of the way from the head to the ankles along the bones, in metres."""
    first = poses[0]
    ways = [sum(np.linalg.norm(np.diff(first[list(way)], axis=0), axis=1)) for way in _PATHS]
    return float(np.mean(ways))


def _like_a_person(poses: Real) -> bool:
    return _HEIGHT_M[0] <= _height(poses) <= _HEIGHT_M[1]


def _check_height(path: Path, poses: Real, default: str) -> None:
    """Raise unless the skeleton is as large as a person, in which the unit would show."""
    if not _like_a_person(poses):
        raise DataError(
            f"{path}: from head to ankles it measures {_height(poses):.3g} m, expected "
            f"{_HEIGHT_M[0]} to {_HEIGHT_M[1]} m; give its unit in --mapping (without, it is read "
            f"as {default})"
        )


def _upright(poses: Real, up: str, path: Path) -> Real:
    """Turn poses so that z is up: y up is turned about the x axis."""
    if not len(poses):
        raise DataError(f"{path}: no frame is left after those to skip; give a smaller skip")
    if up == "z":
        return poses
    return np.stack([poses[..., 0], -poses[..., 2], poses[..., 1]], axis=-1)


def _read_actions(path: Path) -> dict[str, str]:
    """Read file names and their actions."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: no CSV of actions ({error}); check the file") from None
    if not rows or not {"file", "action"} <= set(rows[0]):
        raise DataError(f"{path}: expected the columns file and action, and at least one row")
    return {
        re.sub(r"\.(amc|bvh)$", "", row["file"].strip(), flags=re.IGNORECASE): row["action"].strip()
        for row in rows
        if row["file"] and row["action"]
    }


def _test_subjects(subjects: Sequence[str], chosen: Sequence[str] | None) -> tuple[str, ...]:
    """Return whose clips are the test split."""
    everyone = sorted(set(subjects))
    if chosen is None:
        return tuple(everyone[4::5] or everyone[1:][-1:])
    unknown = [name for name in chosen if name not in everyone]
    if unknown:
        raise DataError(f"no subject {', '.join(unknown)} to test; there are {', '.join(everyone)}")
    return tuple(chosen)
