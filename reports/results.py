"""Records to one table of results per case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median

import pandas as pd

from bench.records.case import Case
from bench.records.record import Record
from bench.timing.statistics import Estimate, median_interval, outliers, paired, rounds_ratio


@dataclass
class Results:
    """What is known of one case; a metric that is missing from ``values`` has a reason instead.

    Attributes:
        values: metric to its value, unrounded: the one count, the mean over windows, or the
            median over rounds, of which each counts by its median.
        known: metric to its value and 95% interval, of what was sampled: latency and speeds.
        reasons: metric to why it has no value.
        by_label: metric to label to value, for breakdowns.
        rounds: how many rounds were timed.
        samples: how many passes were timed in them.
        outliers: how many of these are far off; they count like the others.
        speed: baseline latency / latency with its interval, from rounds of one session each,
            forwards and backwards by turns; of a baseline exactly 1.
        host_bound: whether a GPU waited for the host in most rounds; None on a CPU.
        ended: why no more was sampled ("width", "budget", ...); "" if it was not said.
    """

    case: Case
    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    by_label: dict[str, dict[str, float]] = field(default_factory=dict)
    known: dict[str, Estimate] = field(default_factory=dict)
    rounds: int = 0
    samples: int = 0
    outliers: int = 0
    speed: Estimate | None = None
    host_bound: bool | None = None
    ended: str = ""

    @property
    def speedup(self) -> float | None:
        """The value of ``speed``."""
        return self.speed.value if self.speed is not None else None

    @property
    def pairs(self) -> int:
        """How many rounds ``speed`` rests on."""
        return self.speed.n if self.speed is not None else 0


_PARTS = ("latency_s", "prune_s", "recover_s")
_TIMED = (*_PARTS, "device_s")
_ENDED = "latency_rounds"


def collect(records: Sequence[Record]) -> dict[Case, Results]:
    """Sum up the records of every case."""
    found: dict[Case, Results] = {}
    timed: dict[tuple[Case, str], list[Record]] = defaultdict(list)
    group = _largest_group(records)
    for record in records:
        result = found.setdefault(record.case, Results(record.case))
        if record.status != "ok":
            result.reasons[record.metric] = f"{record.status}: {record.reason}"
        elif record.metric == _ENDED:
            if record.group == group.get(record.case):
                result.ended = str(record.protocol["ended"])
        elif record.metric in _TIMED:
            if record.group == group.get(record.case):
                timed[record.case, record.metric].append(record)
        elif record.labels and record.labels != ("all",):
            pairs = zip(record.labels, record.values, strict=True)
            result.by_label[record.metric] = dict(pairs)
        else:
            result.values[record.metric] = fmean(record.values)
    for (case, metric), rounds in timed.items():
        found[case].values[metric] = median(median(r.values) for r in rounds)
        found[case].rounds = max(found[case].rounds, len(rounds))
    visits = _visits(records)
    for case, result in found.items():
        own = sorted(timed[case, "latency_s"], key=lambda record: record.part)
        if own:
            _speed(result, own)
            _speedup(result, own[0].group, visits)
        _ratio(result, timed, case)
    return found


Visits = Mapping[tuple[Case, str], Mapping[int, tuple[str, float]]]


def _visits(records: Iterable[Record]) -> Visits:
    """Case and group to round to session and median latency."""
    found: dict[tuple[Case, str], dict[int, tuple[str, float]]] = defaultdict(dict)
    for record in records:
        if record.metric == "latency_s" and record.status == "ok":
            visit = (record.session, median(record.values))
            found[record.case, record.group][record.part] = visit
    return found


def _largest_group(records: Iterable[Record]) -> dict[Case, str]:
    """The set of cases timed together that each case is best read from: the largest, then last."""
    members: dict[str, set[Case]] = defaultdict(set)
    order: dict[str, int] = {}
    for i, record in enumerate(records):
        if record.metric == "latency_s" and record.status == "ok":
            members[record.group].add(record.case)
            order[record.group] = i
    chosen: dict[Case, str] = {}
    for name in sorted(members, key=lambda g: (len(members[g]), order[g])):
        chosen.update(dict.fromkeys(members[name], name))
    return chosen


def _speed(result: Results, own: Sequence[Record]) -> None:
    """Latency and speeds with their intervals, of the rounds of a case in order."""
    latency = median_interval([median(record.values) for record in own])
    samples = [value for record in own for value in record.values]
    result.samples, result.outliers = len(samples), int(outliers(samples).sum())
    flags = [record.protocol.get("host_bound") for record in own]
    if any(flag is not None for flag in flags):
        result.host_bound = 2 * sum(map(bool, flags)) > len(flags)
    frames = result.case.frames if result.case.pipeline == "seq2seq" else 1
    result.known = {
        "latency_s": latency,
        "clips_per_s": _inverse(latency, result.case.batch),
        "output_frames_per_s": _inverse(latency, frames * result.case.batch),
    }
    result.values |= {metric: known.value for metric, known in result.known.items()}


def _inverse(known: Estimate, over: float) -> Estimate:
    """``over`` divided by an estimate."""
    low, high = (None if end is None else over / end for end in (known.high, known.low))
    return replace(known, value=over / known.value, low=low, high=high)


def _speedup(result: Results, group: str, visits: Visits) -> None:
    # The baseline may stand in several groups; the one to compare with is in this case's.
    base = visits.get((result.case.baseline, group), {})
    taken = visits[result.case, group]
    if result.case == result.case.baseline:
        result.speed = Estimate(value=1.0, low=1.0, high=1.0, level=0.95, n=len(taken))
    else:
        result.speed = rounds_ratio(*paired(taken, base))


def _ratio(result: Results, timed: dict[tuple[Case, str], list[Record]], case: Case) -> None:
    """Share of the forward pass that pruning and recovering take, sample by sample."""
    visits: dict[tuple[int, str], list[tuple[float, ...]]] = defaultdict(list)
    for metric in _PARTS:
        for record in timed.get((case, metric), ()):
            visits[record.part, record.session].append(record.values)
    # A crash may have left a visit without its sections.
    whole = [series for series in visits.values() if len(series) == len(_PARTS)]
    samples = [sample for series in whole for sample in zip(*series, strict=True)]
    if samples:
        result.values["prune_share"] = median(p / total for total, p, _ in samples)
        result.values["recover_share"] = median(r / total for total, _, r in samples)
        result.values["prune_recover_ratio"] = median((p + r) / total for total, p, r in samples)


def frame(results: dict[Case, Results]) -> pd.DataFrame:
    """One line per case, one column per metric; what the plots draw."""
    lines = []
    for case, result in results.items():
        lines.append(
            {
                "label": case.label,
                "host": case.host,
                "frames": case.frames,
                "batch": case.batch,
                "strategy": "+".join(filter(None, (case.prune, case.recover))).upper() or "none",
                "stages": len(case.r),
                "speedup": result.speedup,
                "speedup_low": result.speed.low if result.speed is not None else None,
                "speedup_high": result.speed.high if result.speed is not None else None,
                **result.values,
            }
        )
    return pd.DataFrame(lines)
