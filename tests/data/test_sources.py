"""Sources of data by name, and motion turned into sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import made_3dhp, made_h36m, made_sh

from bench.cli import main
from bench.data.cameras import H36M_CAMERAS, denormalise, project, world_to_camera
from bench.data.motion_sequences import TRAIN_CAMERAS, motion_data, runs_of, train_cameras
from bench.data.readers import READERS, Reader
from bench.data.readers.motion import Clip, MotionError, save_motion
from bench.data.sequences import DataError, DataSet, downsampled
from bench.data.sources import open_data
from bench.data.synthetic.detector import DetectorNoise
from bench.data.synthetic.generator import generate
from bench.data.windows import MotionSource

IDS = [camera.id for camera in H36M_CAMERAS["S9"]]


def _slide(name: str, xs: list[float]) -> Clip:
    """A person who stands like a post, at these places along x."""
    (clip,) = generate(frames=1, activities=["waiting"])
    path = np.zeros((len(xs), 1, 3), dtype=np.float32)
    path[:, 0, 0] = xs
    return Clip(name, "P", "posing", "test", clip.positions + path, 50)


def test_generated_motion_is_every_clip_by_four_cameras() -> None:
    data = open_data("generated:3:54")
    assert (data.name, data.windows, data.fps, data.root) == ("generated:3:54", "strict", 50, 0)
    assert data.detector == DetectorNoise().tag
    sequences = data.sequences("test")
    assert sequences is data.sequences("test")
    assert len(sequences) == 15 * 4
    assert [sequence.camera for sequence in sequences[:4]] == IDS
    assert len({sequence.name for sequence in sequences}) == len(sequences)
    assert {sequence.clip for sequence in sequences} == {
        clip.name for clip in generate(seed=3, frames=54)
    }
    for sequence in sequences:
        assert sequence.name == f"{sequence.clip}/{sequence.camera}"
        assert sequence.input.shape == (54, 17, 2)
        assert (
            sequence.input.dtype == sequence.target.dtype == sequence.truth_mm.dtype == np.float32
        )
        assert not sequence.target[:, 0].any()
        assert sequence.valid.all()
        assert (sequence.to_mm == 1000).all()
        np.testing.assert_allclose(sequence.truth_mm, sequence.target * 1000, rtol=1e-6)


def test_a_take_holds_the_numbers_of_the_windows() -> None:
    source = MotionSource.generated(1, frames=60)
    sequences = {
        sequence.name: sequence for sequence in motion_data(source, seed=5).sequences("test")
    }
    for window in source.windows(27, stride=13, seed=5):
        sequence = sequences[f"{window.clip}/{window.camera}"]
        cut = slice(window.start, window.start + 27)
        np.testing.assert_array_equal(sequence.input[cut], window.input)
        np.testing.assert_array_equal(sequence.target[cut], window.target)
        assert sequence.action == window.action


def test_exact_2d_is_the_projection() -> None:
    data = open_data("generated:0:9", detector="gt")
    assert data.detector == "gt"
    clips = {clip.name: clip for clip in generate(frames=9)}
    for sequence in data.sequences("test")[:8]:
        camera = H36M_CAMERAS["S9"][IDS.index(sequence.camera)]
        world = clips[sequence.clip].positions.astype(np.float64)
        world[..., :2] -= world[:, 0, :2].mean(axis=0)
        points = world_to_camera(world, camera)
        pixels = denormalise(sequence.input, camera.width, camera.height)
        np.testing.assert_allclose(pixels, project(points, camera), atol=1e-3)
        np.testing.assert_allclose(sequence.target, points - points[:, :1], atol=1e-5)


def test_training_sees_other_camera_placements_than_the_test() -> None:
    source = MotionSource.generated(0, frames=3)
    clips = {clip.name: clip for clip in generate(frames=3, split="train")}
    of = {name: train_cameras(clip) for name, clip in clips.items()}
    assert set(of.values()) <= set(TRAIN_CAMERAS)
    assert len(set(of.values())) >= 3  # 15 names, 5 subjects
    for sequence in motion_data(source).sequences("train"):
        camera = H36M_CAMERAS[of[sequence.clip]][IDS.index(sequence.camera)]
        points = world_to_camera(clips[sequence.clip].positions, camera)
        np.testing.assert_allclose(sequence.target, points - points[:, :1], atol=1e-5)


def test_unusable_frames_cut_a_view_into_runs(tmp_path: Path) -> None:
    # Around the mean position; at 40 m a person is far outside of every image.
    xs = [0.0] * 5 + [40.0] * 2 + [0.0] * 3 + [-40.0] * 2 + [0.0] * 4
    save_motion(tmp_path / "made.npz", [_slide("a", xs)])
    data = open_data(f"motion:{tmp_path / 'made.npz'}")
    sequences = data.sequences("test")
    assert [sequence.name for sequence in sequences[:3]] == [
        f"a/{IDS[0]}",
        f"a/{IDS[0]}/2",
        f"a/{IDS[0]}/3",
    ]
    assert [len(sequence) for sequence in sequences] == [5, 3, 4] * 4
    assert data.notes == [
        "test: 16 of 64 frames left out, where a joint comes within 0.5 m of the camera or leaves "
        "the image by more than 25%"
    ]
    whole = next(iter(MotionSource.from_file(tmp_path / "made.npz").views()))
    np.testing.assert_array_equal(sequences[1].input, whole.input[7:10])
    assert data.name.startswith("motion:made:")
    with pytest.raises(DataError, match="no sequences in split 'train'"):
        data.sequences("train")


def test_the_frame_rate_is_that_of_the_file(tmp_path: Path) -> None:
    clip = Clip("a", "P", "posing", "test", _slide("a", [0.0]).positions, 25)
    save_motion(tmp_path / "made.npz", [clip])
    assert open_data(f"motion:{tmp_path / 'made.npz'}").fps == 25


@pytest.mark.parametrize(
    ("mask", "runs"),
    [([], []), ([0, 0], []), ([1, 1], [(0, 2)]), ([1, 0, 0, 1, 1, 0, 1], [(0, 1), (3, 5), (6, 7)])],
)
def test_runs(mask: list[int], runs: list[tuple[int, int]]) -> None:
    assert [(run.start, run.stop) for run in runs_of(np.array(mask, dtype=np.bool_))] == runs


def test_a_downsampled_take_keeps_every_other_frame() -> None:
    sequence = open_data("generated:0:7").sequences("test")[0]
    half = downsampled(sequence, 2)
    np.testing.assert_array_equal(half.input, sequence.input[[0, 2, 4, 6]])
    assert len(half) == 4


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        ("coco:x", {}, r"unknown source of data 'coco:x'; expected one of .*motion:FILE"),
        ("h36m", {}, "h36m needs a folder; expected h36m:FOLDER"),
        ("h36m:x", {"detector": "sh"}, "no 2D joints of detector 'sh'; expected 'cpn' or 'gt'"),
        ("sh:x", {"detector": "gt"}, "sh has no 2D joints of detector 'gt'; expected 'sh'"),
        ("3dhp:x", {"noise": DetectorNoise()}, "3dhp has 2D joints of its own, which a noise"),
        ("sh:nowhere.pkl", {}, r"nowhere\.pkl: no such file"),
        ("3dhp:nowhere", {}, r"nowhere: has neither data_train_3dhp\.npz nor"),
        ("motion", {}, "motion needs a file; expected motion:FILE"),
        ("generated:x", {}, "generated:x has no whole number as its seed"),
        ("generated", {"detector": "cpn"}, "generated has no 2D joints of detector 'cpn'"),
        ("generated", {"detector": "gt", "noise": DetectorNoise()}, "exact 2D has no noise"),
    ],
)
def test_what_cannot_be_opened_is_told(spec: str, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(spec, **arguments)


def test_a_missing_motion_file_is_told() -> None:
    with pytest.raises(MotionError, match="no such file"):
        open_data("motion:nowhere.npz")


def test_every_published_layout_opens_by_name(tmp_path: Path) -> None:
    made_h36m(tmp_path / "h36m", subjects=("S9", "S11"), actions=("Eating",), frames=3)
    made_sh(tmp_path / "sh.pkl", actions=(4,), frames=3)
    made_3dhp(tmp_path / "3dhp", subjects=(1,), cameras=("0",), frames=3)
    opened = [
        open_data(f"h36m:{tmp_path / 'h36m'}"),
        open_data(f"h36m:{tmp_path / 'h36m'}", detector="gt"),
        open_data(f"sh:{tmp_path / 'sh.pkl'}"),
        open_data(f"3dhp:{tmp_path / '3dhp'}"),
    ]
    assert [data.name for data in opened] == ["h36m:cpn", "h36m:gt", "sh", "3dhp"]
    assert [data.detector for data in opened] == ["cpn", "gt", "sh", "gt"]
    assert [len(data.sequences("test")) for data in opened] == [16, 16, 16, 6]


def test_every_form_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("evaluate", "train"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = "".join(capsys.readouterr().out.split())
        for scheme, reader in READERS.items():
            assert reader.form.startswith(scheme)
            assert reader.form in text


def test_a_row_makes_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in's data set opens by its scheme, and says how it is evaluated."""
    sequence = open_data("generated:0:7").sequences("test")[0]

    def load(place: str, detector: str = "mine") -> DataSet:
        return DataSet(
            name=f"own:{place}",
            description="made",
            detector=detector,
            fps=50.0,
            load=lambda split: [sequence],
            windows="mixste",
        )

    row = Reader(form="own:FILE", about="a made format", load=load, detectors=("mine", "gt"))
    monkeypatch.setitem(READERS, "own", row)
    assert open_data("own:x").detector == "mine"
    data = open_data("own:x", detector="gt")
    assert (data.name, data.detector, data.windows) == ("own:x", "gt", "mixste")
    with pytest.raises(DataError, match="own needs a file; expected own:FILE"):
        open_data("own")
    with pytest.raises(DataError, match=r"unknown source .* or own:FILE"):
        open_data("owm:x")
