"""Verdicts per case and metric on the records of base and head. Reads no clock, runs no model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from statistics import median

from bench.records.case import Case
from bench.records.record import Record
from bench.timing.statistics import Estimate, hierarchical_ratio

EXACT = (
    "param_count",
    "flops_paper",
    "flops_full",
    "operator_calls",
    "training_peak_estimated_bytes",
)
"""Metrics compared as whole numbers; fewer is better."""

SAMPLED = "latency_s"
"""The metric that is sampled; less is better."""


class Verdict(StrEnum):
    """The verdict on one case and metric."""

    UNCHANGED = "unchanged"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    ALLOWED = "allowed"
    INCONCLUSIVE = "inconclusive"
    NEW = "new"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Every constant of the gate; ``calibrate-gate`` measures what they lead to.

    Attributes:
        suite_alarm: chance that any interval of a suite lies wholly above its true ratio. It is
            divided by the number of cases (Bonferroni), which holds however cases depend on each
            other. It is twice the rate of false alarms aimed at, since an alarm must clear the band
            as well: in simulations that leaves under 1% even at a spread of 4% between processes,
            and half of it would miss one in ten slowdowns of 5% in a single case.
        band: a change this small is none. Two builds of the same code differ by some tenths of a
            percent (page placement, length of paths), and no number of processes averages that
            out.
        resolution: a slowdown that "unchanged" excludes. Where the interval reaches further, the
            verdict is inconclusive: the measurement could not have seen what it is there to see.
        processes: per side, below which there is no verdict: with three, Student's t at the level
            of a suite of four cases is 10, and no slowdown of interest could be shown.
        resamples: bootstrap replicates; 1000 give the standard error to 2%.
    """

    suite_alarm: float = 0.02
    band: float = 0.01
    resolution: float = 0.05
    processes: int = 4
    resamples: int = 1000

    def level(self, cases: int) -> float:
        """Two-sided level of one case's interval in a suite of ``cases``."""
        return 1 - 2 * self.suite_alarm / max(cases, 1)


@dataclass(frozen=True)
class Allowance:
    """An intended increase.

    Attributes:
        case: label of the case, or a pattern with ``*``.
        metric: one of EXACT, or "latency_s"; "operator_calls:NAME" for one operator.
        upto: the largest value that passes; for latency_s the largest ratio.
        reason: why it is intended.
    """

    case: str
    metric: str
    upto: float
    reason: str

    def covers(self, case: Case, metric: str, value: float) -> bool:
        """Whether a value is no more than was intended."""
        named = metric == self.metric or metric.partition(":")[0] == self.metric
        return named and fnmatchcase(case.label, self.case) and value <= self.upto


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One case and metric.

    Attributes:
        metric: as in the records; for an operator whose calls changed "operator_calls:NAME".
        base, head: the exact numbers, or the median of all samples; None where there is none.
        ratio: head over base with its interval; None for exact metrics.
        reason: of the verdict, where the numbers do not show it.
    """

    case: Case
    metric: str
    verdict: Verdict
    base: float | None = None
    head: float | None = None
    ratio: Estimate | None = None
    reason: str = ""


def judge(
    base: Iterable[Record],
    head: Iterable[Record],
    rules: Rules | None = None,
    allowances: Sequence[Allowance] = (),
) -> list[Finding]:
    """Compare two sets of records; nothing else is looked at.

    Args:
        base, head: records of any metrics; those of other metrics than EXACT and SAMPLED are
            passed over.
        rules: constants; the calibrated ones by default.
        allowances: intended increases.

    Returns:
        Sampled findings first, then exact ones, each in the order of head's records.
    """
    rules = rules or Rules()
    before, after = _by_metric(base), _by_metric(head)
    sampled = [key for key in after if key[1] == SAMPLED]
    common = sum(_ok(before.get(key)) and _ok(after[key]) for key in sampled)
    findings = []
    for key, records in after.items():
        known = before.get(key, [])
        if key[1] == SAMPLED:
            findings.append(_absent(key, known, records) or _sampled(known, records, rules, common))
        else:
            absent = _absent(key, known, records)
            findings += [absent] if absent else _exact(known[-1], records[-1])
    for (case, metric), records in before.items():
        if (case, metric) not in after and _ok(records):
            findings.append(
                Finding(
                    case=case, metric=metric, verdict=Verdict.GONE,
                    reason="measured at the base alone",
                )
            )  # fmt: skip
    findings.sort(key=lambda finding: finding.metric != SAMPLED)  # stable: order is kept otherwise
    return [_allowed(finding, allowances) for finding in findings]


def exit_status(findings: Sequence[Finding]) -> int:
    """0 unchanged or improved, 1 regressed, 3 inconclusive, 4 nothing could be compared."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.REGRESSED in verdicts:
        return 1
    if not verdicts - {Verdict.NEW, Verdict.GONE}:
        return 4
    return 3 if verdicts & {Verdict.INCONCLUSIVE, Verdict.GONE} else 0


Key = tuple[Case, str]


def _by_metric(records: Iterable[Record]) -> dict[Key, list[Record]]:
    found: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        if record.metric == SAMPLED or record.metric in EXACT:
            found[record.case, record.metric].append(record)
    return dict(found)


def _ok(records: Sequence[Record] | None) -> bool:
    return bool(records) and any(r.status == "ok" for r in records or ())


def _absent(key: Key, base: Sequence[Record], head: Sequence[Record]) -> Finding | None:
    """A finding where a side has no values; None if both have."""
    case, metric = key
    failed = next((r for r in head if r.status != "ok"), None)
    if _ok(base) and _ok(head) and failed is None:
        return None
    if not base:
        verdict, reason = Verdict.NEW, "not measured at the base"
    elif not _ok(base) and _ok(head):
        verdict, reason = Verdict.NEW, f"the base cannot: {base[0].reason}"
    elif not _ok(base):
        verdict, reason = Verdict.INCONCLUSIVE, f"neither side can: {head[0].reason}"
    else:  # even one process that fails where the base's did not is a change
        verdict, reason = Verdict.REGRESSED, f"{failed.status}: {failed.reason}" if failed else ""
    return Finding(case=case, metric=metric, verdict=verdict, reason=reason)


# --- exact -------------------------------------------------------------------------------------


def _exact(base: Record, head: Record) -> list[Finding]:
    """One finding, or one per label whose number changed."""
    before, after = _labelled(base), _labelled(head)
    if before == after:
        total = sum(after.values())
        return [
            Finding(
                case=head.case, metric=head.metric, verdict=Verdict.UNCHANGED, base=total,
                head=total,
            )
        ]  # fmt: skip
    findings = []
    for label in sorted(before.keys() | after.keys()):
        was, now = before.get(label, 0), after.get(label, 0)
        if was != now:
            findings.append(
                Finding(
                    case=head.case,
                    metric=":".join(filter(None, (head.metric, label))),
                    verdict=Verdict.REGRESSED if now > was else Verdict.IMPROVED,
                    base=was,
                    head=now,
                )
            )
    return findings


def _labelled(record: Record) -> Mapping[str, float]:
    if record.labels in ((), ("all",)):
        return {"": record.values[0]}
    return dict(zip(record.labels, record.values, strict=True))


def _allowed(finding: Finding, allowances: Sequence[Allowance]) -> Finding:
    """Turn a regression that is intended into one that is allowed."""
    if finding.verdict is not Verdict.REGRESSED or finding.head is None:
        return finding
    # Of a ratio only what is sure to be there counts, or noise would fail what is allowed.
    value = finding.head if finding.ratio is None else finding.ratio.low
    for entry in allowances:
        if value is not None and entry.covers(finding.case, finding.metric, value):
            return replace(finding, verdict=Verdict.ALLOWED, reason=entry.reason)
    return finding


# --- sampled -----------------------------------------------------------------------------------


def _sampled(base: Sequence[Record], head: Sequence[Record], rules: Rules, cases: int) -> Finding:
    series, paired = _processes(base, head)
    ratio = hierarchical_ratio(
        series[0], series[1], level=rules.level(cases), paired=paired, resamples=rules.resamples
    )
    verdict, reason = decide(ratio, rules)
    medians = [
        median(v for r in side if r.status == "ok" for v in r.values) for side in (base, head)
    ]
    return Finding(
        case=head[0].case,
        metric=SAMPLED,
        verdict=verdict,
        base=medians[0],
        head=medians[1],
        ratio=ratio,
        reason=reason,
    )


def decide(ratio: Estimate, rules: Rules) -> tuple[Verdict, str]:
    """The verdict on a ratio of latencies, and what it rests on."""
    if ratio.low is None or ratio.high is None or ratio.n < rules.processes:
        return (
            Verdict.INCONCLUSIVE,
            f"{ratio.n} processes per side, at least {rules.processes} needed",
        )
    if ratio.low > 1 + rules.band:
        return Verdict.REGRESSED, ""
    if ratio.high < 1 / (1 + rules.band):
        return Verdict.IMPROVED, ""
    if ratio.low > 1 and ratio.high > 1 + rules.band:
        return Verdict.INCONCLUSIVE, f"slower, but perhaps by less than {rules.band:.0%}"
    if ratio.high > 1 + rules.resolution:
        return Verdict.INCONCLUSIVE, f"a slowdown of {rules.resolution:.0%} is not excluded"
    return Verdict.UNCHANGED, ""


def _processes(
    base: Sequence[Record], head: Sequence[Record]
) -> tuple[tuple[list[list[float]], list[list[float]]], bool]:
    """Samples per process of both sides, and whether process i of one belongs to i of the other."""
    sides = [
        {r.protocol["pair"]: r for r in side if r.status == "ok" and "pair" in r.protocol}
        for side in (base, head)
    ]
    pairs = sorted(sides[0].keys() & sides[1].keys())
    # Pair 3 of another run was not measured together with pair 3 of this one.
    together = {(sides[0][p].protocol.get("run"), sides[1][p].protocol.get("run")) for p in pairs}
    if pairs and all(a == b for a, b in together):
        return ([_turns(sides[0][p]) for p in pairs], [_turns(sides[1][p]) for p in pairs]), True
    return (_sessions(base), _sessions(head)), False


def _turns(record: Record) -> list[float]:
    """One value per turn: the median of its forward passes."""
    size = max(int(record.protocol.get("per_turn", 1)), 1)
    values = record.values
    return [median(values[i : i + size]) for i in range(0, len(values), size)]


def _sessions(records: Sequence[Record]) -> list[list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.status == "ok":
            found[record.session] += _turns(record)
    return list(found.values())
