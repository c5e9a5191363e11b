"""An outcome as markdown, fit for a comment on a pull request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.gate.compare import Outcome
from bench.gate.verdicts import SAMPLED, Finding, Verdict
from bench.records.units import rounded

MARKER = "<!-- h2ot regression gate -->"
"""Stands first, so that a later run can find its comment and replace it."""

_TITLES = {
    0: "no regression",
    1: "**regressed**",
    3: "**inconclusive**",
}
_ORDER = list(Verdict)
_SHOWN = 40  # changed exact lines; a comment has an end


def markdown(outcome: Outcome) -> str:
    """The whole comment."""
    lines = [MARKER, f"## Regression gate: {_TITLES[outcome.status]}", ""]
    lines.append(f"base `{outcome.base}`, head `{outcome.head}`; {_counts(outcome.findings)}")
    lines += [f"\n> {note}" for note in outcome.notes]
    sampled = [f for f in outcome.findings if f.metric == SAMPLED]
    exact = [f for f in outcome.findings if f.metric != SAMPLED]
    if sampled:
        lines += ["", "### Latency", "", *_latency(sampled), "", _explanation(outcome)]
    if exact:
        lines += ["", "### Exact", "", *_exact(exact)]
    facts = outcome.environment
    where = ", ".join(str(facts[name]) for name in ("cpu", "gpu") if facts.get(name))
    versions = ", ".join(f"{name} {facts[name]}" for name in ("python", "torch") if name in facts)
    lines += ["", f"<sub>{'; '.join(filter(None, (where, versions)))}</sub>", ""]
    return "\n".join(lines)


def refusal(reason: str) -> str:
    """The comment where nothing was compared."""
    return f"{MARKER}\n## Regression gate: **not compared**\n\n{reason}\n"


def _counts(findings: Sequence[Finding]) -> str:
    counts = Counter(found.verdict for found in findings)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in _ORDER if counts[verdict])


def _latency(findings: Sequence[Finding]) -> list[str]:
    lines = [
        "| case | base (ms) | head (ms) | head / base | interval | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for found in findings:
        ratio = found.ratio
        interval = "–"
        if ratio is not None and ratio.low is not None and ratio.high is not None:
            interval = f"{rounded(ratio.low, 3)} to {rounded(ratio.high, 3)}"
        cells = (
            found.case.label,
            "–" if found.base is None else rounded(1e3 * found.base, 1),
            "–" if found.head is None else rounded(1e3 * found.head, 1),
            "–" if ratio is None else rounded(ratio.value, 3),
            interval,
            _verdict(found),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _explanation(outcome: Outcome) -> str:
    rules = outcome.rules
    known = next((f.ratio for f in outcome.findings if f.ratio is not None), None)
    level = "" if known is None else f" of {rounded(100 * known.level, 2)}%"
    return (
        f"Intervals{level}, so that all of a suite hold together; regressed: the whole interval is "
        f"above {rounded(1 + rules.band, 2)}; unchanged: a slowdown of {rules.resolution:.0%} is "
        f"excluded."
    )


def _exact(findings: Sequence[Finding]) -> list[str]:
    changed = [f for f in findings if f.verdict is not Verdict.UNCHANGED]
    same = len(findings) - len(changed)
    lines = []
    if changed:
        lines += ["| case | metric | base | head | verdict |", "|---|---|---|---|---|"]
        changed.sort(key=lambda found: found.verdict is not Verdict.REGRESSED)
        for found in changed[:_SHOWN]:
            numbers = ["–" if n is None else f"{n:.0f}" for n in (found.base, found.head)]
            cells = (found.case.label, found.metric, *numbers, _verdict(found))
            lines.append("| " + " | ".join(cells) + " |")
        if len(changed) > _SHOWN:
            lines += ["", f"and {len(changed) - _SHOWN} more changes"]
        lines.append("")
    lines.append(f"{same} exact numbers of {len({f.case for f in findings})} cases are unchanged.")
    return lines


def _verdict(found: Finding) -> str:
    text = str(found.verdict)
    if found.verdict is Verdict.REGRESSED:
        text = f"**{text}**"
    reason = found.reason.replace("|", "\\|")
    return f"{text}: {reason}" if reason else text
