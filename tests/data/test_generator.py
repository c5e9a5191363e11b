"""Generated motion: exact bones, sound physics, and determinism."""

import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from bench.data.readers.motion import Clip, MotionError, Split
from bench.data.skeleton import PARENTS
from bench.data.synthetic.body import Body
from bench.data.synthetic.generator import ACTIVITIES, FPS, generate

Array = npt.NDArray[np.float64]

# Root, right foot and left wrist of seed 0, test, walking, frame 59.
PINNED = [[1.4188, 0.5052, 0.8848], [1.4528, 0.6051, 0.0763], [1.1950, 0.7062, 0.8756]]

SPLITS: tuple[Split, ...] = ("train", "test")
_LEG = ("hip", "thigh", "shin")
_ARM = ("shoulder", "upper_arm", "forearm")
BONES = (*_LEG, *_LEG, "lumbar", "chest", "neck", "head", *_ARM, *_ARM)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Both splits of two seeds: 60 clips."""
    return [
        clip
        for seed in (0, 1)
        for split in SPLITS
        for clip in generate(seed=seed, frames=1215, split=split)
    ]


def _bones(positions: npt.NDArray[np.float32]) -> Array:
    children = positions[:, 1:].astype(np.float64)
    return np.linalg.norm(children - positions[:, list(PARENTS[1:])], axis=-1)


def _speeds(positions: npt.NDArray[np.float32]) -> Array:
    return np.linalg.norm(np.diff(positions.astype(np.float64), axis=0), axis=-1) * FPS


def test_there_are_fifteen_clips_of_the_length_asked_for() -> None:
    clips = generate(frames=300)
    assert [clip.action for clip in clips] == list(ACTIVITIES)
    assert len(clips) == 15
    for clip in clips:
        assert clip.positions.shape == (300, 17, 3)
        assert clip.positions.dtype == np.float32
        assert (clip.fps, clip.split, clip.name) == (50, "test", f"test_{clip.action}")


def test_bone_lengths_are_constant_and_human(clips: list[Clip]) -> None:
    standard = np.array([getattr(Body(), name) for name in BONES])
    for clip in clips:
        bones = _bones(clip.positions)
        assert np.ptp(bones, axis=0).max() < 1e-5, clip.name
        assert (np.abs(bones[0] / standard - 1) < 0.12).all(), clip.name
        np.testing.assert_allclose(bones[0, :3], bones[0, 3:6], atol=1e-5)  # left as right
        np.testing.assert_allclose(bones[0, 10:13], bones[0, 13:16], atol=1e-5)


def test_nothing_goes_through_the_floor_or_leaves_the_room(clips: list[Clip]) -> None:
    for clip in clips:
        height = clip.positions[..., 2]
        assert 0.05 <= height.min() <= 0.1, clip.name
        assert height[:, [3, 6]].min() == height.min(), clip.name  # a foot is lowest
        assert np.linalg.norm(clip.positions[..., :2], axis=-1).max() < 2.5, clip.name


def test_hips_are_at_standing_or_sitting_height(clips: list[Clip]) -> None:
    for clip in clips:
        hips = clip.positions[:, 0, 2]
        if clip.action in ("sitting", "eating"):
            lowest, highest = (0.4, 0.6), (0.4, 0.6)
        elif clip.action in ("sit_down_stand_up", "picking_up"):
            lowest, highest = (0.35, 0.6), (0.8, 1.05)
        else:
            lowest, highest = (0.65, 1.0), (0.8, 1.05)
        assert lowest[0] < hips.min() < lowest[1], clip.name
        assert highest[0] < hips.max() < highest[1], clip.name


def test_joints_move_smoothly(clips: list[Clip]) -> None:
    for clip in clips:
        acceleration = np.linalg.norm(
            np.diff(clip.positions.astype(np.float64), n=2, axis=0), axis=-1
        )
        assert _speeds(clip.positions).max() < 6.0, clip.name
        # The open motion file reaches 240 m/s2 in walks and runs alike.
        limit = 200.0 if clip.action == "jogging" else 100.0 if "walk" in clip.action else 60.0
        assert acceleration.max() * FPS**2 < limit, clip.name


def test_knees_and_elbows_bend_the_human_way(clips: list[Clip]) -> None:
    for clip in clips:
        p = clip.positions.astype(np.float64)
        across = p[:, 4] - p[:, 1]
        ahead = np.stack([across[:, 1], -across[:, 0], 0 * across[:, 0]], axis=-1)
        for hip, knee, foot in ((1, 2, 3), (4, 5, 6)):
            bulge = p[:, knee] - (p[:, hip] + p[:, foot]) / 2
            assert ((bulge * ahead).sum(axis=-1) > 0).all(), clip.name
        for shoulder, elbow, wrist in ((11, 12, 13), (14, 15, 16)):
            upper, lower = p[:, elbow] - p[:, shoulder], p[:, wrist] - p[:, elbow]
            cosine = (upper * lower).sum(axis=-1) / (
                np.linalg.norm(upper, axis=-1) * np.linalg.norm(lower, axis=-1)
            )
            assert cosine.min() > np.cos(np.radians(172)), clip.name  # never folded flat


def _named(clips: list[Clip], action: str) -> list[Clip]:
    return [clip for clip in clips if clip.action == action]


@pytest.mark.parametrize("action", ["walking", "walking_slow_turns", "jogging"])
def test_planted_feet_do_not_slide(clips: list[Clip], action: str) -> None:
    for clip in _named(clips, action):
        feet = clip.positions[:, [3, 6]].astype(np.float64)
        speed = _speeds(clip.positions)
        down = feet[1:, :, 2] < feet[..., 2].min() + 0.004
        assert down.mean() > 0.25, clip.name  # each foot stands for a good part of the time
        assert np.median(speed[:, [3, 6]][down]) < 0.03, clip.name
        assert speed[:, 0].mean() > 0.4, clip.name  # while the body moves on


def test_walkers_swing_each_arm_with_the_other_leg(clips: list[Clip]) -> None:
    for clip in _named(clips, "walking"):
        p = clip.positions.astype(np.float64)
        across = p[:, 4, :2] - p[:, 1, :2]
        ahead = np.stack([across[:, 1], -across[:, 0]], axis=-1)
        legs = ((p[:, 6, :2] - p[:, 3, :2]) * ahead).sum(axis=-1)
        hands = ((p[:, 13, :2] - p[:, 16, :2]) * ahead).sum(axis=-1)
        assert np.corrcoef(legs, hands)[0, 1] < -0.7, clip.name
        # The body faces the way it goes.
        assert ((np.diff(p[:, 0, :2], axis=0) * ahead[1:]).sum(axis=-1) > 0).all(), clip.name


def test_equal_seeds_give_equal_motion_and_others_do_not() -> None:
    first, again = generate(seed=3, frames=100), generate(seed=3, frames=100)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
    digests = {
        hashlib.sha256(clip.positions.tobytes()).digest()
        for seed in (3, 4)
        for split in SPLITS
        for clip in generate(seed=seed, frames=100, split=split)
    }
    assert len(digests) == 60


def test_an_activity_depends_on_no_other_and_not_on_the_length() -> None:
    short = {clip.action: clip for clip in generate(seed=5, frames=240)}
    for name in ("photo", "jogging", "sitting"):
        (alone,) = generate(seed=5, frames=700, activities=[name])
        np.testing.assert_array_equal(alone.positions[:240], short[name].positions)


def test_motion_is_the_same_on_every_machine() -> None:
    """Pin one clip, to a tenth of a millimetre for other machines' sines."""
    (clip,) = generate(seed=0, frames=60, activities=["walking"])
    np.testing.assert_allclose(clip.positions[59, [0, 3, 13]], PINNED, atol=1e-4)


def test_subjects_of_the_splits_are_disjoint(clips: list[Clip]) -> None:
    train, test = ({c.subject for c in clips if c.split == part} for part in ("train", "test"))
    assert train
    assert test
    assert not train & test


def test_bad_requests_are_refused() -> None:
    with pytest.raises(KeyError, match=r"no activity 'flying'; there are walking, "):
        generate(activities=["flying"])
    with pytest.raises(MotionError, match="frames is 0"):
        generate(frames=0)
    with pytest.raises(MotionError, match="seed is -1"):
        generate(seed=-1)
    with pytest.raises(MotionError, match="split is 'val'"):
        generate(split="val")  # type: ignore[arg-type]


def test_one_frame_is_enough() -> None:
    assert all(clip.positions.shape == (1, 17, 3) for clip in generate(frames=1))
