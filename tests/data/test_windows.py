"""Windows: their contents, their order, and that they depend on nothing they should not."""

import hashlib
import time
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bench.data.cameras import H36M_CAMERAS, denormalise, project, world_to_camera
from bench.data.readers.motion import Clip, MotionError, Split, load_motion, save_motion
from bench.data.synthetic.detector import DetectorNoise
from bench.data.synthetic.generator import ACTIVITIES, generate
from bench.data.windows import MotionSource, Window, batch

IDS = [camera.id for camera in H36M_CAMERAS["S9"]]
Key = tuple[str, str, int]


@pytest.fixture(scope="module")
def source() -> MotionSource:
    return MotionSource.generated(0)


def _key(window: Window) -> Key:
    return window.clip, window.camera, window.start


def _line(name: str, frames: int, metres: float, split: Split = "test") -> Clip:
    """A person who stands like a post and slides along x from the origin."""
    (clip,) = generate(frames=1, activities=["waiting"])
    path = np.zeros((frames, 1, 3), dtype=np.float32)
    path[:, 0, 0] = np.linspace(0, metres, frames)
    return Clip(name, "P", "posing", split, clip.positions + path, 50)


def _saved(path: Path, *clips: Clip) -> MotionSource:
    save_motion(path / "made.npz", clips)
    return MotionSource.from_file(path / "made.npz")


def test_shapes_types_and_places(source: MotionSource) -> None:
    windows = source.windows(243)
    assert len(windows) == 15 * 4 * (1215 // 243)
    for window in windows:
        assert window.detected_px.shape == window.clean_px.shape == (243, 17, 2)
        assert window.input.shape == (243, 17, 2)
        assert window.target.shape == (243, 17, 3)
        for array in (window.detected_px, window.clean_px, window.input, window.target):
            assert array.dtype == np.float32
            assert not array.flags.writeable
    order = [(list(ACTIVITIES).index(w.action), IDS.index(w.camera), w.start) for w in windows]
    assert order == sorted(order)
    assert len(set(order)) == len(order)
    assert {w.start for w in windows} == {0, 243, 486, 729, 972}
    assert len({w.start for w in source.windows(243, stride=81)}) == (1215 - 243) // 81 + 1


def test_contents_follow_from_clip_and_camera(source: MotionSource) -> None:
    window = source.windows(81, subject="S11", cameras=["58860488"])[17]
    camera = H36M_CAMERAS["S11"][2]
    (clip,) = generate(activities=[window.action])
    centre = clip.positions[:, 0].astype(np.float64).mean(axis=0) * [1, 1, 0]
    points = world_to_camera(clip.positions - centre, camera)[window.start : window.start + 81]
    np.testing.assert_allclose(window.target, points - points[:, :1], atol=1e-5)
    assert not window.target[:, 0].any()
    np.testing.assert_allclose(window.clean_px, project(points, camera), atol=1e-3)
    np.testing.assert_allclose(denormalise(window.input, 1000, 1000), window.detected_px, atol=1e-3)
    thigh = np.linalg.norm(window.target[:, 2] - window.target[:, 1], axis=-1)
    assert np.ptp(thigh) < 1e-5  # a rotation keeps lengths


def test_the_detector_error_is_that_of_the_model(source: MotionSource) -> None:
    error = np.concatenate(
        [np.linalg.norm(w.detected_px - w.clean_px, axis=-1) for w in source.windows(243)]
    )
    assert error.mean() == pytest.approx(6.61, rel=0.02)
    clean = MotionSource.generated(0, noise=DetectorNoise(sigma_px=(0.0,) * 17, miss_rate=0.0))
    (window,) = clean.windows(27, limit=1)
    np.testing.assert_array_equal(window.detected_px, window.clean_px)


@pytest.mark.parametrize("frames", [9, 81, 243])
@pytest.mark.parametrize("limit", [1, 2, 7, 15, 16, 30, 60, 90])
def test_a_limit_spreads_over_clips_and_cameras(
    source: MotionSource, frames: int, limit: int
) -> None:
    windows = source.windows(frames, limit=limit)
    assert len({_key(w) for w in windows}) == len(windows) == limit
    per_clip = Counter(w.clip for w in windows)
    assert len(per_clip) == min(limit, 15)
    assert max(per_clip.values()) - min(per_clip.values()) <= 1
    if limit >= 15:
        per_camera = Counter(w.camera for w in windows)
        assert min(per_camera.values()) >= limit // 8
        assert len({w.start for w in windows}) > 2
    if limit >= 60:
        assert all(len({w.camera for w in windows if w.clip == clip}) == 4 for clip in per_clip)


def test_a_limit_beyond_what_there_is_gives_all(source: MotionSource) -> None:
    keys = [_key(w) for w in source.windows(243)]
    assert [_key(w) for w in source.windows(243, limit=10_000)] == keys


def test_a_window_is_the_same_however_it_is_asked_for(source: MotionSource) -> None:
    def content(window: Window) -> bytes:
        return hashlib.sha256(window.input.tobytes() + window.target.tobytes()).digest()

    whole = {_key(w): content(w) for w in source.windows(81)}
    fresh = MotionSource.generated(0)
    few = fresh.windows(81, limit=25)
    few += fresh.windows(81, cameras=["60457274"], limit=9)
    few += [w for w in fresh.windows(81, stride=27, limit=300) if w.start % 81 == 0]
    assert all(whole[_key(w)] == content(w) for w in few)
    # Errors belong to the frame, not to the window: overlapping windows agree.
    early, late = source.windows(54, stride=27, limit=None)[:2]
    np.testing.assert_array_equal(early.detected_px[27:], late.detected_px[:27])


def test_seeds_cameras_and_clips_have_their_own_errors(source: MotionSource) -> None:
    def errors(seed: int) -> list[npt.NDArray[np.float32]]:
        return [w.detected_px - w.clean_px for w in source.windows(1215, seed=seed)]

    found = [e[:50].round(2).tobytes() for seed in (0, 1) for e in errors(seed)]
    assert len(set(found)) == 120


def test_splits_hold_different_motion(source: MotionSource) -> None:
    train, test = (source.windows(27, split=part, limit=4) for part in ("train", "test"))
    assert not {w.clip for w in train} & {w.clip for w in test}


def test_asking_again_is_fast(source: MotionSource) -> None:
    source.windows(243)
    begin = time.perf_counter()
    source.windows(243)
    assert time.perf_counter() - begin < 0.5  # some 10 ms; projecting anew takes longer


def test_batches_are_the_inputs(source: MotionSource) -> None:
    windows = source.windows(27, limit=5)
    stacked = batch(windows)
    assert stacked.shape == (5, 27, 17, 2)
    assert stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked[3], windows[3].input)
    with pytest.raises(MotionError, match="cannot stack 0 windows"):
        batch([])
    with pytest.raises(MotionError, match=r"lengths \[9, 27\]"):
        batch([*windows, *source.windows(9, limit=1)])


def test_short_clips_and_tails_are_left_out(tmp_path: Path) -> None:
    made = _saved(tmp_path, _line("long", 100, 0.5), _line("short", 26, 0.5))
    windows = made.windows(27)
    assert {w.clip for w in windows} == {"long"}
    assert {w.start for w in windows} == {0, 27, 54}
    assert {w.start for w in made.windows(26)} == {0, 26, 52}
    assert {w.clip for w in made.windows(26)} == {"long", "short"}


def test_too_long_a_window_names_the_lengths_there_are(tmp_path: Path) -> None:
    made = _saved(tmp_path, _line("a", 30, 0.5), _line("b", 60, 0.5), _line("c", 40, 0.5))
    with pytest.raises(MotionError, match=r"61 frames: the 3 clips .* 30 to 60 frames \(median 40"):
        made.windows(61)
    with pytest.raises(MotionError, match="no clips in split 'train'"):
        made.windows(27, split="train")


def test_views_outside_the_image_are_left_out(tmp_path: Path) -> None:
    # Twelve metres of travel about the origin: only the middle is inside the images.
    made = _saved(tmp_path, _line("traveller", 300, 12.0))
    windows = made.windows(10)
    per_camera = Counter(window.camera for window in windows)
    assert all(0 < per_camera[camera] < 30 for camera in IDS)
    for window in windows:
        assert window.clean_px.min() > -0.25 * 1002
        assert window.clean_px.max() < 1.25 * 1002
    with pytest.raises(MotionError, match=r"in every window a joint .* positions are metres"):
        made.windows(300)


def test_a_joint_near_a_camera_is_left_out(tmp_path: Path) -> None:
    # The mean root is the origin, so a far second half puts the first beside a camera.
    camera = H36M_CAMERAS["S9"][3]
    still = _line("visitor", 40, 0.0)
    positions = still.positions.copy()
    at = np.array(camera.translation[:2], dtype=np.float32)
    positions[:20, :, :2] += at
    positions[20:, :, :2] -= at
    made = _saved(tmp_path, Clip("visitor", "P", "posing", "test", positions, 50))
    starts = {w.start for w in made.windows(20) if w.camera == camera.id}
    assert 0 not in starts


def test_millimetres_are_recognised_by_what_goes_wrong(tmp_path: Path) -> None:
    clip = _line("giant", 30, 0.5)
    big = Clip("giant", "P", "posing", "test", clip.positions * 1000, 50)
    with pytest.raises(MotionError, match="check that positions are metres"):
        _saved(tmp_path, big).windows(27)


def test_senseless_requests_are_refused(source: MotionSource) -> None:
    for numbers in ((0, 1, 1), (27, 0, 1), (27, 1, 0)):
        with pytest.raises(MotionError, match=r"expected whole numbers above 0"):
            source.windows(numbers[0], stride=numbers[1], limit=numbers[2])
    with pytest.raises(KeyError, match="no camera '1'; there are 54138969, "):
        source.windows(27, cameras=["1"])
    with pytest.raises(MotionError, match="cameras is empty"):
        source.windows(27, cameras=[])
    with pytest.raises(KeyError, match="no cameras of 'S2'; there are S1, "):
        source.windows(27, subject="S2")
    with pytest.raises(MotionError, match="split is 'val'"):
        source.windows(27, split="val")  # type: ignore[arg-type]


def test_sources_name_and_describe_themselves(source: MotionSource, tmp_path: Path) -> None:
    assert source.name == "generated:0"
    assert "15 clips of 1215 frames" in source.description
    made = _saved(tmp_path, _line("a", 30, 0.5), _line("b", 60, 0.5, split="train"))
    digest = hashlib.sha256((tmp_path / "made.npz").read_bytes()).hexdigest()
    assert made.name == f"motion:made:{digest[:8]}"
    assert "2 clips, 90 frames at 50 Hz (60 train, 30 test)" in made.description
    assert str(tmp_path) not in made.description


@pytest.mark.data
def test_windows_of_recorded_motion() -> None:
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "open_mocap_h36m17.npz"
    if not path.is_file():
        pytest.skip("the open motion file is not beside this checkout (shared/data)")
    source = MotionSource.from_file(path)
    long = [c for c in load_motion(path) if c.split == "test" and len(c.positions) >= 243]
    windows = source.windows(243)
    # Nearly every clip fits into the four images when it is centred.
    assert 0.9 < len(windows) / (4 * sum(len(c.positions) // 243 for c in long)) <= 1
    assert {w.clip for w in windows} == {c.name for c in long}
    assert "256 clips, 109767 frames" in source.description
