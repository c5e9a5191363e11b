"""Whether two files of records may be compared, and their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.gate.verdicts import Allowance, Finding, Rules, exit_status, judge
from bench.records import store
from bench.records.environment import differences
from bench.records.record import Record


class Incomparable(Exception):
    """There is no baseline, or it is of another environment; the message names the remedy."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a gate.

    Attributes:
        findings: one per case and metric.
        status: exit status; see :func:`bench.gate.verdicts.exit_status`.
        base, head: names of the two sides, such as commits.
        environment: of the head's records.
        rules: of the verdicts.
        notes: further remarks, such as on a forced comparison.
    """

    findings: Sequence[Finding]
    status: int
    base: str
    head: str
    environment: dict[str, Any]
    rules: Rules
    notes: Sequence[str] = field(default_factory=list)


def compare_files(
    base: Path,
    head: Path,
    *,
    allowances: Sequence[Allowance] = (),
    rules: Rules | None = None,
    force: bool = False,
) -> Outcome:
    """Read and compare two record files.

    Args:
        force: compare records of different environments, and a base of a dirty tree, all the
            same.

    Raises:
        Incomparable: if there is no base file, or the environments differ.
        bench.records.errors.StoreError: if a file is torn or has no records, or head is missing.
    """
    if not base.exists():
        raise Incomparable(f"no baseline: there is no file {base}; measure the base first")
    before, after = store.read(base), store.read(head)
    return compare(before, after, allowances=allowances, rules=rules, force=force)


def compare(
    base: Sequence[Record],
    head: Sequence[Record],
    *,
    allowances: Sequence[Allowance] = (),
    rules: Rules | None = None,
    force: bool = False,
) -> Outcome:
    """Compare records, if their environments allow it.

    Raises:
        Incomparable: if there is nothing to compare, or the environments differ, saying how.
    """
    rules = rules or Rules()
    if not base or not head:
        raise Incomparable(f"no baseline: {len(base)} records of the base, {len(head)} of the head")
    problems = differences([*base, *head])
    if any(record.environment.get("dirty") for record in base):
        problems.append("the base was measured on a tree with uncommitted changes")
    if problems and not force:
        raise Incomparable(
            f"incomparable: {'; '.join(problems)}. Measure both on one machine and in one "
            f"environment, or add --force."
        )
    findings = judge(base, head, rules, allowances)
    status = exit_status(findings)
    if status == 4:
        raise Incomparable(
            "no baseline: no case and metric of the head was measured at the base; "
            + "; ".join(dict.fromkeys(finding.reason for finding in findings))
        )
    return Outcome(
        findings=findings,
        status=status,
        base=_name(base),
        head=_name(head),
        environment=dict(head[-1].environment),
        rules=rules,
        notes=[f"forced: {problem}" for problem in problems],
    )


def _name(records: Sequence[Record]) -> str:
    names = {
        (r.environment.get("commit") or "unknown")
        + (" (dirty)" if r.environment.get("dirty") else "")
        for r in records
    }
    return ", ".join(sorted(names))
