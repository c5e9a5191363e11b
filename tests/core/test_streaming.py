"""Online lifting: against ``lift`` on the whole video, and against windows cut by hand."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from h2ot_core import ConfigError, Hourglass, InputError, Stream, lift, streaming

Build = Callable[..., Hourglass]

F, J = 27, 5
SIDES = {"left": (1, 2), "right": (3, 4)}
LENGTHS = (1, 13, 14, 28, 61)
KINDS: dict[str, dict[str, Any]] = {
    "host": {"scheme": "none"},
    "h2ot": {"scheme": "h2ot"},
    "hot": {"scheme": "hot"},
    "tpm": {"scheme": "tpm"},
    "tpc": {"scheme": "tpc"},
    "even": {"scheme": "none", "frames": 8},
}


@pytest.fixture(scope="module")
def models(small: Build) -> Callable[[str], Hourglass]:
    built: dict[str, Hourglass] = {}

    def get(name: str) -> Hourglass:
        if name not in built:
            built[name] = small(**{"width": 8, "depth": 4, "frames": F, **KINDS[name]})
        return built[name]

    return get


def draw(frames: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (0.2 * torch.randn((frames, J, 2), generator=generator)).cumsum(dim=0)


def streamed(stream: Stream, video: Tensor) -> tuple[Tensor, list[int]]:
    """All poses in order, and how many frames had come in when each came out."""
    told, moments = [], []
    for taken, frame in enumerate(video, start=1):
        out = stream.push(frame)
        told += out
        moments += [taken] * len(out)
    rest = stream.finish()
    told += rest
    moments += [len(video)] * len(rest)
    assert [index for index, _ in told] == list(range(len(video)))
    return torch.stack([pose for _, pose in told]), moments


def lifted(model: Hourglass, video: Tensor, **options: Any) -> Tensor:
    # One window at a time, as a stream does, or the last digit would differ.
    return lift(model, video, batch_size=1, **SIDES, **options)


def ending(video: Tensor, end: int) -> Tensor:
    """The F frames before ``end``, the first repeated where there are fewer."""
    return torch.stack([video[max(i, 0)] for i in range(end - F, end)])


# --- equal to lifting the whole video ----------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
@pytest.mark.parametrize("count", LENGTHS)
@pytest.mark.parametrize("name", ["tpm", "tpc", "host", "h2ot"])
def test_seq2frame_is_lift_to_the_last_bit(
    models: Callable[[str], Hourglass], name: str, count: int, flip: bool
) -> None:
    model, video = models(name), draw(count)
    stream = Stream(model, pipeline="seq2frame", flip=flip, **SIDES)
    poses, moments = streamed(stream, video)
    assert torch.equal(poses, lifted(model, video, pipeline="seq2frame", flip=flip))
    assert moments == [min(t + 14, count) for t in range(count)]
    assert stream.waits == (13, 13)


@pytest.mark.parametrize("count", [1, 4, 8, 19])
def test_windows_of_an_even_number_of_frames(
    models: Callable[[str], Hourglass], count: int
) -> None:
    model, video = models("even"), draw(count)
    poses, moments = streamed(Stream(model, pipeline="seq2frame"), video)
    assert torch.equal(poses, lifted(model, video, pipeline="seq2frame", flip=False))
    assert moments == [min(t + 5, count) for t in range(count)]


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
@pytest.mark.parametrize("name", ["host", "h2ot", "hot"])
def test_buffered_seq2seq_is_lift_to_the_last_bit(
    models: Callable[[str], Hourglass], name: str, flip: bool
) -> None:
    model, video = models(name), draw(3 * F)
    stream = Stream(model, hop=F, flip=flip, **SIDES)
    poses, moments = streamed(stream, video)
    assert torch.equal(poses, lifted(model, video, flip=flip))
    assert moments == [F] * F + [2 * F] * F + [3 * F] * F
    assert stream.waits == (0, F - 1)


# --- settings that lift does not have -----------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 1, 5, 12])
@pytest.mark.parametrize("name", ["tpm", "h2ot"])
def test_with_less_delay_the_newest_frame_stands_for_the_future(
    models: Callable[[str], Hourglass], name: str, delay: int
) -> None:
    model, video = models(name), draw(33)
    stream = Stream(model, pipeline="seq2frame", delay=delay)
    poses, moments = streamed(stream, video)
    for t in (0, 1, 12, 13, 14, 31, 32):  # at the edges and within; lifting takes long
        cut = video[: t + delay + 1]
        assert torch.equal(poses[t], lifted(model, cut, pipeline="seq2frame", flip=False)[t])
    assert moments == [min(t + delay + 1, 33) for t in range(33)]
    assert stream.waits == (delay, delay)


@pytest.mark.parametrize(
    ("hop", "delay"), [(1, None), (9, 0), (9, 5), (5, 22), (26, 1), (27, 0), (1, 13), (1, 26)]
)
@pytest.mark.parametrize("count", [1, 9, 40])
def test_seq2seq_puts_out_the_newest_frames_of_each_window(
    models: Callable[[str], Hourglass], hop: int, delay: int | None, count: int
) -> None:
    model, video = models("h2ot"), draw(count)
    stream = Stream(model, hop=hop, delay=delay)
    poses, moments = streamed(stream, video)
    late = delay or 0
    for t, pose in enumerate(poses):
        end = min((t // hop + 1) * hop + late, count)
        if (t // hop + 1) * hop + late > count:  # the last window, of what was left
            end = count
        assert moments[t] == end
        window = lifted(model, ending(video, end), flip=False)
        assert torch.equal(pose, window[F - end + t])
    assert stream.waits == (late, late + hop - 1)


def test_a_finished_stream_takes_another_video(models: Callable[[str], Hourglass]) -> None:
    stream = Stream(models("h2ot"), hop=9)
    assert stream.finish() == []
    videos = [draw(31, seed) for seed in (1, 2, 1)]
    first, second, again = (streamed(stream, video)[0] for video in videos)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


# --- what it does not do -----------------------------------------------------------------------


def test_the_model_and_the_frames_are_left_as_they_were(models: Callable[[str], Hourglass]) -> None:
    model, video = models("h2ot"), draw(30)
    before = video.clone()
    plain = streamed(Stream(model, hop=9), video)[0]
    model.train()
    try:
        poses = streamed(Stream(model, hop=9), video.requires_grad_())[0]
        assert model.training
    finally:
        model.eval()
    assert torch.equal(poses, plain)
    assert not poses.requires_grad
    assert torch.equal(video.detach(), before)


def test_nothing_grows_and_no_pose_keeps_a_window(models: Callable[[str], Hourglass]) -> None:
    stream = Stream(models("h2ot"), hop=3)
    places = stream._ring.data_ptr(), stream._window.data_ptr()
    told = [pose for frame in draw(70) for _, pose in stream.push(frame)]
    assert (stream._ring.data_ptr(), stream._window.data_ptr()) == places
    assert {pose.untyped_storage().nbytes() for pose in told} == {3 * J * 3 * 4}


def test_poses_told_before_do_not_change(models: Callable[[str], Hourglass]) -> None:
    stream = Stream(models("host"), hop=F)
    video = draw(2 * F)
    first = [pose for frame in video[:F] for _, pose in stream.push(frame)]
    kept = [pose.clone() for pose in first]
    for frame in video[F:]:
        stream.push(frame)
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


def test_the_frames_may_have_another_type(models: Callable[[str], Hourglass]) -> None:
    model, video = models("host"), draw(F)
    double = streamed(Stream(model, hop=F), video.double())[0]
    assert torch.equal(double, streamed(Stream(model, hop=F), video)[0])


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(streaming).failed == 0


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (torch.zeros(1, J, 2), r"shape \(J, C\) = \(5, 2\).*got \(1, 5, 2\).*without a batch"),
        (torch.zeros(J, 3), r"shape \(J, C\) = \(5, 2\).*got \(5, 3\)"),
        (torch.zeros(J, 2, dtype=torch.int32), r"floating-point.*torch\.int32"),
        ([[0.0, 0.0]] * J, "floating-point torch.Tensor, got <class 'list'>"),
    ],
)
def test_what_is_no_frame(models: Callable[[str], Hourglass], frame: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Stream(models("host")).push(frame)
    assert "\n" not in str(caught.value)


def test_a_frame_that_is_not_finite_is_not_taken(models: Callable[[str], Hourglass]) -> None:
    model, video = models("tpm"), draw(20)
    stream = Stream(model)
    told = []
    for t, frame in enumerate(video):
        if t == 7:
            bad = frame.clone()
            bad[3] = float("nan")
            with pytest.raises(InputError, match=r"frame 7 contains 2 values.*at joint 3\."):
                stream.push(bad)
        told += stream.push(frame)
    told += stream.finish()
    poses = torch.stack([pose for _, pose in told])
    assert torch.equal(poses, lifted(model, video, flip=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop": 0}, "hop must be 1 to the 27 frames of a window, got 0"),
        ({"hop": 28}, "hop must be 1 to the 27 frames of a window, got 28"),
        ({"hop": 9, "delay": 19}, "delay must be 0 to 18 frames for seq2seq.*hop 9, got 19"),
        ({"delay": -1}, "delay must be 0 to 26 frames.*got -1"),
        ({"pipeline": "seq2frame", "hop": 9}, "hop must be 1, got 9"),
        ({"pipeline": "seq2frame", "delay": 14}, "delay must be 0 to 13 frames for seq2frame"),
        ({"flip": True}, r"pairs among 5 joints.*or use flip=False"),
    ],
)
def test_settings_that_do_not_fit(
    models: Callable[[str], Hourglass], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Stream(models("h2ot"), **options)


def test_pipelines_that_do_not_fit(models: Callable[[str], Hourglass]) -> None:
    with pytest.raises(ConfigError, match="centre frame alone"):
        Stream(models("tpm"), pipeline="seq2seq")
    with pytest.raises(ConfigError, match="seq2fram'"):
        Stream(models("h2ot"), pipeline="seq2fram")
