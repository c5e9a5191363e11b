"""What was measured: raw values with everything needed to judge them. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from bench.records.case import Case

SCHEMA = 2
"""Version of a record's fields.

1: first version.
2: status "timeout"; metrics "device_s" and "latency_rounds"; the protocol of latency holds the
   state of the machine before and after.
"""

STATUSES = ("ok", "skipped", "oom", "timeout", "failed")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One metric of one case, unrounded.

    Attributes:
        case: what was measured.
        metric: a name of ``bench.metrics``.
        unit: unit of the values: "1", "flop", "s", "B", "px", "mm", "%".
        values: all raw values, in the order of measuring; empty unless status is "ok".
        labels: the name of each value, where it has one.
        group: names the cases that were timed together, interleaved; for accuracy a tag of weights,
            data and protocol, so that a case can be evaluated in several ways; "" for others.
        part: the round of an interleaved measurement, from 0.
        session: the process that measured; only rounds of one session are compared pairwise.
        protocol: how it was measured (counter, warm-up, ...).
        environment: where it was measured; see ``bench.records.environment``.
        status: "ok", "skipped", "oom", "timeout" or "failed"; all but the first with a reason.
        schema: version of the fields, as written.
    """

    case: Case
    metric: str
    unit: str
    values: tuple[float, ...]
    labels: tuple[str, ...] = ()
    group: str = ""
    part: int = 0
    session: str = ""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    status: str = "ok"
    reason: str = ""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status must be one of {STATUSES}, got {self.status!r}")
        if (self.status == "ok") != (not self.reason):
            raise ValueError("a record that is not ok carries a reason, and only such a record")
        if (self.status == "ok") != bool(self.values):
            raise ValueError("a record that is ok carries values, and only such a record")
        if self.labels and len(self.labels) != len(self.values):
            raise ValueError(f"{len(self.values)} values but {len(self.labels)} labels")

    @property
    def identity(self) -> tuple[Case, str, str, int]:
        """Equal for two records of the same measurement."""
        return (self.case, self.metric, self.group, self.part)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a record file."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["case"] = self.case.to_json()
        data["protocol"], data["environment"] = dict(self.protocol), dict(self.environment)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read back what :meth:`to_json` wrote.

        Raises:
            ValueError: if it is no record, or one of a newer schema.
        """
        if not isinstance(data, Mapping) or "schema" not in data or "case" not in data:
            raise ValueError("not a record: it has no schema and case")
        if data["schema"] > SCHEMA:
            raise ValueError(
                f"written with schema {data['schema']}, this version reads up to {SCHEMA}"
            )
        names = {f.name for f in fields(cls)}
        if set(data) != names:
            raise ValueError(f"record fields differ: {sorted(set(data) ^ names)}")
        values = dict(data)
        values["case"] = Case.from_json(data["case"])
        values["values"], values["labels"] = tuple(data["values"]), tuple(data["labels"])
        return cls(**values)
