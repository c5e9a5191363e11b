"""Measure what the trunk achieves under every row of the paper's tables, into the common store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.data.windows import MotionSource
from bench.metrics import METRICS, runner
from bench.metrics.accuracy import ACCURACY, MEAN_POSE, STEPS
from bench.metrics.kept_frames import FIGURES
from bench.models.context import Context
from bench.models.supernet import Supernet
from bench.paper import cases, tables_of
from bench.records.case import Case
from bench.records.session import opened
from bench.scenarios.tables import measure_latency
from bench.timing.sampling import Sampling

TABLES = tables_of("mixste", "seq2seq")  # what one supernet has weights for


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure with one trunk.

    Attributes:
        motion: whose test split is lifted.
        trunk: the weights.
        views: most views; None for all there are.
        tables: whose rows are measured.
        rates: whether Table 9's frame rates are measured too, on generated motion.
        rate_views: most views of those.
        figures: whether Figure 7 is measured too.
        rounds: per timed configuration; 0 for no timing.
        threads: CPU threads, 0 for PyTorch's choice.
    """

    motion: MotionSource
    trunk: Supernet
    views: int | None = None
    tables: tuple[int, ...] = TABLES
    rates: bool = True
    rate_views: int = 32
    figures: bool = True
    rounds: int = 5
    threads: int = 0


def table_cases(plan: Plan) -> list[Case]:
    """Every configuration of the plan's tables, with the trunk's sizes; the baseline first."""
    return [_own(case, plan, plan.motion.name) for case in cases(plan.tables)]


def rate_cases(plan: Plan, motion: MotionSource) -> list[Case]:
    """Baseline and H2OT at Table 9's frame rates."""
    plain = Case(host="mixste", frames=243)
    pruned = replace(plain, prune="tps", recover="tri", r=(121, 81), b=(0, 3))
    return [
        _own(case, plan, f"{motion.name}@1/{step}") for step in STEPS for case in (plain, pruned)
    ]


def _own(case: Case, plan: Plan, motion: str) -> Case:
    options = tuple(sorted({*case.options, *plan.trunk.options}))
    return replace(case, options=options, motion=motion, threads=plan.threads)


def run(plan: Plan, path: Path, *, quiet: bool = False) -> None:
    """Measure what the store at ``path`` lacks; can be interrupted at any time and called again.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
    """
    context = Context(plan.motion, supernet=plan.trunk, view_limit=plan.views)
    rows = table_cases(plan)
    group = f"{plan.trunk.digest}/{plan.views or 'all'}"
    with opened(path, rows) as (store, stamp):
        runner.measure(MEAN_POSE, rows[:1], store, context, stamp, quiet, group)
        runner.measure(ACCURACY, rows, store, context, stamp, quiet, group)
        runner.measure(METRICS["counts"], rows, store, context, stamp, quiet)
        if plan.rounds:
            sampling = Sampling(rounds=plan.rounds)
            measure_latency(rows, sampling, store, context, stamp, quiet)
        if plan.rates:
            motion = MotionSource.generated()
            rated = Context(motion, supernet=plan.trunk, view_limit=plan.rate_views)
            rates = f"{plan.trunk.digest}/{plan.rate_views}"
            runner.measure(ACCURACY, rate_cases(plan, motion), store, rated, stamp, quiet, rates)
        if plan.figures:
            seven = FIGURES["7"]
            own: Sequence[Case] = [_own(c, plan, plan.motion.name) for c in seven.cases]
            runner.measure(seven.metric, own, store, context, stamp, quiet, plan.trunk.digest)
