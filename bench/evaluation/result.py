"""What an evaluation found: errors per take, per action and over all."""

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
class TakeErrors:
    """Errors of one take.

    Attributes:
        name, clip, subject, action, camera: of the take.
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
        """How much the take counts in a mean over takes."""
        return self.steps if metric == "mpjve_mm" else self.frames


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        dataset, description, detector, split: of the data.
        data_protocol: ``DataSet.protocol``.
        protocol: how it was evaluated.
        confidence: what the model got as third input channel: "as in the data", "1 throughout",
            "dropped" or, where neither has one, "none".
        takes: one per take in which a frame counts, in the order of the data.
        order: names of actions in the order of the data set, only those that occur.
        missing: actions of the data set of which there is no take.
        limit: as given.
        notes: what is to be told of the data.
    """

    dataset: str
    description: str
    detector: str
    split: str
    data_protocol: str
    protocol: Protocol
    confidence: str
    takes: tuple[TakeErrors, ...]
    order: tuple[str, ...]
    missing: tuple[str, ...] = ()
    limit: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Frames counted."""
        return sum(take.frames for take in self.takes)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that have a value, in the order of :data:`UNITS`."""
        return tuple(name for name in UNITS if any(name in take.values for take in self.takes))

    @cached_property
    def actions(self) -> dict[str, dict[str, float]]:
        """Action to metric to the mean over its frames, in order."""
        of = {action: [t for t in self.takes if t.action == action] for action in self.order}
        return {action: _mean(takes) for action, takes in of.items()}

    @cached_property
    def mean(self) -> dict[str, float]:
        """Metric to the mean over actions, each with equal weight."""
        found = {}
        for metric in self.metrics:
            values = [of[metric] for of in self.actions.values() if metric in of]
            found[metric] = sum(values) / len(values)
        return found

    @cached_property
    def weighted(self) -> dict[str, float]:
        """Metric to the mean over all frames: actions weighted by their frames."""
        return _mean(self.takes)


def _mean(takes: Sequence[TakeErrors]) -> dict[str, float]:
    found = {}
    for metric in UNITS:
        having = [take for take in takes if metric in take.values]
        weight = sum(take.weight(metric) for take in having)
        if weight:
            found[metric] = sum(t.weight(metric) * t.values[metric] for t in having) / weight
    return found
