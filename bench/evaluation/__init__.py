"""Accuracy of a model on a data set, by the published protocols.

Errors are measured per sequence and frame, in float64, and averaged per action (joints and frames
of an action pooled over subjects, cameras and sequences), then over actions with equal weight:
"protocol 1" for MPJPE, "protocol 2" for MPJPE after alignment.
"""

from __future__ import annotations

from bench.evaluation.protocol import Protocol
from bench.evaluation.records import BY_TAKE, MEAN, WEIGHTED, group_name, to_records
from bench.evaluation.result import UNITS, Evaluation, SequenceErrors
from bench.evaluation.run import default_protocol, evaluate

__all__ = [
    "BY_TAKE",
    "MEAN",
    "UNITS",
    "WEIGHTED",
    "Evaluation",
    "Protocol",
    "SequenceErrors",
    "default_protocol",
    "evaluate",
    "group_name",
    "to_records",
]
