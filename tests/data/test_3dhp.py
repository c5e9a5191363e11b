"""MPI-INF-3DHP: sequences, and the error for each broken file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import made_3dhp, world_poses

from bench.data.readers.mpi_inf_3dhp import FILES, load_3dhp
from bench.data.sequences import DataError, Split

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_3dhp(tmp_path_factory.mktemp("3dhp"))


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Split, Change], Path]:
    """Write small files (5 frames, S1 by camera 0) and change the content of one."""

    def write(split: Split, change: Change) -> Path:
        made_3dhp(tmp_path, frames=5, subjects=(1,), cameras=("0",))
        with np.load(tmp_path / FILES[split], allow_pickle=True) as archive:
            data = archive["data"].item()
        change(data)
        np.savez(tmp_path / FILES[split], data=data)
        return tmp_path

    return write


def test_takes_and_their_names(folder: Path) -> None:
    data = load_3dhp(folder)
    assert (data.name, data.windows, data.detector, data.root) == ("3dhp", "strict", "gt", 14)
    assert (data.left, data.right) == ((5, 6, 7, 11, 12, 13), (2, 3, 4, 8, 9, 10))
    assert data.actions == ("TS1", "TS2", "TS3", "TS4", "TS5", "TS6")
    train = data.sequences("train")
    assert [sequence.name for sequence in train[:3]] == ["S1 Seq1/0", "S1 Seq1/1", "S1 Seq1/2"]
    assert len(train) == 8 * 2 * 8
    sequence = train[8 * 2 * 7 + 8 + 3]
    assert (sequence.name, sequence.clip, sequence.subject) == ("S8 Seq2/4", "S8 Seq2", "S8")
    assert (sequence.action, sequence.camera) == ("S8 Seq2", "4")
    assert all(sequence.valid.all() for sequence in train)
    test = data.sequences("test")
    assert [sequence.name for sequence in test] == list(data.actions)
    assert [sequence.action for sequence in test] == list(data.actions)
    for sequence in test:
        assert sequence.valid.tolist() == [True, False] + [True] * 6
    assert not data.notes


def test_the_mirror_exchanges_joints_of_one_kind(folder: Path) -> None:
    """The made skeleton is symmetric: limbs on both sides are equally long."""
    data = load_3dhp(folder)
    pose = data.sequences("train")[0].truth_mm[0]
    chains = ((5, 6), (6, 7), (11, 12), (12, 13))
    other = dict(zip(data.left, data.right, strict=True))
    for a, b in chains:
        left = np.linalg.norm(pose[a] - pose[b])
        right = np.linalg.norm(pose[other[a]] - pose[other[b]])
        assert left == pytest.approx(right, rel=1e-3)


def test_targets_are_metres_around_the_pelvis(folder: Path) -> None:
    for split in ("train", "test"):
        for sequence in load_3dhp(folder).sequences(split)[:3]:  # type: ignore[arg-type]
            assert not sequence.target[:, 14].any()
            assert (sequence.to_mm == 1000).all()
            np.testing.assert_allclose(sequence.truth_mm, sequence.target * 1000, atol=1e-3)
            assert sequence.input.dtype == sequence.target.dtype == np.float32
    sequence = load_3dhp(folder).sequences("train")[0]
    world = world_poses("S11", 8)["Walking"]
    # Head top is joint 10 of Human3.6M, the left ankle 6.
    for here, there in ((0, 10), (13, 6)):
        length = 1000 * np.linalg.norm(world[:, there] - world[:, 0], axis=-1)
        np.testing.assert_allclose(
            np.linalg.norm(sequence.truth_mm[:, here], axis=-1), length, rtol=1e-4
        )


@pytest.mark.parametrize(("name", "width", "height"), [("TS1", 2048, 2048), ("TS6", 1920, 1080)])
def test_pixels_are_normalised_by_the_width_of_the_camera(
    folder: Path, name: str, width: int, height: int
) -> None:
    with np.load(folder / FILES["test"], allow_pickle=True) as archive:
        pixels = archive["data"].item()[name]["data_2d"]
    sequence = next(
        sequence for sequence in load_3dhp(folder).sequences("test") if sequence.name == name
    )
    x, y = pixels[..., 0] / width * 2 - 1, pixels[..., 1] / width * 2 - height / width
    np.testing.assert_allclose(sequence.input, np.stack([x, y], axis=-1), atol=1e-6)


def test_integers_and_single_precision_are_read(changed: Callable[[Split, Change], Path]) -> None:
    def convert(data: dict[str, Any]) -> None:
        data["TS1"]["valid"] = np.array([[1], [1], [0], [0], [1]], dtype=np.uint8)
        data["TS1"]["data_3d"] = data["TS1"]["data_3d"].astype(np.float32)
        data["TS1"]["data_2d"] = data["TS1"]["data_2d"].round().astype(np.int64)

    sequence = load_3dhp(changed("test", convert)).sequences("test")[0]
    assert sequence.valid.tolist() == [True, True, False, False, True]


def test_frames_that_are_not_finite(changed: Callable[[Split, Change], Path]) -> None:
    def lose(data: dict[str, Any]) -> None:
        data["TS2"]["data_3d"][2, 14] = np.inf
        data["TS2"]["data_2d"][3, 16] = np.nan
        data["TS2"]["data_2d"][[2, 4], 16] = [[100, 200], [300, 600]]

    data = load_3dhp(changed("test", lose))
    sequence = data.sequences("test")[1]
    assert sequence.valid.tolist() == [True, False, False, True, True]
    assert not sequence.target[2].any()
    np.testing.assert_allclose((sequence.input[3, 16] + 1) * 1024, [200, 400], atol=1e-3)
    assert data.notes == [
        "test: 1 frames with 2D joints that are not finite were interpolated",
        "test: 1 frames with 3D that is not finite do not count",
    ]


def _put(*path: Any, to: Any) -> Change:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = to

    return change


_POSES = np.zeros((5, 17, 3))


@pytest.mark.parametrize(
    ("split", "change", "message"),
    [
        ("test", _put("TS1", "data_2d", to=np.zeros((4, 17, 2))), "'TS1' has 4 frames of 2D"),
        ("test", _put("TS1", "data_3d", to=np.zeros((5, 28, 3))), r"shape \(5, 28, 3\), expected"),
        ("test", _put("TS1", "valid", to=np.ones(4)), r"'valid' of 'TS1' is float64 \(4,\)"),
        ("test", lambda d: d["TS3"].pop("valid"), "'TS3' lacks 'valid'; it has data_2d, data_3d"),
        ("test", _put("TS7", to={}), "unknown test sequence 'TS7'; expected TS1, TS2"),
        (
            "test",
            _put("TS1", "data_3d", to=np.full((5, 17, 3), np.nan)),
            "'TS1': none of its 5 frames",
        ),
        ("train", _put("S1 Seq1", to=3), "'S1 Seq1' holds int, expected a list of its cameras and"),
        ("train", _put("S1 Seq1", to=[[], 25]), "the cameras of 'S1 Seq1', got a list"),
        ("train", lambda d: d["S1 Seq1"][0]["0"].pop("data_2d"), "'S1 Seq1/0' lacks 'data_2d'"),
        ("train", _put("S1 Seq2", 0, "0", "data_3d", to="x"), r"of 'S1 Seq2/0' has shape \(\)"),
    ],
)
def test_each_defect_is_named(
    changed: Callable[[Split, Change], Path], split: Split, change: Change, message: str
) -> None:
    folder = changed(split, change)
    with pytest.raises(DataError, match=message):
        load_3dhp(folder).sequences(split)


def test_missing_and_torn_files(changed: Callable[[Split, Change], Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither data_train_3dhp\.npz nor data_test_3dhp"):
        load_3dhp(tmp_path / "none")
    folder = changed("test", lambda data: data.pop("TS4"))
    data = load_3dhp(folder)
    assert len(data.sequences("test")) == 5
    assert data.notes == ["test: no sequence TS4"]
    whole = (folder / FILES["train"]).read_bytes()
    (folder / FILES["train"]).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"data_train_3dhp\.npz: torn, damaged"):
        data.sequences("train")
    (folder / FILES["train"]).unlink()
    with pytest.raises(DataError, match=r"data_train_3dhp\.npz: no such file"):
        load_3dhp(folder).sequences("train")
