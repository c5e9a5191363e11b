"""Measure what the trunk achieves under every row of the paper's tables, into the common store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bench.data.windows import MotionSource
from bench.metrics import METRICS, runner
from bench.metrics.accuracy import ACCURACY, MEAN_POSE, STEPS
from bench.metrics.kept_frames import FIGURES
from bench.models.context import Context
from bench.models.supernet import Supernet
from bench.paper import cases, tables_of
from bench.records.case import Case
from bench.records.session import opened
from bench.scenarios.tables import take_latency
from bench.timing.sampling import Sampling

TABLES = tables_of("mixste", "seq2seq")  # what one supernet has weights for


@dataclass(frozen=True, kw_only=True)
class Session:
    """What an accuracy session takes.

    Attributes:
        motion: whose test split is lifted.
        trunk: the weights.
        views: most views; None for all there are.
        tables: whose rows are taken.
        rates: whether Table 9's frame rates are taken too, on generated motion.
        rate_views: most views of those.
        figures: whether Figure 7 is taken too.
        rounds: visits per timed configuration; 0 for no timing.
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


def table_cases(session: Session) -> list[Case]:
    """Every configuration of the session's tables, with the trunk's sizes; the baseline first."""
    return [_own(case, session, session.motion.name) for case in cases(session.tables)]


def rate_cases(session: Session, motion: MotionSource) -> list[Case]:
    """Baseline and H2OT at Table 9's frame rates."""
    plain = Case(host="mixste", frames=243)
    pruned = replace(plain, prune="tps", recover="tri", r=(121, 81), b=(0, 3))
    return [
        _own(case, session, f"{motion.name}@1/{step}") for step in STEPS for case in (plain, pruned)
    ]


def _own(case: Case, session: Session, motion: str) -> Case:
    options = tuple(sorted({*case.options, *session.trunk.options}))
    return replace(case, options=options, motion=motion, threads=session.threads)


def take(session: Session, path: Path, *, quiet: bool = False) -> None:
    """Measure what the store at ``path`` lacks; can be interrupted at any time and called again.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
    """
    if session.threads:
        torch.set_num_threads(session.threads)
    context = Context(session.motion, supernet=session.trunk, view_limit=session.views)
    wanted = table_cases(session)
    group = f"{session.trunk.digest}/{session.views or 'all'}"
    with opened(path) as (store, stamp):
        runner.measure(MEAN_POSE, wanted[:1], store, context, stamp, quiet, group)
        runner.measure(ACCURACY, wanted, store, context, stamp, quiet, group)
        runner.measure(METRICS["counts"], wanted, store, context, stamp, quiet)
        if session.rounds:
            sampling = Sampling(rounds=session.rounds)
            take_latency(wanted, sampling, store, context, stamp, quiet)
        if session.rates:
            motion = MotionSource.generated()
            rated = Context(motion, supernet=session.trunk, view_limit=session.rate_views)
            rates = f"{session.trunk.digest}/{session.rate_views}"
            runner.measure(ACCURACY, rate_cases(session, motion), store, rated, stamp, quiet, rates)
        if session.figures:
            seven = FIGURES["7"]
            own: Sequence[Case] = [_own(c, session, session.motion.name) for c in seven.cases]
            runner.measure(seven.metric, own, store, context, stamp, quiet, session.trunk.digest)
