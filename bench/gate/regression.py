"""Measure a base revision and the working tree, and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.gate import exact, sampled
from bench.gate.compare import Outcome, compare
from bench.gate.revisions import HARNESS, Revision, checkout, working_tree
from bench.gate.verdicts import Allowance, Rules
from bench.records import store
from bench.records.case import Case
from bench.records.record import Record
from bench.records.session import progress

OUT = Path("reports/out/gate")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of the gate measures.

    Attributes:
        revision: of the base.
        root: the checkout that holds both.
        exact: cases that are counted; None for every scheme of every host.
        memory: whether their training memory is estimated too.
        sampled: what is timed; None to time nothing.
        out: folder for both sides' records.
        cache: folder that keeps the records of committed libraries.
        slowdown: share by which the head's forward passes are made slower, to test the gate.
    """

    revision: str
    root: Path = HARNESS
    exact: Sequence[Case] | None = None
    memory: bool = True
    sampled: sampled.Plan | None = field(default_factory=sampled.Plan)
    out: Path = OUT
    cache: Path = OUT / "cache"
    slowdown: float = 0.0


def run(
    plan: Plan,
    *,
    allowances: Sequence[Allowance] = (),
    rules: Rules | None = None,
    quiet: bool = False,
) -> Outcome:
    """Measure and compare; leaves no worktree behind, interrupted or not.

    Raises:
        bench.records.errors.UsageError: if this is no checkout, or the revision is unknown.
        bench.gate.compare.Incomparable: if the base cannot be measured by this harness at all.
    """
    head = working_tree(plan.root, slowdown=plan.slowdown)
    with checkout(plan.revision, plan.root) as base:
        before, after = _measure(plan, base, head, quiet)
    store.write(plan.out / "base.jsonl", before)
    store.write(plan.out / "head.jsonl", after)
    return compare(before, after, allowances=allowances, rules=rules)


def _measure(
    plan: Plan, base: Revision, head: Revision, quiet: bool
) -> tuple[list[Record], list[Record]]:
    cases = exact.every_case() if plan.exact is None else list(plan.exact)
    before: list[Record] = []
    after: list[Record] = []
    for kind, title in (("counts", "parameters and FLOPs"), ("memory", "training memory")):
        if not cases or (kind == "memory" and not plan.memory):
            continue
        with progress(title, 2 * len(cases), quiet) as tick:
            exact_base, exact_head = exact.measure(kind, (base, head), cases, tick, plan.cache)
        before += exact_base
        after += exact_head
    if plan.sampled is not None:
        with progress("latency, in turn", plan.sampled.pairs, quiet, "pair") as tick:
            sampled_base, sampled_head = sampled.sample(plan.sampled, base, head, tick)
        before += sampled_base
        after += sampled_head
    return before, after
