"""Lifting whole videos: against window-by-window loops written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import h2ot_core
from h2ot_core import ConfigError, Hourglass, InputError, lift

Build = Callable[..., Hourglass]

F, J = 27, 5
LEFT, RIGHT = (1, 2), (3, 4)
SIDES = {"left": LEFT, "right": RIGHT}
# Shorter than a window, one window, a frame more or less, several, and odd remainders.
LENGTHS = (1, 2, 26, 27, 28, 54, 55, 100)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are slower on several threads, most of all beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(frames: int, *, seed: int = 1, channels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn((frames, J, channels), generator=generator, dtype=torch.float64)
    return (0.2 * steps).cumsum(dim=0)


@pytest.fixture(scope="module")
def models(small: Build) -> Callable[[str], Hourglass]:
    """By name, in float64, so that what batching rounds differently stays below 1e-12."""
    kinds: dict[str, dict[str, Any]] = {
        "host": {"scheme": "none"},
        "h2ot": {"scheme": "h2ot"},
        "hot": {"scheme": "hot"},
        "tpm": {"scheme": "tpm"},
        "tpc": {"scheme": "tpc"},
    }
    built: dict[str, Hourglass] = {}

    def get(name: str) -> Hourglass:
        if name not in built:
            built[name] = small(**kinds[name]).double()
        return built[name]

    return get


@pytest.fixture(scope="module")
def tiny(small: Build) -> Callable[..., Hourglass]:
    return lambda **arguments: small(depth=2, width=4, heads=1, **arguments)


def window(video: Tensor, start: int) -> Tensor:
    """Frames start to start + F, the ends repeated; (1, F, J, C)."""
    frames = [video[min(max(i, 0), len(video) - 1)] for i in range(start, start + F)]
    return torch.stack(frames).unsqueeze(0)


def mirrored(x: Tensor) -> Tensor:
    y = x.clone()
    for left, right in zip(LEFT, RIGHT, strict=True):
        y[..., left, :], y[..., right, :] = x[..., right, :], x[..., left, :]
    y[..., 0] *= -1
    return y


def poses_of(model: Hourglass, x: Tensor, flip: bool) -> Tensor:
    with torch.no_grad():
        first = model.run(x)
        if not flip:
            return first.poses
        again = model.run(mirrored(x), selections=first.selections)
    return (first.poses + mirrored(again.poses)) / 2


def frame_by_frame(model: Hourglass, video: Tensor, flip: bool) -> Tensor:
    """One window around each frame, of which the middle is kept."""
    found = []
    for t in range(len(video)):
        poses = poses_of(model, window(video, t - F // 2), flip)[0]
        found.append(poses[len(poses) // 2])
    return torch.stack(found)


def side_by_side(model: Hourglass, video: Tensor, flip: bool) -> Tensor:
    """Pad to whole windows, half of it in front, lift each, and cut the padding off."""
    count = len(video)
    windows = (count + F - 1) // F
    padding = windows * F - count
    front = padding // 2
    padded = torch.cat(
        [video[:1].repeat(front, 1, 1), video, video[-1:].repeat(padding - front, 1, 1)]
    )
    parts = [
        poses_of(model, padded[i * F : (i + 1) * F].unsqueeze(0), flip)[0] for i in range(windows)
    ]
    return torch.cat(parts)[front : front + count]


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


# --- results -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", ["seq2seq", "seq2frame"])
def test_every_length_gives_a_pose_per_frame(tiny: Callable[..., Hourglass], pipeline: str) -> None:
    model = tiny(scheme="h2ot", b=(0, 1))
    for count in range(1, 101):
        video = draw(count).float()
        poses = lift(model, video, pipeline=pipeline, flip=False, batch_size=64)
        assert poses.shape == (count, J, 3)
        assert poses.dtype == torch.float32
        assert torch.isfinite(poses).all()


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
@pytest.mark.parametrize("count", LENGTHS)
@pytest.mark.parametrize("name", ["host", "h2ot", "hot"])
def test_seq2seq_is_padded_windows_side_by_side(
    models: Callable[[str], Hourglass], name: str, count: int, flip: bool
) -> None:
    model, video = models(name), draw(count)
    ours = lift(model, video, flip=flip, **SIDES)
    assert_close(ours, side_by_side(model, video, flip))


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("name", ["tpm", "tpc", "host", "h2ot"])
def test_seq2frame_is_a_loop_over_frames(
    models: Callable[[str], Hourglass], name: str, count: int, flip: bool
) -> None:
    model, video = models(name), draw(count)
    ours = lift(model, video, pipeline="seq2frame", flip=flip, **SIDES)
    assert_close(ours, frame_by_frame(model, video, flip))


def test_a_video_of_one_window_is_that_window(models: Callable[[str], Hourglass]) -> None:
    model, video = models("h2ot"), draw(F)
    with torch.no_grad():
        assert_close(lift(model, video, flip=False), model(video.unsqueeze(0))[0])


def test_the_models_own_pipeline_is_the_default(models: Callable[[str], Hourglass]) -> None:
    video = draw(40)
    for name, pipeline in (("h2ot", "seq2seq"), ("tpm", "seq2frame")):
        model = models(name)
        ours = lift(model, video, **SIDES)
        assert torch.equal(ours, lift(model, video, pipeline=pipeline, **SIDES))
    assert not torch.allclose(
        lift(models("h2ot"), video, flip=False),
        lift(models("h2ot"), video, flip=False, pipeline="seq2frame"),
    )


def test_the_mirrored_pass_keeps_the_frames_of_the_first(
    models: Callable[[str], Hourglass],
) -> None:
    model, video = models("hot"), draw(F)
    x = video.unsqueeze(0)
    with torch.no_grad():
        first, other = model.run(x), model.run(mirrored(x))
        # By itself the mirrored video would keep others, so that the reuse shows.
        assert not torch.equal(first.selections[0].index, other.selections[0].index)
        again = model.run(mirrored(x), selections=first.selections)
    ours = lift(model, video, **SIDES)
    assert_close(ours, ((first.poses + mirrored(again.poses)) / 2)[0])
    assert not torch.allclose(ours, ((first.poses + mirrored(other.poses)) / 2)[0])


def test_a_mirrored_video_gives_mirrored_poses(models: Callable[[str], Hourglass]) -> None:
    model, video = models("h2ot"), draw(40)
    assert_close(lift(model, mirrored(video), **SIDES), mirrored(lift(model, video, **SIDES)))


@pytest.mark.parametrize("name", ["h2ot", "hot", "tpm", "tpc"])
def test_the_batch_size_changes_nothing(models: Callable[[str], Hourglass], name: str) -> None:
    model, video = models(name), draw(60)
    whole = lift(model, video, batch_size=1000, **SIDES)
    for size in (1, 7):
        assert_close(lift(model, video, batch_size=size, **SIDES), whole)


def test_the_model_is_left_as_it_was(small: Build) -> None:
    model = small(scheme="h2ot").train()
    video = draw(30).float()
    before = video.clone()
    poses = lift(model, video, **SIDES)
    assert model.training
    assert not poses.requires_grad
    assert torch.equal(video, before)
    assert torch.equal(poses, lift(model.eval(), video, **SIDES))
    assert not model.training


def test_the_video_may_have_another_type(models: Callable[[str], Hourglass]) -> None:
    model, video = models("host"), draw(30).float()
    poses = lift(model, video, **SIDES)
    assert poses.dtype == torch.float64
    assert torch.equal(poses, lift(model, video.double(), **SIDES))


# --- errors ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(tiny: Callable[..., Hourglass]) -> Hourglass:
    return tiny(scheme="none")


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (torch.zeros(0, J, 2), "the video is empty"),
        (torch.zeros(9, J + 1, 2), r"must have shape \(T, 5, 2\).*got \(9, 6, 2\)"),
        (torch.zeros(9, J, 3), r"must have shape \(T, 5, 2\).*got \(9, 5, 3\)\.$"),
        (torch.zeros(1, 9, J, 2), r"must have shape \(T, 5, 2\).*got \(1, 9, 5, 2\)"),
        (torch.zeros(J, 2), r"must have shape \(T, 5, 2\)"),
        (torch.zeros(9, J, 2, dtype=torch.int64), r"floating-point.*got a tensor of torch\.int64"),
        ([[0.0, 0.0]], "floating-point torch.Tensor, got <class 'list'>"),
    ],
)
def test_what_is_no_video(host: Hourglass, video: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        lift(host, video, **SIDES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(host: Hourglass, value: float) -> None:
    video = draw(40).float()
    video[33, 4, 1] = value
    video[35] = value
    with pytest.raises(InputError, match=r"contains 11 values.*first at frame 33, joint 4\."):
        lift(host, video, **SIDES)


def test_pipelines_that_do_not_fit(models: Callable[[str], Hourglass]) -> None:
    with pytest.raises(ConfigError, match=r"centre frame alone.*pipeline='seq2frame'"):
        lift(models("tpm"), draw(9), pipeline="seq2seq", **SIDES)
    with pytest.raises(ConfigError, match="seq2sq"):
        lift(models("h2ot"), draw(9), pipeline="seq2sq", **SIDES)


def test_a_missing_confidence_channel_is_explained() -> None:
    model = h2ot_core.build(
        "motionbert", scheme="none", frames=9, width=8, depth=2, heads=2, joints=J
    )
    with pytest.raises(InputError, match=r"\(T, 5, 3\).*third channel is.*confidence; use 1"):
        lift(model, draw(9).float(), **SIDES)
    poses = lift(model, draw(9, channels=3).float(), **SIDES)
    assert poses.shape == (9, J, 3)


def test_batch_sizes_and_sides(host: Hourglass) -> None:
    video = draw(9).float()
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        lift(host, video, batch_size=0, **SIDES)
    # The default sides are those of 17 joints.
    with pytest.raises(InputError, match=r"pairs among 5 joints.*or use flip=False"):
        lift(host, video)
    with pytest.raises(InputError, match="pairs among 5 joints"):
        lift(host, video, left=(1, 2), right=(3,))
    assert lift(host, video, flip=False).shape == (9, J, 3)
