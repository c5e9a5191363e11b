"""What a metric is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.models.context import Context
from bench.records.case import Case
from bench.records.status import NotApplicable, excuse

__all__ = ["Context", "Metric", "NotApplicable", "Reading", "excuse"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One measured quantity of a case, before it becomes a record."""

    metric: str
    unit: str
    values: tuple[float, ...]
    labels: tuple[str, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A metric of one case at a time.

    Attributes:
        title: what is measured, for progress lines.
        readings: names of its readings.
        measure: measures a case; raises :class:`NotApplicable` for a skipped record,
            ``torch.OutOfMemoryError`` or ``MemoryError`` for an oom record, ``TimeoutError`` for a
            timeout record, ``Failure`` for one of its own status, anything else for a failed one.
        of: the field of :class:`bench.scenarios.tables.Plan` that lists its cases.
        at_once: how many cases may be measured at the same time; more than one for a metric that
            works in processes of its own and reads no clock.
    """

    title: str
    readings: tuple[str, ...]
    measure: Callable[[Case, Context], list[Reading]]
    of: Literal["exact", "timed", "trainable", "training"] = "exact"
    at_once: int = 1
