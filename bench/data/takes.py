"""What every data set is turned into: takes, each one stretch of motion seen by one camera."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Split = Literal["train", "test"]

H36M_LEFT: Final = (4, 5, 6, 11, 12, 13)
H36M_RIGHT: Final = (1, 2, 3, 14, 15, 16)


class DataError(ValueError):
    """Data that cannot be used: says what was given, what was expected and how to mend it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Take:
    """One continuous stretch of one person's motion as one camera sees it.

    Attributes:
        name: unique within its data set and split.
        clip: names the motion itself; the takes of all cameras on one motion share it.
        subject: the person, as the source names them.
        action: what errors are averaged by, e.g. "Directions"; two takes of one action share it.
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
        wanted = {
            "input": (frames, joints, min(max(self.input.shape[-1], 2), 3)),
            "target": (frames, joints, 3),
            "truth_mm": (frames, joints, 3),
            "to_mm": (frames,),
            "valid": (frames,),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"take {self.name!r}: {name} has shape {getattr(self, name).shape}, expected "
                    f"{shape}"
                )

    def __len__(self) -> int:
        return len(self.input)


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSet:
    """A source of takes for training and evaluation.

    Attributes:
        name: short and stable, for record keys, e.g. "h36m:cpn".
        description: one sentence for the heading of a report.
        detector: where the 2D joints come from: "cpn", "gt", "sh", or a noise model's tag.
        protocol: published evaluation that belongs to the data: "h36m", "sh", "3dhp" or "motion".
        fps: frames per second of the takes.
        load: gives the takes of a split; called once per split and then kept.
        left, right: joints that a mirror exchanges.
        root: joint that poses are relative to.
        actions: the order of the per-action table; empty for the order in which they come.
        notes: what was done to the data while reading it (truncated, skipped), for the user.
    """

    name: str
    description: str
    detector: str
    protocol: Literal["h36m", "sh", "3dhp", "motion"]
    fps: float
    load: Callable[[Split], Sequence[Take]]
    left: tuple[int, ...] = H36M_LEFT
    right: tuple[int, ...] = H36M_RIGHT
    root: int = 0
    actions: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    _kept: dict[Split, Sequence[Take]] = field(default_factory=dict, init=False, repr=False)

    def takes(self, split: Split) -> Sequence[Take]:
        """The takes of a split, in the order of the source.

        Raises:
            DataError: the source cannot be used, or has no take in this split.
        """
        if split not in self._kept:
            takes = self.load(split)
            if not takes:
                raise DataError(f"{self.name} has no takes in split {split!r}; use the other split")
            self._kept[split] = takes
        return self._kept[split]


def downsampled(take: Take, step: int) -> Take:
    """Keep frames 0, step, 2 step, ... of a take (protocols.md, Table 9)."""
    if step < 1:
        raise DataError(f"a downsampling step is at least 1, got {step}")
    if step == 1:
        return take
    names = ("input", "target", "truth_mm", "to_mm", "valid")
    return Take(
        name=take.name,
        clip=take.clip,
        subject=take.subject,
        action=take.action,
        camera=take.camera,
        **{name: getattr(take, name)[::step] for name in names},
    )
