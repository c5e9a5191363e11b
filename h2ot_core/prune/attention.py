"""TPA: keep the frames that receive the most temporal attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from h2ot_core.prune.base import ScorePruner, Signals
from h2ot_core.schedule import Schedule

# Attention weights held at once, in elements: bounds the memory that listening takes.
_CHUNK = 2**26


class AttentionPruner(ScorePruner):
    """Token Pruning Attention (paper, Section 3.1.2).

    The attention is that of the block before the stage (its own would cost FLOPs that the
    published count excludes), averaged over heads and streams. Cost: O(B S N^2 C), in that
    block alone.

    Options:
        tpa_axis: "received" sums the weights over the queries, what each frame is given; "row"
            sums over the keys as the paper prints, which is 1 for every frame up to rounding.
    """

    requires = "attention"
    options: ClassVar[Mapping[str, Any]] = {"tpa_axis": ("received", "row")}

    def __init__(self, schedule: Schedule, centre: int | None, **options: Any) -> None:
        super().__init__(schedule, centre)
        self.dim = -2 if options["tpa_axis"] == "received" else -1

    def score(self, signals: Signals, stage: int) -> Tensor:
        """Sum each frame's attention; (B, N)."""
        assert signals.attention is not None
        parts = []
        for query, key in signals.attention:  # each (B, S, H, N, d)
            rows = max(1, _CHUNK // (query[0, ..., 0].numel() * query.shape[-2]))
            chunks = zip(query.split(rows), key.split(rows), strict=True)
            parts.append(torch.cat([self._sums(q, k) for q, k in chunks]))
        return parts[0] if len(parts) == 1 else torch.stack(parts).mean(dim=0)

    def _sums(self, query: Tensor, key: Tensor) -> Tensor:
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1)
        return weights.sum(dim=self.dim).mean(dim=(1, 2))
