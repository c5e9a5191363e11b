"""Token pruning: one file per strategy, one row each in PRUNERS."""

from __future__ import annotations

from h2ot_core.prune.attention import AttentionPruner
from h2ot_core.prune.base import AbstractPruner
from h2ot_core.prune.cluster import ClusterPruner
from h2ot_core.prune.motion import MotionPruner
from h2ot_core.prune.uniform import UniformPruner

PRUNERS: dict[str, type[AbstractPruner]] = {
    "tpc": ClusterPruner,
    "tpa": AttentionPruner,
    "tpmo": MotionPruner,
    "tps": UniformPruner,
}
