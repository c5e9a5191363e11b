"""Records to one table of results per case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

import pandas as pd

from bench.case import Case
from bench.record import Record


@dataclass
class Results:
    """What is known of one case; a metric that is missing from ``values`` has a reason instead.

    Attributes:
        values: metric to its value, unrounded: the one count, the mean over windows, or the
            median over rounds.
        reasons: metric to why it has no value.
        by_label: metric to label to value, for breakdowns.
        rounds: how many rounds were timed.
        speedup: median over rounds of baseline latency / latency, each pair from one session.
        pairs: how many such rounds there are.
    """

    case: Case
    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    by_label: dict[str, dict[str, float]] = field(default_factory=dict)
    rounds: int = 0
    speedup: float | None = None
    pairs: int = 0


_TIMED = ("latency_s", "prune_s", "recover_s")


def collect(records: Sequence[Record]) -> dict[Case, Results]:
    """Sum up the records of every case."""
    found: dict[Case, Results] = {}
    timed: dict[tuple[Case, str], list[Record]] = defaultdict(list)
    group = _largest_group(records)
    for record in records:
        result = found.setdefault(record.case, Results(record.case))
        if record.status != "ok":
            result.reasons[record.metric] = f"{record.status}: {record.reason}"
        elif record.metric in _TIMED:
            if record.group == group.get(record.case):
                timed[record.case, record.metric].append(record)
        elif record.labels and record.labels != ("all",):
            pairs = zip(record.labels, record.values, strict=True)
            result.by_label[record.metric] = dict(pairs)
        else:
            result.values[record.metric] = fmean(record.values)
    for (case, metric), rounds in timed.items():
        found[case].values[metric] = median(v for r in rounds for v in r.values)
        found[case].rounds = len(rounds)
    visits = {r.identity: r for r in records if r.metric == "latency_s" and r.status == "ok"}
    for case, result in found.items():
        _speed(result, timed[case, "latency_s"], visits)
        _ratio(result, timed, case)
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


def _speed(
    result: Results, own: Sequence[Record], visits: Mapping[tuple[Case, str, str, int], Record]
) -> None:
    if not own:
        return
    latency = result.values["latency_s"]
    result.values["clips_per_s"] = result.case.batch / latency
    frames = result.case.frames if result.case.pipeline == "seq2seq" else 1
    result.values["output_frames_per_s"] = frames * result.case.batch / latency
    ratios = []
    for record in own:
        # The baseline may stand in several groups; the one to compare with is in this record's.
        base = visits.get((result.case.baseline, *record.identity[1:]))
        if base is not None and base.session == record.session:
            ratios.append(median(base.values) / median(record.values))
    if ratios:
        result.speedup, result.pairs = median(ratios), len(ratios)


def _ratio(result: Results, timed: dict[tuple[Case, str], list[Record]], case: Case) -> None:
    """Share of the forward pass that pruning and recovering take, sample by sample."""
    visits: dict[tuple[int, str], list[tuple[float, ...]]] = defaultdict(list)
    for metric in _TIMED:
        for record in timed.get((case, metric), ()):
            visits[record.part, record.session].append(record.values)
    # A crash may have left a visit without its sections.
    whole = [series for series in visits.values() if len(series) == len(_TIMED)]
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
                **result.values,
            }
        )
    return pd.DataFrame(lines)
