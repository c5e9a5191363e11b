"""TPMo: keep the frames whose 2D pose moved most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from h2ot_core.prune.base import ScorePruner, Signals
from h2ot_core.schedule import Schedule


class MotionPruner(ScorePruner):
    """Token Pruning Motion (paper, Section 3.1.3, Eq. 4).

    Differences of the normalised 2D input between consecutive frames still kept, worked out anew
    at every stage. Cost: O(B N J).

    Options:
        tpmo_measure: how a frame's coordinate differences become one number. "abs" sums their
            sizes; "signed" sums them as the paper prints, which measures drift alone; "squared"
            sums squares; "l2" sums the lengths of the joints' displacements.
        tpmo_first: the first frame, which has no difference: "zero" as the paper prints, "next"
            gives it the second frame's score, "keep" always keeps it.
    """

    requires = "poses"
    options: ClassVar[Mapping[str, Any]] = {
        "tpmo_measure": ("abs", "signed", "squared", "l2"),
        "tpmo_first": ("zero", "next", "keep"),
    }

    def __init__(self, schedule: Schedule, centre: int | None, **options: Any) -> None:
        super().__init__(schedule, centre)
        self.measure: str = options["tpmo_measure"]
        self.first: str = options["tpmo_first"]

    def score(self, signals: Signals, stage: int) -> Tensor:
        """Measure each frame's motion since the one before; (B, N)."""
        assert signals.poses is not None
        step = signals.poses.diff(dim=1)  # (B, N - 1, J, 2)
        if self.measure == "abs":
            motion = step.abs().sum(dim=(2, 3))
        elif self.measure == "signed":
            motion = step.sum(dim=(2, 3))
        elif self.measure == "squared":
            motion = step.square().sum(dim=(2, 3))
        else:
            motion = step.norm(dim=3).sum(dim=2)
        first = motion[:, :1]
        if self.first != "next" or motion.shape[1] == 0:
            # Above any motion, and yet below the centre frame of seq2frame.
            fill = torch.finfo(motion.dtype).max if self.first == "keep" else 0.0
            first = motion.new_full((motion.shape[0], 1), fill)
        return torch.cat([first, motion], dim=1)
