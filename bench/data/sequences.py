"""Sequences, the form of every data set: each is one motion as one camera sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from bench.data.skeleton import LEFT, RIGHT
from bench.records.errors import UsageError

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Split = Literal["train", "test"]


class DataError(UsageError, ValueError):
    """Unusable data; the message has the value, what was expected and the remedy."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MotionSequence:
    """One continuous stretch of one person's motion as one camera sees it.

    Attributes:
        name: unique within its data set and split.
        clip: names the motion itself; the sequences of all cameras on one motion share it.
        subject: the person, as the source names them.
        action: what errors are averaged by, e.g. "Directions".
        camera: as the source names it.
        input: float32 (T, J, 2) or (T, J, 3), what the network gets: 2D joints normalised by the
            image width, and the detector's confidence where the source has one.
        target: float32 (T, J, 3), what the network learns: relative to the root joint (which is
            zero), in the unit of training, see `to_mm`.
        truth_mm: float32 (T, J, 3), what errors are measured against: millimetres, relative to
            the root joint (which is zero).
        to_mm: float32 (T,), factor from the unit of training to millimetres in each frame.
        valid: bool (T,), frames that count in an evaluation.
    """

    name: str
    clip: str
    subject: str
    action: str
    camera: str
    input: Array
    target: Array
    truth_mm: Array
    to_mm: Array
    valid: Mask

    def __post_init__(self) -> None:
        frames, joints = self.input.shape[:2]
        shapes = {
            "input": (frames, joints, min(max(self.input.shape[-1], 2), 3)),
            "target": (frames, joints, 3),
            "truth_mm": (frames, joints, 3),
            "to_mm": (frames,),
            "valid": (frames,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"sequence {self.name!r}: {name} has shape {getattr(self, name).shape}, "
                    f"expected {shape}"
                )

    def __len__(self) -> int:
        return len(self.input)


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSet:
    """A source of sequences for training and evaluation.

    Attributes:
        name: short and stable, for record keys, e.g. "h36m:cpn".
        description: one sentence for the heading of a report.
        detector: where the 2D joints come from: "cpn", "gt", "sh", or a noise model's tag.
        fps: frames per second of the sequences.
        load: returns the sequences of a split; called once per split, and the result is kept.
        windows: policy by which a seq2seq model is evaluated, as published for the data: a key of
            `h2ot_core.windows.POLICIES`.
        pck_joints: joints that PCK and AUC count, as published for the data; empty for data
            without these metrics. Data with them are also reported as the mean over all frames.
        unmeasured: splits whose `truth_mm` are not millimetres.
        left, right: joints that a mirror exchanges.
        root: joint that poses are relative to.
        actions: the order of the per-action table; empty for the order in which they come.
        notes: what was done to the data while reading it (truncated, skipped), for the user.
    """

    name: str
    description: str
    detector: str
    fps: float
    load: Callable[[Split], Sequence[MotionSequence]]
    windows: str = "strict"
    pck_joints: tuple[int, ...] = ()
    unmeasured: tuple[Split, ...] = ()
    left: tuple[int, ...] = LEFT
    right: tuple[int, ...] = RIGHT
    root: int = 0
    actions: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    _kept: dict[Split, Sequence[MotionSequence]] = field(
        default_factory=dict, init=False, repr=False
    )

    def sequences(self, split: Split) -> Sequence[MotionSequence]:
        """The sequences of a split, in the order of the source.

        Raises:
            DataError: the source cannot be used, or has no sequence in this split.
        """
        if split not in self._kept:
            sequences = self.load(split)
            if not sequences:
                raise DataError(
                    f"{self.name} has no sequences in split {split!r}; use the other split"
                )
            self._kept[split] = sequences
        return self._kept[split]


def downsampled(sequence: MotionSequence, step: int) -> MotionSequence:
    """Keep frames 0, step, 2 step, ... of a sequence (protocols.md, Table 9)."""
    if step < 1:
        raise DataError(f"a downsampling step is at least 1, got {step}")
    if step == 1:
        return sequence
    names = ("input", "target", "truth_mm", "to_mm", "valid")
    return replace(sequence, **{name: getattr(sequence, name)[::step] for name in names})
