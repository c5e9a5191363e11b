"""From records to lower bounds: the measured time of a row over the least time that its work needs.

Standard library only. Rates and bytes are measured in ``bench.scenarios.roofline``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.records.case import Case
from bench.records.record import Record

FLOPS = "machine_flops_per_s"
BANDWIDTH = "machine_bytes_per_s"
MOVED = "bytes_moved"
METRICS = (FLOPS, BANDWIDTH, MOVED)
MACHINE = "machine"
"""The host of a machine's case."""


def machine_case(case: Case) -> Case:
    """The case of the machine itself, in the setting of a case."""
    return Case(
        host=MACHINE, frames=0, device=case.device, dtype=case.dtype, threads=case.threads,
        motion="none",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A timed row beside its lower bound.

    Attributes:
        case: what was timed.
        measured_s: median latency.
        flops: of a batch, by flops_full; None where the store has no count.
        moved_bytes: of a batch.
        compute_s, memory_s: least times of arithmetic and of moving data, at the machine's rates.
    """

    case: Case
    measured_s: float
    flops: float | None
    moved_bytes: float | None
    compute_s: float | None
    memory_s: float | None

    @property
    def bound_s(self) -> float | None:
        """The larger of the two times; None unless both are known."""
        if self.compute_s is None or self.memory_s is None:
            return None
        return max(self.compute_s, self.memory_s)

    @property
    def ruled_by(self) -> str:
        """Which time is larger: "arithmetic" or "memory"; "" unless both are known."""
        if self.compute_s is None or self.memory_s is None:
            return ""
        return "arithmetic" if self.compute_s >= self.memory_s else "memory"

    @property
    def times(self) -> float | None:
        """Measured time over the bound."""
        return None if self.bound_s is None else self.measured_s / self.bound_s


def limits(records: Sequence[Record]) -> list[Limit]:
    """Every timed case beside its bound, in the order of the records."""
    good = [r for r in records if r.status == "ok"]
    rates = {(r.case, r.metric): max(r.values) for r in good if r.metric in (FLOPS, BANDWIDTH)}
    moved = {r.case: sum(r.values) for r in good if r.metric == MOVED}
    flops = {r.case: r.values[0] * r.case.batch for r in good if r.metric == "flops_full"}
    timed: dict[Case, list[float]] = {}
    for r in good:
        if r.metric == "latency_s":
            timed.setdefault(r.case, []).extend(r.values)

    def least_s(work: float | None, case: Case, metric: str) -> float | None:
        rate = rates.get((machine_case(case), metric))
        return None if work is None or rate is None else work / rate

    return [
        Limit(
            case=case, measured_s=median(values), flops=flops.get(case),
            moved_bytes=moved.get(case), compute_s=least_s(flops.get(case), case, FLOPS),
            memory_s=least_s(moved.get(case), case, BANDWIDTH),
        )
        for case, values in timed.items()
    ]  # fmt: skip


def rates(records: Sequence[Record]) -> list[tuple[Case, str, float]]:
    """Machine's case, metric and best rate of each that was measured."""
    return [
        (r.case, r.metric, max(r.values))
        for r in records
        if r.metric in (FLOPS, BANDWIDTH) and r.status == "ok"
    ]
