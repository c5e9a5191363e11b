"""Feeding a stream: as fast as it takes frames, or as a camera gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import h2ot_core
from bench.timing import clock


@dataclass
class Run:
    """What one row did in one round.

    Attributes:
        latencies_s, delays: one value per pose, in the order they came out.
        due: frames whose pose was due in time, those dropped among them.
        late, dropped: of these; see :func:`paced`.
        passes: windows lifted.
    """

    latencies_s: list[float]
    delays: list[int]
    due: int = 0
    late: int = 0
    dropped: int = 0
    passes: int = 0

    def add(self, poses: Sequence[tuple[int, Tensor]], newest: int, numbers: Sequence[int],
            latency: float, deadline: float) -> None:  # fmt: skip
        """Count the poses of one push; ``numbers`` are those of the pushed frames in the video."""
        if not poses:
            return
        self.passes += 1
        self.due += len(poses)
        self.late += len(poses) if latency > deadline else 0
        self.latencies_s += [latency] * len(poses)
        self.delays += [newest - numbers[index] for index, _ in poses]


def unpaced(
    stream: h2ot_core.Stream, frames: Tensor, device: torch.device, *, seconds: float
) -> Run:
    """Push frames until the time is spent and at least two windows are lifted.

    Args:
        stream: new or finished.
        frames: (T, J, C_in), normalised, on the CPU; repeated from the start at the end.
        device: that the stream computes on.
        seconds: of pushing.
    """
    run = Run([], [])
    spent, number = 0.0, 0
    while run.passes < 2 or spent < seconds:
        frame = frames[number % len(frames)]
        poses, elapsed = _push(stream, frame, device)
        spent += elapsed
        run.add(poses, number, range(number + 1), elapsed, float("inf"))
        number += 1
    return run


def paced(
    stream: h2ot_core.Stream, frames: Tensor, device: torch.device, *, fps: float, seconds: float
) -> Run:
    """Push frames as they come from a camera at ``fps``, for so many seconds of video.

    Frame k is there at k / fps and waits in a queue while the stream is busy; from a full queue
    (see :func:`queue_frames`) the oldest is dropped and never lifted. A pose is late when it comes
    out more than hop / fps after the frame that it waited for: the next ones are then due, and
    a pipeline that is always late falls behind for good. The frames before the first whose pose
    is due are pushed before the clock starts, and those waiting when the video ends not at all.

    Args:
        stream, frames, device: as for :func:`unpaced`.
        fps: frames per second.
        seconds: of video; more if one window needs more.

    Raises:
        RuntimeError: if no window was lifted in that time.
    """
    run = Run([], [])
    room = queue_frames(stream.hop, fps)
    numbers = list(range(stream.delay))
    for number in numbers:
        stream.push(frames[number % len(frames)])
    count = max(round(seconds * fps), stream.hop)
    begin, done, k = clock.now(), 0.0, 0
    while k < count and done < count / fps:
        clock.wait_until(begin + k / fps)
        number = stream.delay + k
        poses, _ = _push(stream, frames[number % len(frames)], device)
        done = clock.now() - begin
        numbers.append(number)
        run.add(poses, number, numbers, done - k / fps, stream.hop / fps)
        newest = min(int(done * fps), count - 1)
        skipped = max(0, newest - k - room)
        run.dropped += skipped
        run.due += skipped
        k += 1 + skipped
    if not run.passes:
        raise RuntimeError(f"no window was lifted in {count / fps:g} s of video")
    return run


def queue_frames(hop: int, fps: float) -> int:
    """Frames that may wait: those of a second, or of a hop if that is longer."""
    return max(hop, round(fps))


def _push(
    stream: h2ot_core.Stream, frame: Tensor, device: torch.device
) -> tuple[list[tuple[int, Tensor]], float]:
    """The poses that a push returned, and its wall time in seconds."""
    poses: list[tuple[int, Tensor]] = []
    elapsed = clock.time_call(lambda: poses.extend(stream.push(frame)), device)
    return poses, elapsed
