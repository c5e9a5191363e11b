"""Motion capture files: forward kinematics against hand-worked truth, and their import."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bench.cli import main
from bench.data.readers.mocap.asf import read_amc, read_asf
from bench.data.readers.mocap.bvh import read_bvh
from bench.data.readers.mocap.convert import import_motion, read_naming, resampled
from bench.data.readers.motion import load_motion
from bench.data.rotations import rotation
from bench.data.sequences import DataError
from bench.data.skeleton import JOINT_NAMES

CMU = 0.0254 / 0.45  # metres per unit of the CMU database, as its page of questions says


# --- rotations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "degrees", "before", "after"),
    [
        ("", [], [1, 2, 3], [1, 2, 3]),
        ("x", [90], [0, 1, 0], [0, 0, 1]),
        ("y", [90], [0, 0, 1], [1, 0, 0]),
        ("z", [90], [1, 0, 0], [0, 1, 0]),
        # The first is outermost: x turns y to z, then z leaves it.
        ("zx", [90, 90], [0, 1, 0], [0, 0, 1]),
        # z turns y to -x, then x leaves it.
        ("xz", [90, 90], [0, 1, 0], [-1, 0, 0]),
        ("zyx", [90, 90, 90], [0, 1, 0], [0, 1, 0]),
    ],
)
def test_quarter_turns(axes: str, degrees: list[float], before: Any, after: Any) -> None:
    found = rotation(np.deg2rad([degrees]), axes)[0] @ np.array(before)
    np.testing.assert_allclose(found, after, atol=1e-12)


@pytest.mark.parametrize("axes", ["x", "zyx", "yxz", "xyxzy", ""])
def test_rotations_are_those_of_scipy(axes: str) -> None:
    angles = np.random.default_rng(0).uniform(-4, 4, (7, len(axes)))
    start = Rotation.random(7, random_state=1)
    product = start
    for axis, angle in zip(axes, angles.T, strict=True):
        product *= Rotation.from_euler(axis, angle[:, None])
    found = rotation(angles, axes, start=start.as_matrix())
    np.testing.assert_allclose(found, product.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(start.as_matrix() @ rotation(angles, axes), found, atol=1e-12)


# --- BVH by hand -------------------------------------------------------------------------------

ARM = """HIERARCHY
ROOT Base
{
  OFFSET 7 7 7
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Elbow
  {
    OFFSET 10 0 0
    CHANNELS 3 Zrotation Yrotation Xrotation
    End Site
    {
      OFFSET 5 0 0
    }
  }
  JOINT Side {
    OFFSET 0 10 0
    CHANNELS 0
    JOINT Slider
    {
      OFFSET 0 0 1
      CHANNELS 1 Zposition
    }
  }
}
MOTION
Frames: 4
Frame Time: 0.0083333
0 0 0   0 0 0   0 0 0   1
1 2 3   90 0 0  -90 0 0  2
0 0 0   90 90 0  0 0 90  1
0 0 0   0 0 90   0 90 0  1
"""


def _file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_bvh_arm_by_hand(tmp_path: Path) -> None:
    file = read_bvh(_file(tmp_path / "arm.bvh", ARM))
    assert file.fps == 120
    places = file.positions()
    wanted = {
        "Base": [[0, 0, 0], [1, 2, 3], [0, 0, 0], [0, 0, 0]],  # positions replace the offset
        "Elbow": [
            [10, 0, 0],
            [1, 12, 3],  # the base turned x to y
            [0, 10, 0],  # x about x stays, then about z to y
            [0, 0, -10],  # about y
        ],
        "Elbow/end": [
            [15, 0, 0],
            [6, 12, 3],  # the elbow turned back
            [0, 15, 0],
            [-5, 0, -10],  # twice about y: x to -z to -x
        ],
        "Side": [[0, 10, 0], [-9, 2, 3], [0, 0, 10], [0, 10, 0]],
        "Slider": [[0, 10, 1], [-9, 2, 5], [1, 0, 10], [1, 10, 0]],
    }
    assert set(places) == set(wanted)
    for name, place in wanted.items():
        np.testing.assert_allclose(places[name], place, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "PERSONS", "no BVH file; expected HIERARCHY"),
        ("MOTION", "", "no BVH file"),
        ("Frames: 4", "Frames: 5", "4 frames, but 'Frames: 5'"),
        ("Frame Time: 0.0083333", "Frame Time: 0", "4 frames of 0.0 s"),
        ("1 2 3   90", "1 2   90", "frame 1 has 9 numbers, not 10"),
        ("1 2 3   90", "1 2 x   90", "could not convert"),
        ("1 2 3   90", "1 2 nan   90", "not finite"),
        ("Zposition Zrotation", "Zposition Wrotation", "unknown channel 'Wrotation'"),
        ("JOINT Side {", "JOINT Elbow {", "second joint 'Elbow'"),
        ("OFFSET 10 0 0", "OFFSET 10 0 z", "could not convert"),
        ("OFFSET 10 0 0", "BONE 10 0 0", "'BONE' where a joint"),
        ("  }\n}\nMOTION", "  }\nMOTION", "braces that do not close"),
    ],
)
def test_a_damaged_bvh_is_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ARM
    with pytest.raises(DataError, match=message) as caught:
        read_bvh(_file(tmp_path / "arm.bvh", ARM.replace(old, new, 1)))
    assert "arm.bvh" in str(caught.value)


# --- ASF and AMC by hand -----------------------------------------------------------------------

ASF = """# made by a test
:version 1.10
:name made
:units
  mass 1.0
  length 0.5
  angle deg
:documentation
   nothing
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name upper
     direction 0 1 0
     length 2
     axis 0 0 90   XYZ
    dof rx ry
    limits (-180.0 180.0)
           (-90.0 90.0)
  end
  begin
     id 2
     name lower
     direction 1 0 0
     length 3
     axis 90 0 90 XYZ
  end
  begin
     id 3
     name other
     direction 0 1 0
     length 1
     axis 0 0 0 XYZ
    dof rx ry rz
    limits (-180.0 180.0)
  end
:hierarchy
  begin
    root upper other
    upper lower
  end
"""
AMC = """#!made
:FULLY-SPECIFIED
:DEGREES
1
root 0 0 0 0 0 0
upper 0 0
other 0 0 0
2
root 1 2 3 0 90 0
upper 0 0
other 0 0 0
3
root 0 0 0 0 0 0
upper 90 0
other 90 90 0
4
root 0 0 0 0 0 0
upper 0 90
other 0 90 90
5
root 0 0 0 90 90 0
upper 0 0
other 0 0 0
"""


def test_an_acclaim_skeleton_by_hand(tmp_path: Path) -> None:
    skeleton = read_asf(_file(tmp_path / "a.asf", ASF))
    places = read_amc(_file(tmp_path / "a_1.amc", AMC), skeleton)
    wanted = {
        "root": [[0, 0, 0], [1, 2, 3], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
        "upper": [
            [0, 2, 0],
            [1, 4, 3],
            # Its axis is turned a quarter about z, so that its x is the world's y: no change here.
            [0, 2, 0],
            # Its y is the world's -x, about which a quarter turns y to -z.
            [0, 0, -2],
            # The root turns about x first (y to z), then about y (z to x).
            [2, 0, 0],
        ],
        "lower": [
            [3, 2, 0],
            [1, 4, 0],  # x to -z
            [0, 2, -3],  # but what hangs on the bone turns about the world's y
            [3, 0, -2],  # along the axis of the turn
            [2, 0, -3],  # x stays about x, then to -z
        ],
        "other": [
            [0, 1, 0],
            [1, 3, 3],
            [1, 0, 0],  # about x: y to z; about y: z to x
            [-1, 0, 0],  # about y: y stays; about z: y to -x
            [1, 0, 0],
        ],
    }
    for name, place in wanted.items():
        # Lengths in the file are inches times its scale, 0.5.
        np.testing.assert_allclose(places[name], np.array(place) * 2, atol=1e-9, err_msg=name)


ANGLES = st.lists(st.floats(-360, 360), min_size=6, max_size=6)


@given(ANGLES)
def test_bones_keep_their_lengths(tmp_path_factory: pytest.TempPathFactory, a: list[float]) -> None:
    folder = tmp_path_factory.mktemp("fk")
    frame = f"1\nroot 1 2 3 {a[0]} {a[1]} {a[2]}\nupper {a[3]} {a[4]}\nother {a[5]} 0 {a[0]}\n"
    places = read_amc(_file(folder / "a.amc", frame), read_asf(_file(folder / "a.asf", ASF)))
    for bone, parent, length in (("upper", "root", 2), ("lower", "upper", 3), ("other", "root", 1)):
        found = np.linalg.norm(places[bone] - places[parent], axis=-1)
        np.testing.assert_allclose(found, 2 * length, rtol=1e-9)
    head = ARM.partition("Frames:")[0]
    row = f"0 0 0 {a[0]} {a[1]} {a[2]} {a[3]} {a[4]} {a[5]} 1"
    text = f"{head}Frames: 1\nFrame Time: 0.02\n{row}\n"
    arm = read_bvh(_file(folder / "a.bvh", text)).positions()
    assert np.linalg.norm(arm["Elbow"] - arm["Base"]) == pytest.approx(10)
    assert np.linalg.norm(arm["Elbow/end"] - arm["Elbow"]) == pytest.approx(5)


def test_radians_are_read(tmp_path: Path) -> None:
    skeleton = read_asf(_file(tmp_path / "a.asf", ASF))
    amc = f":RADIANS\n1\nroot 0 0 0 0 {np.pi / 2} 0\nupper 0 0\nother 0 0 0\n"
    places = read_amc(_file(tmp_path / "a.amc", amc), skeleton)
    np.testing.assert_allclose(places["lower"][0], [0, 4, -6], atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":hierarchy", ":tree", "no section :hierarchy"),
        ("    upper lower", "    uper lower", "misplaced bone 'lower' at 'uper'"),
        ("direction 1 0 0", "direction 1 0", "'1 0' where three numbers belong"),
        ("dof rx ry\n", "dof rx l\n", "bone 'upper' moves by 'l', which is not supported"),
        ("axis 90 0 90 XYZ", "axis 90 0 90 XXZ", "axis order 'xxz'"),
        ("length 0.5", "length 0", "a unit of length of 0.0"),
    ],
)
def test_a_damaged_skeleton_is_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ASF
    with pytest.raises(DataError, match=message):
        read_asf(_file(tmp_path / "a.asf", ASF.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no frame"),
        (AMC[:-20], "frame 5"),
        (AMC.replace("upper 90 0\n", ""), "frame 3 lacks bone 'upper'"),
        (AMC.replace("upper 90 0", "upper 90"), "frame 3: 1 numbers for bone 'upper'"),
        (AMC.replace("upper 90 0", "lower 90 0"), "frame 3: 2 numbers for bone 'lower'"),
        (AMC.replace("upper 90 0", "upper 90 inf"), "not finite"),
    ],
)
def test_a_damaged_motion_is_told(tmp_path: Path, text: str, message: str) -> None:
    skeleton = read_asf(_file(tmp_path / "a.asf", ASF))
    with pytest.raises(DataError, match=message):
        read_amc(_file(tmp_path / "a.amc", text), skeleton)


# --- whole folders -----------------------------------------------------------------------------

# A person in units of the CMU database, rest pose, y up, facing z: where each bone ends.
ENDS = {
    "lhipjoint": ("root", (2, -2, 0)),
    "lfemur": ("lhipjoint", (0, -7, 0)),
    "ltibia": ("lfemur", (0, -7, 0)),
    "rhipjoint": ("root", (-2, -2, 0)),
    "rfemur": ("rhipjoint", (0, -7, 0)),
    "rtibia": ("rfemur", (0, -7, 0)),
    "lowerback": ("root", (0, 2, 0)),
    "upperback": ("lowerback", (0, 2, 0)),
    "thorax": ("upperback", (0, 2, 0)),
    "lowerneck": ("thorax", (0, 2, 0)),
    "upperneck": ("lowerneck", (0, 1, 0)),
    "head": ("upperneck", (0, 2, 0)),
    "lclavicle": ("thorax", (3, 0, 0)),
    "lhumerus": ("lclavicle", (5, 0, 0)),
    "lradius": ("lhumerus", (4, 0, 0)),
    "rclavicle": ("thorax", (-3, 0, 0)),
    "rhumerus": ("rclavicle", (-5, 0, 0)),
    "rradius": ("rhumerus", (-4, 0, 0)),
}
# The 17 joints of that person in the same units, the root at (0, 17, 0), by hand.
REST = {
    "Hip": (0, 15, 0),
    "RHip": (-2, 15, 0),
    "RKnee": (-2, 8, 0),
    "RFoot": (-2, 1, 0),
    "LHip": (2, 15, 0),
    "LKnee": (2, 8, 0),
    "LFoot": (2, 1, 0),
    "Spine": (0, 19, 0),
    "Thorax": (0, 23, 0),
    "Neck/Nose": (0, 25.5, 0),
    "Head": (0, 28, 0),
    "LShoulder": (3, 23, 0),
    "LElbow": (8, 23, 0),
    "LWrist": (12, 23, 0),
    "RShoulder": (-3, 23, 0),
    "RElbow": (-8, 23, 0),
    "RWrist": (-12, 23, 0),
}


def _rest() -> np.ndarray[Any, Any]:
    """The 17 joints in metres, z up, for a person who faces -y."""
    x, y, z = np.array([REST[name] for name in JOINT_NAMES], dtype=np.float64).T * CMU
    return np.stack([x, -z, y], axis=-1)


def _asf_text() -> str:
    bones = ""
    for name, (_, end) in ENDS.items():
        length = float(np.linalg.norm(end))
        direction = " ".join(str(x / length) for x in end)
        dof = "dof rx ry rz" if name == "lhumerus" else ""
        bones += (
            f"begin\n name {name}\n direction {direction}\n length {length}\n"
            f" axis 0 0 0 XYZ\n {dof}\nend\n"
        )
    tree = "\n".join(f"{parent} {name}" for name, (parent, _) in ENDS.items())
    return (
        ":units\n length 0.45\n angle deg\n:root\n order TX TY TZ RX RY RZ\n axis XYZ\n"
        f" position 0 0 0\n orientation 0 0 0\n:bonedata\n{bones}:hierarchy\nbegin\n{tree}\nend\n"
    )


def _amc_text(frames: int) -> str:
    """A person who moves by 0.1 units in x per frame."""
    rows = [f"{t + 1}\nroot {t / 10} 17 0 0 0 0\nlhumerus 0 0 0\n" for t in range(frames)]
    return ":DEGREES\n" + "".join(rows)


# Joint of BVH: its parent, and its offset; a conversion of CMU, where the thorax has no length.
BVH = {
    "LHipJoint": ("Hips", (0, 0, 0)),
    "LeftUpLeg": ("LHipJoint", (2, -2, 0)),
    "LeftLeg": ("LeftUpLeg", (0, -7, 0)),
    "LeftFoot": ("LeftLeg", (0, -7, 0)),
    "RightUpLeg": ("Hips", (-2, -2, 0)),
    "RightLeg": ("RightUpLeg", (0, -7, 0)),
    "RightFoot": ("RightLeg", (0, -7, 0)),
    "Spine": ("Hips", (0, 2, 0)),
    "Spine1": ("Spine", (0, 2, 0)),
    "Neck": ("Spine1", (0, 0, 0)),
    "Neck1": ("Neck", (0, 2, 0)),
    "Head": ("Neck1", (0, 1, 0)),
    "LeftShoulder": ("Spine1", (0, 0, 0)),
    "LeftArm": ("LeftShoulder", (3, 0, 0)),
    "LeftForeArm": ("LeftArm", (5, 0, 0)),
    "LeftHand": ("LeftForeArm", (4, 0, 0)),
    "RightShoulder": ("Spine1", (0, 0, 0)),
    "RightArm": ("RightShoulder", (-3, 0, 0)),
    "RightForeArm": ("RightArm", (-5, 0, 0)),
    "RightHand": ("RightForeArm", (-4, 0, 0)),
}


def _bvh_text(
    rows: list[str], *, scale: float = 1.0, rename: Callable[[str], str] = str, dt: float = 0.02
) -> str:
    def joint(name: str) -> str:
        children = "".join(joint(child) for child, (parent, _) in BVH.items() if parent == name)
        if name == "Head":
            children += f"End Site {{ OFFSET 0 {2 * scale} 0 }}\n"
        offset = " ".join(str(x * scale) for x in BVH.get(name, ("", (0, 0, 0)))[1])
        kind, channels = ("JOINT", "0")
        if name == "Hips":
            kind = "ROOT"
            channels = "6 Xposition Yposition Zposition Zrotation Yrotation Xrotation"
        return f"{kind} {rename(name)} {{\nOFFSET {offset}\nCHANNELS {channels}\n{children}}}\n"

    frames = "\n".join(rows)
    return f"HIERARCHY\n{joint('Hips')}MOTION\nFrames: {len(rows)}\nFrame Time: {dt}\n{frames}\n"


def test_a_folder_of_both_kinds_becomes_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "cmu"
    _file(folder / "07" / "07.asf", _asf_text())
    _file(folder / "07" / "07_01.amc", _amc_text(13))
    _file(
        folder / "12" / "12_03.bvh", _bvh_text(["0 17 0 0 0 0", "9 17 0 0 90 0", "9 17 9 0 90 0"])
    )
    done = import_motion(folder, tmp_path / "out.npz")
    assert (done.clips, done.frames, done.broken) == (2, 6 + 2, [])
    walk, turned = load_motion(tmp_path / "out.npz")
    assert (walk.name, walk.subject, walk.action, walk.fps) == ("07/07_01", "07", "07_01", 50)
    assert (turned.name, turned.subject, turned.action) == ("12/12_03", "12", "12_03")
    assert (walk.split, turned.split) == ("train", "test")
    assert done.test_subjects == ("12",)
    # 13 frames at 120 Hz are 0.1 s, 6 frames at 50 Hz, 2.4 old ones apart.
    rest = _rest()
    for t in range(6):
        wanted = rest + np.array([0.24 * t * CMU, 0, 0])
        np.testing.assert_allclose(walk.positions[t], wanted, atol=1e-6)
    # The T-pose is gone, the thorax is back, and the quarter turn about the upright axis takes
    # the left side from x to -z of the file, which is y.
    x, y, z = rest.T
    wanted = np.stack([-y + 9 * CMU, x, z], axis=-1)
    np.testing.assert_allclose(turned.positions[0], wanted, atol=1e-6)
    np.testing.assert_allclose(turned.positions[1], wanted - [0, 9 * CMU, 0], atol=1e-6)


def test_other_makers_are_described_by_a_mapping(tmp_path: Path) -> None:
    def other(name: str) -> str:
        return f"m:{name}"

    folder = tmp_path / "in"
    scale = CMU * 1000  # millimetres
    text = _bvh_text(["0 0 0 0 0 0", "0 0 0 0 0 0"], scale=scale, rename=other, dt=0.04)
    _file(folder / "anna_dance.bvh", text)
    with pytest.raises(DataError, match=r"has no joint m?:?\w.*give --mapping with their names"):
        import_motion(folder, tmp_path / "out.npz")
    joints: dict[str, Any] = {
        "Hip": ["m:LeftUpLeg", "m:RightUpLeg"],
        "Spine": "m:Spine",
        "Thorax": "m:Spine1",
        "Neck/Nose": "m:Head",
        "Head": ["m:Head", "end"],
    }
    for side, word in (("L", "Left"), ("R", "Right")):
        for name, bone in (("Hip", "UpLeg"), ("Knee", "Leg"), ("Foot", "Foot")):
            joints[side + name] = f"m:{word}{bone}"
        for name, bone in (("Shoulder", "Arm"), ("Elbow", "ForeArm"), ("Wrist", "Hand")):
            joints[side + name] = f"m:{word}{bone}"
    mapping = {"unit": "mm", "up": "z", "skip": 1, "joints": joints}
    _file(tmp_path / "map.json", json.dumps(mapping))
    _file(tmp_path / "actions.csv", "file,action\nanna_dance.bvh,dancing\n")
    done = import_motion(
        folder,
        tmp_path / "out.npz",
        mapping=tmp_path / "map.json",
        actions=tmp_path / "actions.csv",
    )
    (clip,) = load_motion(tmp_path / "out.npz")
    assert (clip.subject, clip.action, clip.split, len(clip.positions)) == (
        *("anna", "dancing", "train"),
        1,
    )
    assert done.test_subjects == ()
    at = {name: clip.positions[0, k] / CMU for k, name in enumerate(JOINT_NAMES)}
    np.testing.assert_allclose(at["Head"], [0, 9, 0], atol=1e-4)  # z is up already: not turned
    np.testing.assert_allclose(at["Hip"], [0, -2, 0], atol=1e-4)
    np.testing.assert_allclose(at["LWrist"], [12, 4, 0], atol=1e-4)
    _file(tmp_path / "map.json", json.dumps({**mapping, "unit": "m"}))
    with pytest.raises(DataError, match=r"from head to ankles it measures 1\.\d+e\+03 m, expected"):
        import_motion(folder, tmp_path / "out.npz", mapping=tmp_path / "map.json")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("{", "no mapping in JSON"),
        ("[]", "expected an object with unit, up, skip, joints only"),
        ('{"units": "cm"}', "expected an object with unit"),
        ('{"unit": "km"}', "unit is 'km'; expected one of m, cm"),
        ('{"unit": 0}', "unit is 0"),
        ('{"up": "x"}', "up is 'x'"),
        ('{"joints": {"Hip": "a"}}', "joints lack or do not know Head, LElbow"),
        (json.dumps({"joints": {**dict.fromkeys(JOINT_NAMES, "a"), "Hip": 3}}), "joint Hip is 3"),
    ],
)
def test_a_wrong_mapping_is_told(tmp_path: Path, mapping: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_naming(_file(tmp_path / "map.json", mapping))


def _people(folder: Path, count: int) -> Path:
    for k in range(count):
        _file(folder / f"p{k}" / "a.bvh", _bvh_text(["0 17 0 0 1 0"]))
    return folder


@pytest.mark.parametrize(
    ("people", "given", "wanted"),
    [
        (1, None, ()),
        (2, None, ("p1",)),
        (4, None, ("p3",)),
        (6, None, ("p4",)),
        (3, ["p0", "p2"], ("p0", "p2")),
    ],
)
def test_the_split_is_by_subject(
    tmp_path: Path, people: int, given: list[str] | None, wanted: tuple[str, ...]
) -> None:
    done = import_motion(_people(tmp_path / "in", people), tmp_path / "o.npz", test_subjects=given)
    assert done.test_subjects == wanted
    clips = load_motion(tmp_path / "o.npz")
    assert {clip.subject for clip in clips if clip.split == "test"} == set(wanted)
    assert len(clips) == people


def test_an_unknown_test_subject_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no subject p9 to test; there are p0, p1"):
        import_motion(_people(tmp_path / "in", 2), tmp_path / "o.npz", test_subjects=["p9"])


def test_the_command_reports_broken_files_and_says_so_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = _people(tmp_path / "in", 2), tmp_path / "out.npz"
    command = ["motion", "import", str(folder), str(out)]
    assert main(command) == 0
    assert "2 clips, 2 frames at 50 Hz (test: p1)" in capsys.readouterr().out
    _file(folder / "p0" / "torn.bvh", _bvh_text(["0 17 0 0 1 0"])[:-9])
    _file(folder / "p0" / "lone_1.amc", _amc_text(2))
    assert main([*command, "--test-subjects", "p0", "--fps", "25"]) == 1
    shown = capsys.readouterr()
    assert "torn.bvh: torn or damaged BVH file (frame 0 has" in shown.err
    assert "lone_1.amc: its skeleton is not beside it; expected lone.asf" in shown.err
    assert "2 files could not be read" in shown.err
    assert {clip.fps for clip in load_motion(out)} == {25}
    before = out.read_bytes()
    for name in ("p0", "p1"):
        (folder / name / "a.bvh").unlink()
    assert main(command) == 2
    assert "none of 2 files can be used; the first: " in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main(["motion", "import", str(tmp_path / "none"), str(out)]) == 2
    assert "has no .amc or .bvh file" in capsys.readouterr().err


def test_resampling_is_linear_and_keeps_both_ends() -> None:
    poses = np.arange(13, dtype=np.float64)[:, None, None] * np.ones((13, 17, 3))
    for source, target, count in ((120, 50, 6), (120, 120, 13), (60, 120, 25), (120, 10, 2)):
        found = resampled(poses, source, target)
        wanted = np.arange(count) * source / target
        np.testing.assert_allclose(found[:, 0, 0], wanted, atol=1e-9)
    assert len(resampled(poses[:1], 120, 50)) == 1
