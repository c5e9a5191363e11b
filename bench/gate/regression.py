"""Measure a base revision and the working tree, and compare them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from bench.gate import exact, sampled
from bench.gate.compare import Outcome, compare
from bench.gate.revisions import HARNESS, Side, checkout, working_tree
from bench.gate.verdicts import Allowance, Rules
from bench.records import store
from bench.records.case import Case
from bench.records.record import Record

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
        cache: folder that keeps what committed libraries gave.
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


def _measure(plan: Plan, base: Side, head: Side, quiet: bool) -> tuple[list[Record], list[Record]]:
    cases = exact.every_case() if plan.exact is None else list(plan.exact)
    before: list[Record] = []
    after: list[Record] = []
    for kind, title in (("counts", "parameters and FLOPs"), ("memory", "training memory")):
        if not cases or (kind == "memory" and not plan.memory):
            continue
        with progress(title, 2 * len(cases), "case", quiet) as tick:
            found = exact.take(kind, (base, head), cases, tick, plan.cache)
        before += found[0]
        after += found[1]
    if plan.sampled is not None:
        with progress("latency, in turn", plan.sampled.pairs, "pair", quiet) as tick:
            timed = sampled.sample(plan.sampled, base, head, tick)
        before += timed[0]
        after += timed[1]
    return before, after


@contextmanager
def progress(title: str, total: int, unit: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A progress line with the time left."""
    interval = 0.5 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=total, desc=title, disable=quiet, mininterval=interval, file=sys.stderr,
        dynamic_ncols=True, unit=unit,
    ) as bar:  # fmt: skip

        def tick(label: str) -> None:
            bar.set_postfix_str(label, refresh=False)
            bar.update()

        yield tick
