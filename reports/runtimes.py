"""Every configuration in every runtime: speed, and drift of the joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pandas as pd

from bench.records.case import Case
from bench.records.record import Record
from bench.records.units import rounded
from bench.timing.statistics import Estimate, rounds_ratio
from reports.intervals import from_to
from reports.markdown import with_csv

LATENCY = "runtime_latency_s"
DRIFT = "runtime_drift_mm"
ERROR = "runtime_mpjpe_mm"
METRICS = (LATENCY, DRIFT, ERROR)
FLOPS = "flops_full"
_REFERENCE = "eager"
_TEXT = """The runtimes run every configuration in turn, on the same windows. The speed-up is over \
PyTorch without compiling: the median of the ratios within a round, with its 95% interval from six \
rounds on. Drift is the distance of a joint from its position in PyTorch in float32, over all \
joints and frames of the windows. Random weights give poses without a size, which are scaled to \
the spread of real ones; pruning that depends on features may then keep other frames, which the \
drift includes. With trained weights, the table has the MPJPE of the same windows, relative to the \
root. The gain of pruning is the ratio of baseline and configuration in the same runtime and \
round; the implied gain is that of their `flops_full`."""


@dataclass
class RuntimeResult:
    """One configuration in one runtime.

    Attributes:
        rounds: (round, session) to its median latency, seconds.
        drift_mm: mean and maximum; None where it did not run.
        error_mm: MPJPE; None without trained weights.
        reason: why it did not run.
    """

    rounds: dict[tuple[int, str], float] = field(default_factory=dict)
    drift_mm: tuple[float, float] | None = None
    error_mm: float | None = None
    reason: str = ""


def collect(records: Sequence[Record]) -> list[dict[Case, dict[str, RuntimeResult]]]:
    """Groups of cases that were timed in turn, each case with its runtimes.

    A group is left out if its cases are all in a later one, which may be of other runtimes.
    """
    by_tag: dict[str, dict[Case, dict[str, RuntimeResult]]] = {}
    for record in records:
        if record.metric not in METRICS:
            continue
        name, _, tag = record.group.partition("@")
        by_tag[tag] = by_tag.pop(tag, {})  # in the order of the latest records
        one = by_tag[tag].setdefault(record.case, {}).setdefault(name, RuntimeResult())
        if record.status != "ok":
            one.reason = f"{record.status}: {record.reason}"
        elif record.metric == LATENCY:
            one.rounds[record.part, record.session] = median(record.values)
        elif record.metric == ERROR:
            (one.error_mm,) = record.values
        else:
            drift = dict(zip(record.labels, record.values, strict=True))
            one.drift_mm = (drift["mean"], drift["max"])
    groups = list(by_tag.values())
    return [
        group
        for i, group in enumerate(groups)
        if not any(group.keys() <= later.keys() for later in groups[i + 1 :])
    ]


def speed_up(own: RuntimeResult, reference: RuntimeResult) -> Estimate | None:
    """Over the reference, from the rounds of one session in which both were timed."""
    both = own.rounds.keys() & reference.rounds.keys()
    return rounds_ratio(
        {part: own.rounds[part, session] for part, session in both},
        {part: reference.rounds[part, session] for part, session in both},
    )


def section(records: Sequence[Record], folder: Path) -> list[str]:
    """The section's parts in markdown, and its CSV in a folder; nothing without such records.

    Args:
        records: all records.
        folder: where ``runtimes.csv`` is written.
    """
    groups = collect(records)
    if not groups:
        return []
    flops = {r.case: r.values[0] for r in records if r.metric == FLOPS and r.values}
    table = pd.DataFrame(
        {
            **_line(case, name, one, by_name),
            **_gained(case, name, group, flops),
            "reason": one.reason,
        }
        for group in groups
        for case, by_name in group.items()
        for name, one in by_name.items()
    )
    return ["## Runtimes", _TEXT, *with_csv(table, folder, "runtimes.csv")]


def _line(
    case: Case, name: str, one: RuntimeResult, by_name: Mapping[str, RuntimeResult]
) -> dict[str, str]:
    reference = by_name.get(_REFERENCE, RuntimeResult())
    ratio = speed_up(one, reference) if name != _REFERENCE else None
    mean, worst = one.drift_mm or (None, None)
    changed = None
    if one.error_mm is not None and reference.error_mm is not None:
        changed = one.error_mm - reference.error_mm
    return {
        "configuration": case.label,
        "device": case.device,
        "batch": str(case.batch),
        "runtime": name,
        "median (ms)": rounded(1e3 * median(one.rounds.values()), 2) if one.rounds else "",
        "speed-up over eager": from_to(ratio),
        "mean drift (mm)": "" if mean is None else f"{mean:.2g}",
        "largest drift (mm)": "" if worst is None else f"{worst:.2g}",
        "MPJPE (mm)": "" if one.error_mm is None else rounded(one.error_mm, 2),
        "change of MPJPE (mm)": "" if changed is None else f"{changed:+.3f}",
    }


def _gained(
    case: Case,
    name: str,
    group: Mapping[Case, Mapping[str, RuntimeResult]],
    flops: Mapping[Case, float],
) -> dict[str, str]:
    """The gain of pruning in the same runtime, and the gain that its FLOPs imply."""
    base, own = group.get(case.baseline, {}).get(name), group[case][name]
    ratio = None
    if base is not None and case != case.baseline:
        ratio = speed_up(own, base)
    implied = None
    if ratio is not None and case in flops and case.baseline in flops:
        implied = flops[case.baseline] / flops[case]
    return {
        "speed-up over no pruning": from_to(ratio),
        "implied by FLOPs": "" if implied is None else rounded(implied, 2),
        "share of implied": (
            "" if implied is None or ratio is None else f"{ratio.value / implied:.1%}"
        ),
    }
