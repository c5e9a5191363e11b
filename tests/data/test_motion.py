"""Open motion files: what is read back, and what each broken file is told."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.readers.motion import Clip, MotionError, load_motion, save_motion
from bench.data.skeleton import JOINT_NAMES, LEFT, PARENTS, RIGHT

Arrays = dict[str, Any]


@pytest.fixture
def open_motion() -> Path:
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "open_mocap_h36m17.npz"
    if not path.is_file():
        pytest.skip("the open motion file is not beside this checkout (shared/data)")
    return path


def _clips() -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip("a", "S1", "walking", "train", rng.random((5, 17, 3), dtype=np.float32), 50),
        Clip("b", "S2", "eating", "test", rng.random((3, 17, 3), dtype=np.float32), 50),
    ]


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., Path]:
    """Write a valid file of two clips (5 and 3 frames) after changing some of its arrays."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "motion.npz"
        save_motion(path, _clips())
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        arrays.update(changes)
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return write


def test_the_skeleton_is_the_17_joints_of_human36m() -> None:
    assert len(JOINT_NAMES) == len(PARENTS) == 17
    assert [JOINT_NAMES[j][1:] for j in LEFT] == [JOINT_NAMES[j][1:] for j in RIGHT]
    assert all(JOINT_NAMES[j].startswith("L") for j in LEFT)
    assert all(JOINT_NAMES[j].startswith("R") for j in RIGHT)
    # protocols.md, section 1: both shoulders hang on joint 8, both hips on the root.
    assert (PARENTS[11], PARENTS[14], PARENTS[1], PARENTS[4], PARENTS[0]) == (8, 8, 0, 0, -1)


@pytest.mark.data
def test_the_open_motion_file_has_the_counts_of_its_readme(open_motion: Path) -> None:
    clips = load_motion(open_motion)
    lengths = [len(clip.positions) for clip in clips]
    assert (len(clips), sum(lengths)) == (256, 109767)
    assert sum(length for length in lengths if length >= 243) == 87284
    assert sum(length >= 243 for length in lengths) == 106
    split = {p: sum(len(c.positions) for c in clips if c.split == p) for p in ("train", "test")}
    assert split == {"train": 91179, "test": 18588}
    assert {clip.fps for clip in clips} == {50}
    train, test = ({c.subject for c in clips if c.split == part} for part in ("train", "test"))
    assert train & test <= {"mixed"}  # the file's label for people it cannot tell apart
    thigh = np.linalg.norm(clips[0].positions[:, 2] - clips[0].positions[:, 1], axis=-1)
    assert 0.3 < thigh.mean() < 0.5
    assert not clips[0].positions.flags.writeable


def test_clips_survive_a_round_trip_and_the_arrays_are_those_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "round.trip"
    clips = [replace(clip, fps=25) for clip in _clips()]
    save_motion(path, clips, source="a test", license="free")
    assert [item.name for item in tmp_path.iterdir()] == ["round.trip"]
    for before, after in zip(clips, load_motion(path), strict=True):
        np.testing.assert_array_equal(before.positions, after.positions)
        for name in ("name", "subject", "action", "split", "fps"):
            assert getattr(before, name) == getattr(after, name)
    with np.load(path, allow_pickle=False) as archive:
        kinds = {name: archive[name].dtype.kind for name in archive.files}
        assert str(archive["license"]) == "free"
    assert {name for name, kind in kinds.items() if kind == "U"} == {
        *("names", "subjects", "actions", "descriptions", "split", "skeleton", "source"),
        *("joint_names", "license"),
    }
    assert {kinds[name] for name in ("starts", "fps", "parents")} == {"i"}


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "motion.npz"
    save_motion(path, _clips())
    before = path.read_bytes()
    bad = replace(_clips()[0], positions=np.full((2, 17, 3), np.nan, dtype=np.float32))
    with pytest.raises(MotionError, match="'a' has 2 frames that are not finite"):
        save_motion(path, [bad])
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["motion.npz"]


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "no clips to save"),
        ([_clips()[0], replace(_clips()[1], fps=25)], r"frame rates \[25, 50\]"),
        ([_clips()[0], _clips()[0]], "two clips are named 'a'"),
        ([replace(_clips()[0], positions=np.zeros((0, 17, 3), np.float32))], "at least one frame"),
    ],
)
def test_clips_that_fit_no_file_are_refused(
    tmp_path: Path, clips: list[Clip], message: str
) -> None:
    with pytest.raises(MotionError, match=message):
        save_motion(tmp_path / "motion.npz", clips)
    assert not list(tmp_path.iterdir())


_POSITIONS = np.zeros((8, 17, 3), dtype=np.float32)
_SWAPPED = list(JOINT_NAMES)
_SWAPPED[1], _SWAPPED[4] = "LHip", "RHip"
_GAPS = _POSITIONS.copy()
_GAPS[[6, 7], 3, 1] = [np.nan, np.inf]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": None}, "missing array 'split'"),
        ({"starts": None, "fps": None}, "missing array 'starts', 'fps'"),
        ({"positions": _POSITIONS.astype(np.float64)}, r"'positions' is float64 \(8, 17, 3\)"),
        ({"positions": _POSITIONS[:, :16]}, r"'positions' is float32 \(8, 16, 3\)"),
        ({"positions": _POSITIONS[0]}, r"'positions' is float32 \(17, 3\)"),
        ({"starts": np.array([0.0, 5.0, 8.0])}, "'starts' is float64"),
        ({"starts": np.array([0])}, r"'starts' is int64 \(1,\)"),
        ({"starts": np.array([0, 9, 8])}, r"not increasing: starts\[1\] = 9, starts\[2\] = 8"),
        ({"starts": np.array([0, 0, 8])}, r"not increasing: starts\[0\] = 0, starts\[1\] = 0"),
        ({"starts": np.array([0, 5, 7])}, "runs from 0 to 7, expected 0 to 8"),
        ({"starts": np.array([1, 5, 8])}, "runs from 1 to 8, expected 0 to 8"),
        ({"names": np.array(["a"])}, r"'names' is <U1 \(1,\)"),
        ({"actions": np.array([1, 2])}, "'actions' is int64"),
        ({"names": np.array(["a", "a"])}, "two clips are named 'a'"),
        ({"split": np.array(["train", "val"])}, "clip 'b' is in split 'val'"),
        ({"joint_names": np.array(_SWAPPED)}, "joint 1 is 'LHip', expected 'RHip'; joint 4 is"),
        ({"joint_names": np.array(JOINT_NAMES[:16])}, "'joint_names' has 16 names"),
        ({"parents": np.array(PARENTS)[::-1]}, "'parents' is"),
        ({"positions": _GAPS}, "clip 'b' has 2 frames that are not finite"),
        ({"fps": np.array(0)}, "'fps' is int64 0"),
        ({"fps": np.array(50.0)}, "'fps' is float64"),
    ],
)
def test_each_defect_is_named(broken: Callable[..., Path], changes: Arrays, message: str) -> None:
    path = broken(**changes)
    with pytest.raises(MotionError, match=message) as caught:
        load_motion(path)
    assert str(path) in str(caught.value)


def test_another_frame_rate_is_kept(broken: Callable[..., Path]) -> None:
    assert {clip.fps for clip in load_motion(broken(fps=np.array(120)))} == {120}


def test_optional_arrays_may_be_absent(broken: Callable[..., Path]) -> None:
    optional = ("parents", "license", "source", "skeleton", "descriptions")
    assert len(load_motion(broken(**dict.fromkeys(optional)))) == 2


def test_missing_foreign_and_torn_files(broken: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(MotionError, match="no such file"):
        load_motion(tmp_path / "nowhere.npz")
    foreign = tmp_path / "foreign.npz"
    foreign.write_bytes(b"")
    with pytest.raises(MotionError, match="not an npz"):
        load_motion(foreign)
    foreign.write_text("a,b\n1,2\n")
    with pytest.raises(MotionError, match="not an npz"):
        load_motion(foreign)
    whole = broken().read_bytes()
    for share in (0.01, 0.5, 0.99):
        foreign.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(MotionError, match="torn or incomplete"):
            load_motion(foreign)
    at = whole.index(b"positions.npy") + 400  # inside the numbers of the first array
    foreign.write_bytes(
        whole[:at] + bytes(byte ^ 255 for byte in whole[at : at + 9]) + whole[at + 9 :]
    )
    with pytest.raises(MotionError, match="'positions' is torn or damaged"):
        load_motion(foreign)


class _Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_pickles_are_refused_and_never_run(broken: Callable[..., Path], tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    bomb = np.array([_Bomb(mark), _Bomb(mark)], dtype=object)
    with pytest.raises(MotionError, match="'names' is an object array"):
        load_motion(broken(names=bomb))
    with pytest.raises(MotionError, match="'positions' is an object array"):
        load_motion(broken(positions=bomb))
    # The published Human3.6M files: pickled dictionaries under another name.
    published = tmp_path / "data_3d_h36m.npz"
    np.savez(published, positions_3d=bomb)
    with pytest.raises(MotionError, match=r"missing array 'positions'.*it has 'positions_3d'"):
        load_motion(published)
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps(_Bomb(mark)))
    with pytest.raises(MotionError, match="not an npz"):
        load_motion(bare)
    assert not mark.exists()
