"""The outcome of the regression gate as markdown, for a comment on a pull request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.gate.compare import Outcome
from bench.gate.verdicts import SAMPLED, Finding, Verdict
from bench.records.units import rounded
from reports.markdown import pipe_table

MARKER = "<!-- h2ot regression gate -->"
"""First line of the comment, by which a later run finds and replaces it."""

_TITLES = {
    0: "no regression",
    1: "**regressed**",
    3: "**inconclusive**",
}
_ORDER = list(Verdict)
_MAX_CHANGES = 40  # exact changes that a comment lists


def markdown(outcome: Outcome) -> str:
    """The comment."""
    lines = [MARKER, f"## Regression gate: {_TITLES[outcome.status]}", ""]
    lines.append(f"base `{outcome.base}`, head `{outcome.head}`; {_counts(outcome.findings)}")
    lines += [f"\n> {note}" for note in outcome.notes]
    sampled = [f for f in outcome.findings if f.metric == SAMPLED]
    exact = [f for f in outcome.findings if f.metric != SAMPLED]
    if sampled:
        lines += ["", "### Latency", "", _latency(sampled), "", _explanation(outcome)]
    if exact:
        lines += ["", "### Exact", "", *_exact(exact)]
    facts = outcome.environment
    where = ", ".join(str(facts[name]) for name in ("cpu", "gpu") if facts.get(name))
    versions = ", ".join(f"{name} {facts[name]}" for name in ("python", "torch") if name in facts)
    lines += ["", f"<sub>{'; '.join(filter(None, (where, versions)))}</sub>", ""]
    return "\n".join(lines)


def refusal(reason: str) -> str:
    """The comment for a run that compared nothing."""
    return f"{MARKER}\n## Regression gate: **not compared**\n\n{reason}\n"


def _counts(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.verdict for finding in findings)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in _ORDER if counts[verdict])


def _latency(findings: Sequence[Finding]) -> str:
    rows = []
    for finding in findings:
        ratio = finding.ratio
        low, high = (None, None) if ratio is None else (ratio.low, ratio.high)
        rows.append(
            (
                finding.case.label,
                _number(finding.base, 1, 1e3),
                _number(finding.head, 1, 1e3),
                _number(None if ratio is None else ratio.value, 3),
                "–" if low is None else f"{_number(low, 3)} to {_number(high, 3)}",
                _verdict(finding),
            )
        )
    headings = ("case", "base (ms)", "head (ms)", "head / base", "interval", "verdict")
    return pipe_table(headings, rows)


def _number(value: float | None, digits: int, scale: float = 1) -> str:
    return "–" if value is None else rounded(scale * value, digits)


def _explanation(outcome: Outcome) -> str:
    rules = outcome.rules
    known = next((f.ratio for f in outcome.findings if f.ratio is not None), None)
    level = "" if known is None else f" of {rounded(100 * known.level, 2)}%"
    return (
        f"Intervals{level}, so that those of a suite hold jointly; regressed: the interval is "
        f"wholly above {rounded(1 + rules.band, 2)}; unchanged: a slowdown of "
        f"{rules.resolution:.0%} is excluded."
    )


def _exact(findings: Sequence[Finding]) -> list[str]:
    changed = [f for f in findings if f.verdict is not Verdict.UNCHANGED]
    same = len(findings) - len(changed)
    lines = []
    if changed:
        changed.sort(key=lambda finding: finding.verdict is not Verdict.REGRESSED)
        rows = (
            (
                finding.case.label,
                finding.metric,
                _number(finding.base, 0),
                _number(finding.head, 0),
                _verdict(finding),
            )
            for finding in changed[:_MAX_CHANGES]
        )
        lines.append(pipe_table(("case", "metric", "base", "head", "verdict"), rows))
        if len(changed) > _MAX_CHANGES:
            lines += ["", f"and {len(changed) - _MAX_CHANGES} more changes"]
        lines.append("")
    lines.append(f"{same} exact numbers of {len({f.case for f in findings})} cases are unchanged.")
    return lines


def _verdict(finding: Finding) -> str:
    text = str(finding.verdict)
    if finding.verdict is Verdict.REGRESSED:
        text = f"**{text}**"
    reason = finding.reason.replace("|", "\\|")
    return f"{text}: {reason}" if reason else text
