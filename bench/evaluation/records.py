"""Evaluations as records, from which reports are filled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.evaluation.result import UNITS, Evaluation
from bench.models.weights import Weights
from bench.records.case import Case
from bench.records.files import text_digest
from bench.records.record import Record
from h2ot_core import Hourglass

MEAN = "mean"
"""Label of the unweighted mean over actions."""

WEIGHTED = "frame-weighted"
"""Label of the mean over all frames counted, for 3DHP."""

BY_TAKE = "mpjpe_mm_by_take"
"""Metric of the record that holds the mean MPJPE of every sequence."""


def group_name(evaluation: Evaluation, weights: Weights | None) -> str:
    """A short tag of weights, data and protocol, which distinguishes evaluations of one case."""
    meaning = {
        "dataset": evaluation.dataset,
        "detector": evaluation.detector,
        "split": evaluation.split,
        "limit": evaluation.limit,
        **evaluation.protocol.meaning,
    }
    text = json.dumps(meaning, sort_keys=True)
    of = weights.sha256[:8] if weights is not None else "untrained"
    return f"{of}-{text_digest(text, 8)}"


def to_records(
    evaluation: Evaluation,
    case: Case,
    *,
    weights: Weights | None,
    model: Hourglass,
    stamp: Mapping[str, Any],
) -> list[Record]:
    """The values of an evaluation for the store.

    Each metric is one record, its values those of the actions, labelled with their names, then
    the mean over actions, labelled "mean", and for 3DHP the mean over frames, labelled
    "frame-weighted". One more record, ``mpjpe_mm_by_take``, holds the mean of every sequence, for
    comparisons in pairs; its protocol names the clip and the frames of each.

    Args:
        case: the configuration; its motion becomes the name of the data set.
        weights: None for an untrained model.
        model: what was evaluated.
        stamp: session and environment, as of :func:`bench.scenarios.tables.opened`.
    """
    case = replace(case, motion=evaluation.dataset)
    protocol = {
        "dataset": evaluation.dataset,
        "description": evaluation.description,
        "detector": evaluation.detector,
        "split": evaluation.split,
        **evaluation.protocol.meaning,
        "confidence": evaluation.confidence,
        "limit": evaluation.limit,
        "takes": len(evaluation.sequences),
        "frames": evaluation.frames,
        "missing_actions": list(evaluation.missing),
        "weights": weights.name if weights is not None else "none (untrained)",
        "weights_sha256": weights.sha256 if weights is not None else "",
        "model": {name: _plain(value) for name, value in model.config.arguments.items()},
        "batch": evaluation.protocol.batch,
        "device": next(model.parameters()).device.type,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
    }
    common = {"case": case, "group": group_name(evaluation, weights), **stamp}
    records = []
    for metric in evaluation.metrics:
        values = {a: of[metric] for a, of in evaluation.actions.items() if metric in of}
        values[MEAN] = evaluation.mean[metric]
        if evaluation.pck_joints:
            values[WEIGHTED] = evaluation.weighted[metric]
        joints = {}
        if metric in ("pck_percent", "auc_percent"):
            joints["joints"] = list(evaluation.pck_joints)
        records.append(
            Record(
                metric=metric,
                unit=UNITS[metric],
                values=tuple(values.values()),
                labels=tuple(values),
                protocol=protocol | joints,
                **common,
            )
        )
    by_take = {
        "clips": [sequence.clip for sequence in evaluation.sequences],
        "frames_by_take": [sequence.frames for sequence in evaluation.sequences],
    }
    records.append(
        Record(
            metric=BY_TAKE,
            unit="mm",
            values=tuple(sequence.mpjpe_mm for sequence in evaluation.sequences),
            labels=tuple(sequence.name for sequence in evaluation.sequences),
            protocol=protocol | by_take,
            **common,
        )
    )
    return records


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
