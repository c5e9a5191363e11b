"""What a pruner gets and what it must return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from h2ot_core.layers import AttentionRecorder
from h2ot_core.schedule import Schedule


@dataclass(frozen=True)
class Signals:
    """What a pruner may score the N frames of a stage by; only what it requires is there.

    Attributes:
        index: (B, N) or (1, N) int64, their indices in the source sequence.
        keys: (B, N, C), one descriptor per frame, for pruners that require "keys".
        attention: queries and keys of the temporal attention of the block before, for
            "attention"; see :class:`h2ot_core.layers.AttentionRecorder`.
        poses: (B, N, J, 2), the normalised 2D input poses, for "poses".
        noise: (B, N) or (1, N), in place of a pruner's seeded noise.
    """

    index: Tensor
    keys: Tensor | None = None
    attention: AttentionRecorder | None = None
    poses: Tensor | None = None
    noise: Tensor | None = None


class AbstractPruner(nn.Module, ABC):
    """Chooses the frames to keep at every stage of a schedule.

    One object serves all stages of a model.

    Args:
        schedule: F, r and b.
        centre: the source index that every stage must keep (seq2frame), or None.
        options: this pruner's options, already checked against :attr:`options`.
    """

    requires: ClassVar[str | None] = None
    """The signal it needs: "keys", "attention", "poses" or None."""
    uses_noise: ClassVar[bool] = False
    """Whether it breaks ties by noise, for which ``run`` accepts a replacement."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Option name to default; a tuple lists the allowed values, the first being the default."""

    def __init__(self, schedule: Schedule, centre: int | None, **options: Any) -> None:
        super().__init__()
        self.schedule = schedule
        self.centre = centre

    def fixed(self) -> list[list[int]] | None:
        """Source indices kept by each stage where they do not depend on the input, else None."""
        return None

    @abstractmethod
    def select(self, signals: Signals, stage: int) -> Tensor:
        """Choose r_m of N frames.

        Args:
            signals: what is known of the N frames.
            stage: m, counted from 0.

        Returns:
            (B, r_m) or (1, r_m) int64, positions among the N frames, strictly increasing.
        """


class ScorePruner(AbstractPruner):
    """A pruner that keeps the highest scores; ties go to the earlier frame, on every device."""

    @abstractmethod
    def score(self, signals: Signals, stage: int) -> Tensor:
        """Score the N frames; (B, N), higher is kept."""

    @torch.no_grad()
    def select(self, signals: Signals, stage: int) -> Tensor:
        """Keep the r_m highest scores, the centre frame first of all where one is required."""
        score = self.score(signals, stage)
        if self.centre is not None:
            score = score.masked_fill(signals.index == self.centre, torch.inf)
        # A stable sort, unlike topk, settles ties the same way everywhere.
        order = torch.sort(score, dim=1, descending=True, stable=True).indices
        return order[:, : self.schedule.r[stage]].sort(dim=1).values
