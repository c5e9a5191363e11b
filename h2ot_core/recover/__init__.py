"""Token recovering: one file per strategy, one row each in RECOVERERS."""

from __future__ import annotations

from h2ot_core.recover.attention import AttentionRecoverer
from h2ot_core.recover.base import AbstractRecoverer
from h2ot_core.recover.interpolation import InterpolationRecoverer

RECOVERERS: dict[str, type[AbstractRecoverer]] = {
    "tra": AttentionRecoverer,
    "tri": InterpolationRecoverer,
}
