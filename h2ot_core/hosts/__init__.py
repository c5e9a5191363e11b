"""Hosts: one file per video pose transformer, one row each in HOSTS."""

from __future__ import annotations

from h2ot_core.hosts.base import AbstractHost, Step
from h2ot_core.hosts.mhformer import MHFormer
from h2ot_core.hosts.mixste import MixSTE
from h2ot_core.hosts.motionagformer import MotionAGFormer
from h2ot_core.hosts.motionbert import MotionBERT

HOSTS: dict[str, type[AbstractHost]] = {
    "mixste": MixSTE,
    "motionbert": MotionBERT,
    "motionagformer": MotionAGFormer,
    "mhformer": MHFormer,
}

__all__ = [
    "HOSTS",
    "AbstractHost",
    "MHFormer",
    "MixSTE",
    "MotionAGFormer",
    "MotionBERT",
    "Step",
]
