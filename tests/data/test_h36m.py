"""Human3.6M in the npz protocol: sequences, and the error for each broken file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import ALL_ACTIONS, made_h36m, take_names, world_poses

from bench.data.cameras import H36M_CAMERAS
from bench.data.readers.h36m import ACTIONS, load_h36m
from bench.data.sequences import DataError

IDS = ["54138969", "55011271", "58860488", "60457274"]
Change = Callable[[dict[str, Any]], object]
POSES, JOINTS = "data_3d_h36m.npz", "data_2d_h36m_gt.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_h36m(tmp_path_factory.mktemp("h36m"))


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Write small files of S9 and S11 and change what one of them holds."""

    def write(file: str, key: str, change: Change) -> Path:
        made_h36m(tmp_path, subjects=("S9", "S11"), actions=("Eating", "Walking"), frames=5)
        with np.load(tmp_path / file, allow_pickle=True) as archive:
            arrays = {name: archive[name].item() for name in archive.files}
        change(arrays[key])
        np.savez(tmp_path / file, **arrays)
        return tmp_path

    return write


def test_the_split_and_the_names_are_those_of_the_protocol(folder: Path) -> None:
    data = load_h36m(folder)
    assert (data.name, data.windows, data.detector, data.fps) == ("h36m:cpn", "hot", "cpn", 50)
    assert data.actions == ACTIONS == ALL_ACTIONS
    assert (data.root, data.left, data.right) == (0, (4, 5, 6, 11, 12, 13), (1, 2, 3, 14, 15, 16))
    for split, subjects in (("train", ["S1", "S5", "S6", "S7", "S8"]), ("test", ["S9", "S11"])):
        sequences = data.sequences(split)  # type: ignore[arg-type]
        wanted = [f"{s}/{name}/{c}" for s in subjects for name in take_names(s) for c in IDS]
        assert [sequence.name for sequence in sequences] == wanted
        assert list(dict.fromkeys(sequence.action for sequence in sequences)) == list(ACTIONS)
    sequence = next(
        sequence
        for sequence in data.sequences("test")
        if sequence.name == "S9/Directions 1/58860488"
    )
    assert (sequence.clip, sequence.subject, sequence.action) == (
        "S9/Directions 1",
        "S9",
        "Directions",
    )
    assert sequence.camera == "58860488"
    assert not data.notes


def test_exact_2d_is_the_projection_of_the_target(folder: Path) -> None:
    """Undo every step by hand: project target + trajectory with the pinhole and the lens."""
    for sequence in load_h36m(folder, "gt").sequences("test")[::7]:
        camera = H36M_CAMERAS[sequence.subject][IDS.index(sequence.camera)]
        world = world_poses(sequence.subject, 8)[sequence.action].astype(np.float64)
        root = (world[:, 0] - camera.translation) @ camera.matrix()
        points = sequence.target + root[:, None]
        x, y = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
        r2 = x * x + y * y
        k1, k2, k3 = camera.radial
        p1, p2 = camera.tangential
        bend = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * x + p2 * y
        u = (x * bend + p1 * r2) * camera.focal[0] + camera.centre[0]
        v = (y * bend + p2 * r2) * camera.focal[1] + camera.centre[1]
        height = 1002 if sequence.camera in ("54138969", "60457274") else 1000
        wanted = np.stack([2 * u / 1000 - 1, 2 * v / 1000 - height / 1000], axis=-1)
        np.testing.assert_allclose(sequence.input, wanted, atol=1e-5)


def test_targets_are_metres_around_the_pelvis_and_keep_lengths(folder: Path) -> None:
    data = load_h36m(folder)
    for sequence in data.sequences("test")[:9]:
        world = world_poses(sequence.subject, 8)[sequence.action]
        assert (
            sequence.input.dtype == sequence.target.dtype == sequence.truth_mm.dtype == np.float32
        )
        assert sequence.input.shape == (8, 17, 2)
        assert not sequence.target[:, 0].any()
        assert (sequence.to_mm == 1000).all()
        assert sequence.valid.all()
        lengths = np.linalg.norm(world - world[:, :1], axis=-1)
        np.testing.assert_allclose(np.linalg.norm(sequence.target, axis=-1), lengths, atol=1e-5)
        np.testing.assert_allclose(sequence.truth_mm, 1000 * sequence.target, atol=1e-3)
        # y points down in a camera, so the head is above the feet there as well.
        assert (sequence.target[:, 10, 1] < sequence.target[:, 3, 1]).all()
    gt = load_h36m(folder, "gt").sequences("test")
    errors = [
        np.linalg.norm(a.input - b.input, axis=-1)
        for a, b in zip(data.sequences("test"), gt, strict=True)
    ]
    assert 500 * np.mean(errors) == pytest.approx(6.61, rel=0.1)  # pixels of the made detector


def test_seventeen_joints_are_taken_as_they_are(changed: Callable[..., Path]) -> None:
    before = load_h36m(changed(POSES, "positions_3d", len), "gt").sequences("test")

    def reduce(poses: dict[str, Any]) -> None:
        for subject, actions in poses.items():
            for action in actions:
                actions[action] = world_poses(subject, 5)[action.split(" ")[0]]

    after = load_h36m(changed(POSES, "positions_3d", reduce), "gt").sequences("test")
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a.target, b.target)


def test_a_longer_2d_tail_is_cut_and_told(tmp_path: Path) -> None:
    data = load_h36m(made_h36m(tmp_path, tail=3), "gt")
    sequences = data.sequences("test")
    assert {len(sequence) for sequence in sequences} == {8}
    assert data.notes == [
        f"test: {len(sequences) // 4} sequences of 2D joints were longer than their 3D, by up to 3 "
        "frames, and cut at the end"
    ]


def test_missing_frames_are_filled_or_do_not_count(changed: Callable[..., Path]) -> None:
    def drop(joints: dict[str, Any]) -> None:
        view = joints["S9"]["Eating"][0]
        view[:, 3] = np.arange(10, dtype=np.float32).reshape(5, 2)
        view[1:3, 3, 0] = np.nan  # between
        view[4, 3, 1] = np.inf  # at the end

    data = load_h36m(changed(JOINTS, "positions_2d", drop), "gt")
    sequence = data.sequences("test")[0]
    wanted = np.array([[0, 1], [2, 3], [4, 5], [6, 7], [6, 7]])
    np.testing.assert_allclose((sequence.input[:, 3] + [1, 1.002]) * 500, wanted, atol=1e-3)
    assert "test: 3 frames with 2D joints that are not finite were interpolated" in data.notes
    assert sequence.valid.all()


def test_a_frame_without_3d_does_not_count(changed: Callable[..., Path]) -> None:
    def lose(poses: dict[str, Any]) -> None:
        poses["S9"]["Eating"][2, 27, 1] = np.nan  # the right wrist
        poses["S9"]["Eating"][4, 31] = np.inf  # a joint that nobody uses

    data = load_h36m(changed(POSES, "positions_3d", lose), "gt")
    for sequence in data.sequences("test")[:4]:
        assert sequence.valid.tolist() == [True, True, False, True, True]
        assert not sequence.target[2].any()
        assert not sequence.truth_mm[2].any()
        assert np.isfinite(sequence.target).all()
    assert "test: 4 frames with 3D that is not finite do not count" in data.notes


def _set(*path: Any, to: Any) -> Change:
    def change(table: Any) -> None:
        for key in path[:-1]:
            table = table[key]
        table[path[-1]] = to

    return change


def _cut(joints: dict[str, Any]) -> None:
    joints["S9"]["Eating"][2] = joints["S9"]["Eating"][2][:4]


@pytest.mark.parametrize(
    ("file", "key", "change", "message"),
    [
        (POSES, "positions_3d", lambda d: d.pop("S11"), r"positions_3d lacks 'S11'; it has S9;"),
        (JOINTS, "positions_2d", lambda d: d.pop("S9"), r"positions_2d lacks 'S9'; it has S11;"),
        (
            JOINTS,
            "positions_2d",
            lambda d: d["S9"].pop("Walking"),
            r"S9 lacks 'Walking'; it has Eating, Eating 1;",
        ),
        (
            JOINTS,
            "positions_2d",
            lambda d: d["S9"]["Eating"].pop(),
            r"S9/Eating has 2D joints of 3 cameras, expected 4: 54138969, 55011271",
        ),
        (
            JOINTS,
            "positions_2d",
            _cut,
            r"S9/Eating/58860488 has 4 frames of 2D joints, but 5 of 3D",
        ),
        (
            JOINTS,
            "positions_2d",
            _set("S11", "Walking", 0, to=np.zeros((5, 16, 2))),
            r"2D joints of S11/Walking/54138969 have shape \(5, 16, 2\)",
        ),
        (
            JOINTS,
            "positions_2d",
            _set("S11", "Walking", 1, to="none"),
            r"2D joints of S11/Walking/55011271 have shape \(\)",
        ),
        (
            POSES,
            "positions_3d",
            _set("S9", "Eating", to=np.zeros((5, 28, 3))),
            r"3D joints of S9/Eating have shape \(5, 28, 3\), expected \(frames, 32, 3\)",
        ),
        (POSES, "positions_3d", _set("S9", to=[1]), r"a dictionary with S9's actions, got a list"),
        (
            POSES,
            "positions_3d",
            _set("S9", "Dancing", to=np.zeros((5, 32, 3))),
            r"S9/Dancing: no action 'Dancing'; there are Directions",
        ),
        (
            POSES,
            "positions_3d",
            _set("S9", "Eating", to=np.full((5, 32, 3), np.nan)),
            r"sequence 'S9/Eating/54138969': none of its 5 frames of 3D is finite",
        ),
        (
            JOINTS,
            "positions_2d",
            _set("S9", "Eating", 3, to=np.full((5, 17, 2), np.nan)),
            r"sequence 'S9/Eating/60457274': none of its 5 frames of 2D is finite",
        ),
        (JOINTS, "metadata", _set("num_joints", to=16), r"metadata says 16 joints"),
        (
            JOINTS,
            "metadata",
            _set("keypoints_symmetry", to=[[1, 2, 3], [4, 5, 6]]),
            r"left and right \[\[1, 2, 3\], \[4, 5, 6\]\]",
        ),
    ],
)
def test_each_defect_is_named(
    changed: Callable[..., Path], file: str, key: str, change: Change, message: str
) -> None:
    folder = changed(file, key, change)
    with pytest.raises(DataError, match=message):
        load_h36m(folder, "gt").sequences("test")


def test_one_joint_that_is_never_seen_is_named(changed: Callable[..., Path]) -> None:
    def hide(joints: dict[str, Any]) -> None:
        joints["S9"]["Eating"][0][:, 6] = np.nan

    with pytest.raises(DataError, match="2D joint 6 is finite in none of its 5 frames"):
        load_h36m(changed(JOINTS, "positions_2d", hide), "gt").sequences("test")


def test_what_was_left_out_is_told(changed: Callable[..., Path]) -> None:
    def add(poses: dict[str, Any]) -> None:
        poses["S11"]["Directions"] = np.zeros((5, 32, 3))
        poses["S9"].pop("Walking")

    data = load_h36m(changed(POSES, "positions_3d", add), "gt")
    assert not [
        sequence for sequence in data.sequences("test") if sequence.clip == "S11/Directions"
    ]
    assert data.notes[:2] == [
        "test: 2D joints of S9 Walking have no 3D and were left out",
        "test: S11 Directions was left out, because its video is damaged",
    ]
    assert data.notes[2].startswith("test: no sequence of Directions, Discussion, Greeting")


def test_missing_and_torn_files_are_told_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data_3d_h36m\.npz: no such file; expected the Human3"):
        load_h36m(tmp_path)
    with pytest.raises(
        DataError, match="no 2D joints of detector 'hrnet'; expected one of cpn, gt"
    ):
        load_h36m(tmp_path, "hrnet")
    made_h36m(tmp_path, subjects=("S9", "S11"), actions=("Eating",))
    whole = (tmp_path / JOINTS).read_bytes()
    (tmp_path / JOINTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"data_2d_h36m_gt\.npz: torn, damaged"):
        load_h36m(tmp_path, "gt").sequences("test")
    with pytest.raises(DataError, match=r"3d_h36m\.npz: positions_3d lacks 'S1'; it has S9, S11"):
        load_h36m(tmp_path, "cpn").sequences("train")
    (tmp_path / JOINTS).unlink()
    with pytest.raises(DataError, match=r"data_2d_h36m_gt\.npz: no such file"):
        load_h36m(tmp_path, "gt")
