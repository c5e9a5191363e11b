"""Lift a video frame by frame, as it comes from a camera."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from h2ot_core.errors import InputError
from h2ot_core.hourglass import Hourglass
from h2ot_core.schedule import middle
from h2ot_core.video import LEFT, RIGHT, check_sides, chosen_pipeline, lift_windows


class Stream:
    """Lifts 2D poses one at a time and returns each 3D pose as soon as it is determined.

    A ring buffer holds the last F frames. With seq2frame every frame costs a forward pass,
    which puts out one pose; with seq2seq every ``hop`` frames do, for the newest ``hop`` poses.
    The video's ends are padded with copies of its first and last frame.

    =====================  ==================================================================
    setting                equal to
    =====================  ==================================================================
    seq2frame              ``lift`` of the whole video
    seq2frame, delay d     frame t of ``lift`` for the video cut after frame t + d
    seq2seq, hop F         ``lift`` of the whole video, if F divides its length (``lift`` pads
                           half at either end, which needs the length before the video ends)
    seq2seq, hop h         of each h frames the newest in ``lift`` of the F frames up to them
    =====================  ==================================================================

    Args:
        model: from :func:`h2ot_core.build`, with weights.
        pipeline: "seq2frame" or "seq2seq"; None means the model's own.
        hop: frames between two windows, 1 to F; 1 for seq2frame. A pose then waits up to
            ``hop - 1`` frames for its window, and the work per frame is that of a window / hop.
        delay: frames of future context that the newest pose put out has. None means for seq2frame
            all that the window holds behind its centre, for seq2seq none. With less, seq2frame
            pads the future with copies of the newest frame, so that the network sees a body that
            stops: each pose comes sooner and is less exact. At most F - hop for seq2seq.
        flip: also lift the mirrored window and average, as ``lift`` does; twice the work.
        left, right: joints that a mirror exchanges.

    Raises:
        ConfigError: for a seq2seq pipeline on a seq2frame model, or an unknown pipeline.
        InputError: for a hop, a delay or joints that do not fit.

    >>> import torch, h2ot_core
    >>> model = h2ot_core.build("mixste", frames=27, width=16, depth=5, heads=2)
    >>> stream = Stream(model, hop=9)
    >>> out = [p for frame in torch.zeros(18, 17, 2) for p in stream.push(frame)]
    >>> [index for index, pose in out] == list(range(18)), tuple(out[0][1].shape)
    (True, (17, 3))
    """

    def __init__(
        self,
        model: Hourglass,
        *,
        pipeline: str | None = None,
        hop: int = 1,
        delay: int | None = None,
        flip: bool = False,
        left: Sequence[int] = LEFT,
        right: Sequence[int] = RIGHT,
    ) -> None:
        self.pipeline = chosen_pipeline(model, pipeline)
        self.frames = model.schedule.frames
        self.hop, self.delay = _settings(self.frames, self.pipeline, hop, delay)
        if flip:
            check_sides(model.host.joints, left, right)
        self._model = model
        self._mirror = (left, right) if flip else None
        like = next(model.parameters())
        shape = (self.frames, model.host.joints, model.host.channels)
        self._ring = torch.zeros(shape, device=like.device, dtype=like.dtype)
        self._window = torch.empty_like(self._ring)
        # Two turns of the ring: the places of any F frames in a row are a slice of it.
        self._turns = torch.arange(2 * self.frames, device=like.device) % self.frames
        self._received = self._returned = 0

    @property
    def waits(self) -> tuple[int, int]:
        """Fewest and most frames that come in after a frame before its pose goes out."""
        return self.delay, self.delay + self.hop - 1

    def push(self, frame: Tensor) -> list[tuple[int, Tensor]]:
        """Add the next frame.

        Args:
            frame: (J, C_in), normalised as the model was trained.

        Returns:
            The poses that are now determined, in order: frame number, from 0, and pose (J, 3) on
            the model's device; often none.

        Raises:
            InputError: on a wrong shape or type, or a value that is not finite; the frame is then
                not added.
        """
        self._check(frame)
        self._ring[self._received % self.frames].copy_(frame.detach())
        self._received += 1
        due = self._received - self.delay
        if due < self.hop or due % self.hop:
            return []
        return self._lift(due)

    def finish(self) -> list[tuple[int, Tensor]]:
        """End the video.

        Returns:
            The poses still missing, as :meth:`push` does. The next frame begins another video.
        """
        missing: list[tuple[int, Tensor]] = []
        step = 1 if self.pipeline == "seq2frame" else self.frames
        while self._returned < self._received:
            missing += self._lift(min(self._returned + step, self._received))
        self._received = self._returned = 0
        return missing

    def _lift(self, end: int) -> list[tuple[int, Tensor]]:
        """Poses of the frames up to ``end`` that have not been returned."""
        first, self._returned = self._returned, end
        count = end - first
        model = self._model
        was_training = model.training
        if was_training:  # walking through all modules to set it would cost every frame
            model.eval()
        try:
            with torch.no_grad():
                x = self._gathered(end).unsqueeze(0)
                poses = lift_windows(model, x, self.pipeline, self._mirror)[0]
        finally:
            if was_training:
                model.train()
        if self.pipeline == "seq2seq":
            behind = min(self.delay, self._received - end)
            last = self.frames - behind
            poses = poses[last - count : last]
        if count < self.frames:  # a pose must not hold the memory of the window
            poses = poses.clone()
        return list(enumerate(poses.unbind(), start=first))

    def _gathered(self, end: int) -> Tensor:
        """The window for the poses up to ``end``, (F, J, C_in); overwritten by the next."""
        if self.pipeline == "seq2frame":
            start = end - 1 - middle(self.frames)
        else:
            start = self._received - self.frames
        if start >= 0 and start + self.frames <= self._received:
            begin = start % self.frames
            places = self._turns[begin : begin + self.frames]
        else:
            numbers = torch.arange(start, start + self.frames, device=self._turns.device)
            places = numbers.clamp_(0, self._received - 1).remainder_(self.frames)
        return torch.index_select(self._ring, 0, places, out=self._window)

    def _check(self, frame: Tensor) -> None:
        want = tuple(self._ring.shape[1:])
        if not isinstance(frame, Tensor) or not frame.is_floating_point():
            got = f"a tensor of {frame.dtype}" if isinstance(frame, Tensor) else type(frame)
            raise InputError(f"a frame must be a floating-point torch.Tensor, got {got}.")
        if tuple(frame.shape) != want:
            raise InputError(
                f"a frame must have shape (J, C) = {want} for this {self._model.config.host} "
                f"model, got {tuple(frame.shape)}; push one frame at a time, without a batch."
            )
        finite = torch.isfinite(frame)
        if not bool(finite.all()):
            joint = int((~finite).nonzero()[0][0])
            raise InputError(
                f"frame {self._received} contains {int((~finite).sum())} values that are NaN or "
                f"infinite, the first at joint {joint}. Push the last good frame again, or "
                f"interpolate undetected joints first."
            )


def _settings(frames: int, pipeline: str, hop: int, delay: int | None) -> tuple[int, int]:
    """Hop and delay, checked, the delay's default filled in."""
    if pipeline == "seq2frame":
        if hop != 1:
            raise InputError(f"seq2frame lifts every frame by itself: hop must be 1, got {hop}.")
        most = frames - 1 - middle(frames)
        delay = most if delay is None else delay
    else:
        if not 1 <= hop <= frames:
            raise InputError(f"hop must be 1 to the {frames} frames of a window, got {hop}.")
        most = frames - hop
        delay = 0 if delay is None else delay
    if not 0 <= delay <= most:
        raise InputError(
            f"delay must be 0 to {most} frames for {pipeline} with F = {frames} and hop {hop}, "
            f"got {delay}."
        )
    return hop, delay
