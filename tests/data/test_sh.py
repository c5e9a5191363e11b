"""Human3.6M in the Stacked Hourglass pickle: sequences, and the errors for broken files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import ALL_ACTIONS, BY_NUMBER, made_sh, world_poses

from bench.data.cameras import H36M_CAMERAS, world_to_camera
from bench.data.readers.stacked_hourglass import action_of, load_sh
from bench.data.sequences import DataError

IDS = ["54138969", "55011271", "58860488", "60457274"]
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_sh(tmp_path_factory.mktemp("sh") / "sh.pkl")


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Change], Path]:
    """Write a small file (16 test videos of 5 frames, act_02) and change its content."""

    def write(change: Change) -> Path:
        path = made_sh(tmp_path / "sh.pkl", actions=(2,), frames=5)
        data = pickle.loads(path.read_bytes())
        change(data)
        path.write_bytes(pickle.dumps(data))
        return path

    return write


def test_a_take_is_a_video_and_defective_ones_are_left_out(file: Path) -> None:
    data = load_sh(file)
    assert (data.name, data.windows, data.detector, data.fps) == ("sh", "sh", "sh", 50)
    assert data.actions == ALL_ACTIONS
    sequences = data.sequences("test")
    # 2 subjects x 15 actions x 2 sequences x 4 cameras, less three sequences of S9 by four cameras.
    assert len(sequences) == 240 - 12
    skipped = "s_09_act_05_subact_02, s_09_act_10_subact_02, s_09_act_13_subact_01"
    assert data.notes == [f"test: {skipped} were left out (defective 3D)"]
    assert not {sequence.clip for sequence in sequences} & set(skipped.split(", "))
    first = sequences[0]
    assert (first.name, first.clip) == ("s_09_act_02_subact_01_ca_01", "s_09_act_02_subact_01")
    assert (first.subject, first.action, first.camera) == ("S9", "Directions", "54138969")
    assert {sequence.action for sequence in sequences} == set(ALL_ACTIONS)
    assert {sequence.subject for sequence in sequences} == {"S9", "S11"}
    for sequence in sequences:
        assert sequence.action == BY_NUMBER[int(sequence.name[9:11]) - 2]
        assert sequence.camera == IDS[int(sequence.name[-2:]) - 1]
        assert sequence.input.shape == (8, 17, 3)
        assert sequence.input.dtype == sequence.target.dtype == sequence.to_mm.dtype == np.float32
        assert sequence.valid.all()


def test_input_is_normalised_with_the_cameras_size_and_has_the_confidence(file: Path) -> None:
    part = pickle.loads(file.read_bytes())["test"]
    by_name = {sequence.name: sequence for sequence in load_sh(file).sequences("test")}
    for k in range(0, len(part["source"]), 37):
        sequence = by_name.get(part["source"][k])
        if sequence is None:
            continue
        x, y = part["joint_2d"][k].T
        tall = part["camera_name"][k] in ("54138969", "60457274")
        wanted = np.stack(
            [x / 500 - 1, y / 500 - (1.002 if tall else 1.0), part["confidence"][k]], axis=-1
        )
        np.testing.assert_allclose(sequence.input[k % 8], wanted, atol=1e-5)


def test_targets_become_millimetres_in_the_frame_of_the_camera(file: Path) -> None:
    """Depths are exact: the made labels divide them by the factor that to_mm multiplies by."""
    for sequence in load_sh(file).sequences("test")[::11]:
        camera = H36M_CAMERAS[sequence.subject][IDS.index(sequence.camera)]
        world = world_poses(sequence.subject, 8)[sequence.action]
        points = world_to_camera(world, camera)
        factor = points[:, 0, 2] * 1000 / camera.focal[0]
        np.testing.assert_allclose(sequence.to_mm, 500 * factor, rtol=1e-5)
        depth = 1000 * (points[..., 2] - points[:, :1, 2])
        np.testing.assert_allclose(sequence.truth_mm[..., 2], depth, atol=0.01)
        in_mm = sequence.target * sequence.to_mm[:, None, None]
        np.testing.assert_allclose(in_mm, sequence.truth_mm, atol=0.02)
        assert not sequence.target[:, 0].any()
        assert not sequence.truth_mm[:, 0].any()
        # Across the image it is the weak perspective of the protocol: near the true millimetres.
        across = 1000 * (points[..., :2] - points[:, :1, :2])
        assert np.abs(sequence.truth_mm[..., :2] - across).max() < 250


def test_training_targets_are_normalised_labels_and_the_truth_is_pixels(file: Path) -> None:
    part = pickle.loads(file.read_bytes())["train"]
    data = load_sh(file)
    sequences = data.sequences("train")
    assert len(sequences) == 5 * 15 * 2 * 4
    assert data.notes == [
        "train: truth_mm is in pixels, because the file has no millimetres for it"
    ]
    labels = part["joint3d_image"].reshape(len(sequences), 8, 17, 3)
    for sequence, label in zip(sequences[::17], labels[::17], strict=True):
        np.testing.assert_allclose(sequence.target, (label - label[:, :1]) / 500, atol=1e-5)
        np.testing.assert_allclose(sequence.truth_mm, label - label[:, :1], atol=1e-3)
        assert (sequence.to_mm == 500).all()
    assert {sequence.subject for sequence in sequences} == {"S1", "S5", "S6", "S7", "S8"}


def test_without_confidence_it_is_one(tmp_path: Path) -> None:
    data = load_sh(made_sh(tmp_path / "a.pkl", actions=(3,), frames=3, confidence=False))
    assert all((sequence.input[..., 2] == 1).all() for sequence in data.sequences("test"))
    assert "test: the file has no confidence; it is 1 throughout" in data.notes


@pytest.mark.parametrize("axis", [True, False])
def test_confidence_may_have_an_axis_of_its_own(
    changed: Callable[[Change], Path], axis: bool
) -> None:
    values = np.linspace(0, 1, 80 * 17, dtype=np.float32).reshape(80, 17)

    def put(data: dict[str, Any]) -> None:
        data["test"]["confidence"] = values[..., None] if axis else values
        data["test"]["joint_2d"] = np.dstack([data["test"]["joint_2d"], values * 0 + 7])

    sequences = load_sh(changed(put)).sequences("test")
    np.testing.assert_array_equal(
        np.concatenate([sequence.input for sequence in sequences])[..., 2], values
    )


@pytest.mark.parametrize(
    ("action", "source", "wanted"),
    [
        (2, "", "Directions"),
        ("act_07", "", "Posing"),
        ("12", "", "Photo"),
        ("16", "", "WalkTogether"),
        ("SittingDown", "", "SittingDown"),
        ("WalkingDog", "", "WalkDog"),
        ("Walk Together", "", "WalkTogether"),
        ("TakePhoto", "", "Photo"),
        ("?", "s_09_act_14_subact_01_ca_02", "Walking"),
    ],
)
def test_actions_have_their_published_names(action: object, source: str, wanted: str) -> None:
    assert action_of(action, source) == wanted


def test_frames_that_are_not_finite(changed: Callable[[Change], Path]) -> None:
    def lose(data: dict[str, Any]) -> None:
        test = data["test"]
        test["joint_2d"][1, 4] = np.nan
        test["joint_2d"][[0, 2], 4] = [[10, 20], [30, 60]]
        test["joint3d_image"][6, 0, 2] = np.inf
        test["joints_2.5d_image"][8, 2, 2] = np.nan
        test["2.5d_factor"][12] = np.nan

    data = load_sh(changed(lose))
    first, second, third = data.sequences("test")[:3]
    np.testing.assert_allclose(first.input[1, 4, :2], [20 / 500 - 1, 40 / 500 - 1.002], atol=1e-6)
    assert first.valid.all()
    assert second.valid.tolist() == [True, False, True, False, True]
    assert third.valid.tolist() == [True, True, False, True, True]
    for sequence in (second, third):
        assert not sequence.target[~sequence.valid].any()
        for array in (sequence.target, sequence.truth_mm, sequence.to_mm, sequence.input):
            assert np.isfinite(array).all()
    assert data.notes == [
        "test: 1 frames with 2D joints that are not finite were interpolated",
        "test: 3 frames with 3D that is not finite do not count",
    ]


def _put(name: str, value: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        data["test"][name] = value

    return change


def _rename_camera(data: dict[str, Any]) -> None:
    data["test"]["camera_name"][7] = "60457274"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("test"), "has no dictionary 'test'"),
        (
            lambda d: d["test"].pop("2.5d_factor"),
            "test lacks '2.5d_factor'; it has joint_2d, joint3",
        ),
        (lambda d: d["test"].pop("source"), "test lacks 'source'"),
        (_put("joint_2d", np.zeros((80, 16, 2))), r"'joint_2d' has shape \(80, 16, 2\), expected"),
        (_put("joint_2d", "x"), r"'joint_2d' has shape \(\)"),
        (_put("joint3d_image", np.zeros((79, 17, 3))), "has 79 frames, but 'source' 80"),
        (_put("camera_name", ["54138969"] * 79), "'camera_name' has 79 frames, but 'source' 80"),
        (
            _put("camera_name", ["1"] * 80),
            "s_09_act_02_subact_01_ca_01 is of camera 1, expected one",
        ),
        (_rename_camera, "ca_02 is of camera 55011271, 60457274, expected one of"),
        (_put("action", ["17"] * 80), "no action '17' in 's_09_act_02_subact_01_ca_01'"),
        (_put("source", []), r"'source' has shape \(0,\)"),
        (_put("joint_2d", np.full((80, 17, 2), np.nan)), "none of its 5 frames of 2D is finite"),
        (_put("joint3d_image", np.full((80, 17, 3), np.nan)), "none of its 5 frames of 3D is"),
    ],
)
def test_each_defect_is_named(
    changed: Callable[[Change], Path], change: Change, message: str
) -> None:
    path = changed(change)
    with pytest.raises(DataError, match=message):
        load_sh(path).sequences("test")


def test_missing_and_torn_files(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.pkl: no such file; expected the Stacked Hourglass"):
        load_sh(tmp_path / "none.pkl")
    torn = tmp_path / "torn.pkl"
    torn.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"torn\.pkl: torn, damaged.*download it again"):
        load_sh(torn).sequences("test")
