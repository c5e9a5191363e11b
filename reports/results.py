"""Records summarised per case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median

from bench.records.case import Case
from bench.records.record import Record
from bench.timing.statistics import Estimate, median_interval, outliers, paired, rounds_ratio


@dataclass
class Results:
    """Summary of one case; a metric without an entry in ``values`` may have a reason instead.

    Attributes:
        values: metric to its value, unrounded: the one count, the mean over windows, or the
            median over rounds, of which each counts by its median.
        estimates: sampled metric (latency, speeds) to its value and 95% interval.
        reasons: metric to why it has no value.
        by_label: metric to label to value, for breakdowns.
        rounds: number of timed rounds.
        samples: number of timed passes in them.
        outliers: number of passes that are far off; they count like the others.
        speed: baseline latency / latency with its interval, over the rounds that one session
            timed both in; of a baseline exactly 1.
        host_bound: whether a GPU waited for the host in most rounds; None on a CPU.
        ended: why sampling stopped ("width", "budget", ...); "" if the records do not say.
    """

    case: Case
    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    by_label: dict[str, dict[str, float]] = field(default_factory=dict)
    estimates: dict[str, Estimate] = field(default_factory=dict)
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


PARTS = ("latency_s", "prune_s", "recover_s")
TIMED = (*PARTS, "device_s")
ENDED = "latency_rounds"
Latencies = Mapping[int, tuple[str, float]]
"""Round to session and median latency."""


def collect(records: Sequence[Record]) -> dict[Case, Results]:
    """Summarise the records of every case."""
    results: dict[Case, Results] = {}
    timed: dict[tuple[Case, str], list[Record]] = defaultdict(list)
    latencies: dict[tuple[Case, str], dict[int, tuple[str, float]]] = defaultdict(dict)
    group = _largest_group(records)
    for record in records:
        case, metric = record.case, record.metric
        result = results.setdefault(case, Results(case))
        if record.status != "ok":
            result.reasons[metric] = f"{record.status}: {record.reason}"
            continue
        if metric == "latency_s":
            by_part = latencies[case, record.group]
            by_part[record.part] = (record.session, median(record.values))
        if metric in TIMED:
            if record.group == group.get(case):
                timed[case, metric].append(record)
        elif metric == ENDED:
            if record.group == group.get(case):
                result.ended = str(record.protocol["ended"])
        elif record.labels and record.labels != ("all",):
            result.by_label[metric] = dict(zip(record.labels, record.values, strict=True))
        else:
            result.values[metric] = fmean(record.values)
    for (case, metric), rounds in timed.items():
        results[case].values[metric] = median(median(r.values) for r in rounds)
        results[case].rounds = max(results[case].rounds, len(rounds))
    for case, result in results.items():
        own = sorted(timed[case, "latency_s"], key=lambda record: record.part)
        if own:
            _speed(result, own)
            # The baseline may be in several groups; compare with the one in this case's group.
            base = latencies.get((case.baseline, group[case]), {})
            result.speed = _speedup(case, latencies[case, group[case]], base)
        _shares(result, [record for metric in PARTS for record in timed[case, metric]])
    return results


def _largest_group(records: Iterable[Record]) -> dict[Case, str]:
    """The group that each case is read from: the one with most cases, of equal ones the last."""
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
    """Latency and speeds with their intervals, from a case's rounds in order."""
    latency = median_interval([median(record.values) for record in own])
    samples = [value for record in own for value in record.values]
    result.samples, result.outliers = len(samples), int(outliers(samples).sum())
    flags = [record.protocol.get("host_bound") for record in own]
    if any(flag is not None for flag in flags):
        result.host_bound = 2 * sum(map(bool, flags)) > len(flags)
    frames = result.case.frames if result.case.pipeline == "seq2seq" else 1
    result.estimates = {
        "latency_s": latency,
        "clips_per_s": _inverse(latency, result.case.batch),
        "output_frames_per_s": _inverse(latency, frames * result.case.batch),
    }
    result.values |= {metric: one.value for metric, one in result.estimates.items()}


def _inverse(estimate: Estimate, over: float) -> Estimate:
    """``over`` divided by an estimate."""
    low, high = (None if end is None else over / end for end in (estimate.high, estimate.low))
    return replace(estimate, value=over / estimate.value, low=low, high=high)


def _speedup(case: Case, own: Latencies, base: Latencies) -> Estimate | None:
    if case == case.baseline:
        return Estimate(value=1.0, low=1.0, high=1.0, level=0.95, n=len(own))
    return rounds_ratio(*paired(own, base))


def _shares(result: Results, records: Iterable[Record]) -> None:
    """Shares of the forward pass spent on pruning and on recovering, sample by sample."""
    rounds: dict[tuple[int, str], list[tuple[float, ...]]] = defaultdict(list)
    for record in records:
        rounds[record.part, record.session].append(record.values)
    # A crash may have left a round without its sections.
    complete = [series for series in rounds.values() if len(series) == len(PARTS)]
    samples = [sample for series in complete for sample in zip(*series, strict=True)]
    if samples:
        result.values["prune_share"] = median(p / total for total, p, _ in samples)
        result.values["recover_share"] = median(r / total for total, _, r in samples)
        result.values["prune_recover_ratio"] = median((p + r) / total for total, p, r in samples)
