"""TPA: keep the frames that receive the most temporal attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from h2ot_core.errors import ConfigError
from h2ot_core.prune.base import ScorePruner, Signals
from h2ot_core.schedule import Schedule

# Attention weights held at once, in elements. On an accelerator it bounds the memory that scoring
# needs; on a CPU so few stay in the cache.
_CHUNK = {"cpu": 2**19}
_CHUNK_ELSEWHERE = 2**26


class AttentionPruner(ScorePruner):
    """Token Pruning Attention (paper, Section 3.1.2).

    The attention is that of the block before the stage (its own would cost FLOPs that the
    published count excludes), averaged over heads and streams. Cost: O(B S N^2 C), in that
    block alone.

    Options:
        tpa_axis: "received" sums the weights over the queries, what each frame receives; "row"
            sums over the keys as the paper prints, which is 1 for every frame up to rounding.
    """

    requires = "attention"
    options: ClassVar[Mapping[str, Any]] = {"tpa_axis": ("received", "row")}

    def __init__(self, schedule: Schedule, centre: int | None, **options: Any) -> None:
        super().__init__(schedule, centre)
        self.dim = -2 if options["tpa_axis"] == "received" else -1

    def score(self, signals: Signals, stage: int) -> Tensor:
        """Sum each frame's attention; (B, N).

        Raises:
            ConfigError: if the host's step recorded no attention.
        """
        assert signals.attention is not None
        recorder = signals.attention
        if not recorder:
            raise ConfigError(
                "this pruner scores frames by the temporal attention of the step before a stage, "
                "but that step of the host recorded none; append its queries and keys to the "
                "recorder, or return None from score_step."
            )
        parts = getattr(recorder, "received", [])  # a plain list of pairs will do
        if self.dim == -1 or len(parts) < len(recorder):
            parts = [self._received(query, key) for query, key in recorder]
        return parts[0] if len(parts) == 1 else torch.stack(parts).mean(dim=0)

    def _received(self, query: Tensor, key: Tensor) -> Tensor:
        """Sums of one attention, (B, S, H, N, d) each, averaged over S and H; (B, N)."""
        batch, streams = query.shape[:2]
        query, key = query.flatten(0, 1), key.flatten(0, 1)
        if torch.compiler.is_compiling():  # a batch left open cannot be cut
            return self._sums(query, key).unflatten(0, (batch, streams)).mean(dim=(1, 2))
        each = query.shape[1] * query.shape[2] ** 2
        rows = max(1, _CHUNK.get(query.device.type, _CHUNK_ELSEWHERE) // each)
        pairs = zip(query.split(rows), key.split(rows), strict=True)
        sums = torch.cat([self._sums(q, k) for q, k in pairs])
        return sums.unflatten(0, (batch, streams)).mean(dim=(1, 2))

    def _sums(self, query: Tensor, key: Tensor) -> Tensor:
        """(R, H, N, d) each to (R, H, N)."""
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1)
        return weights.sum(dim=self.dim)
