"""The result of an evaluation: errors per sequence, per action and over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.evaluation.protocol import Protocol

UNITS = {
    "mpjpe_mm": "mm",
    "p_mpjpe_mm": "mm",
    "n_mpjpe_mm": "mm",
    "mpjve_mm": "mm",
    "pck_percent": "%",
    "auc_percent": "%",
}
"""Metric to its unit. mpjve_mm is millimetres per frame."""


@dataclass(frozen=True, kw_only=True)
class SequenceErrors:
    """Errors of one sequence.

    Attributes:
        name, clip, subject, action, camera: of the sequence.
        frames: how many count; padded and doubled ones among them where the protocol counts them.
        steps: differences of neighbouring frames that ``mpjve_mm`` is the mean of.
        values: metric to its mean over those frames; no ``mpjve_mm`` without steps.
    """

    name: str
    clip: str
    subject: str
    action: str
    camera: str
    frames: int
    steps: int
    values: Mapping[str, float]

    @property
    def mpjpe_mm(self) -> float:
        """Mean over frames, millimetres."""
        return self.values["mpjpe_mm"]

    def weight(self, metric: str) -> int:
        """How much the sequence counts in a mean over sequences."""
        return self.steps if metric == "mpjve_mm" else self.frames


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of :func:`evaluate`.

    Attributes:
        dataset, description, detector, split: of the data.
        pck_joints: ``DataSet.pck_joints``.
        protocol: how it was evaluated.
        confidence: what the model got as third input channel: "as in the data", "1 throughout",
            "dropped" or, where neither has one, "none".
        sequences: one per sequence in which a frame counts, in the order of the data.
        order: names of actions in the order of the data set, only those that occur.
        missing: actions of the data set of which there is no sequence.
        limit: most sequences evaluated; None means all.
        notes: of the data set.
    """

    dataset: str
    description: str
    detector: str
    split: str
    pck_joints: tuple[int, ...]
    protocol: Protocol
    confidence: str
    sequences: tuple[SequenceErrors, ...]
    order: tuple[str, ...]
    missing: tuple[str, ...] = ()
    limit: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Frames counted."""
        return sum(sequence.frames for sequence in self.sequences)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics with a value, in the order of :data:`UNITS`."""
        return tuple(
            name for name in UNITS if any(name in sequence.values for sequence in self.sequences)
        )

    @cached_property
    def actions(self) -> dict[str, dict[str, float]]:
        """Action to metric to the mean over its frames, in order."""
        of = {action: [t for t in self.sequences if t.action == action] for action in self.order}
        return {action: _mean(sequences) for action, sequences in of.items()}

    @cached_property
    def mean(self) -> dict[str, float]:
        """Metric to the mean over actions, each with equal weight."""
        means = {}
        for metric in self.metrics:
            values = [of[metric] for of in self.actions.values() if metric in of]
            means[metric] = sum(values) / len(values)
        return means

    @cached_property
    def weighted(self) -> dict[str, float]:
        """Metric to the mean over all frames: actions weighted by their frames."""
        return _mean(self.sequences)


def _mean(sequences: Sequence[SequenceErrors]) -> dict[str, float]:
    means = {}
    for metric in UNITS:
        measured = [sequence for sequence in sequences if metric in sequence.values]
        weight = sum(sequence.weight(metric) for sequence in measured)
        if weight:
            means[metric] = sum(s.weight(metric) * s.values[metric] for s in measured) / weight
    return means
