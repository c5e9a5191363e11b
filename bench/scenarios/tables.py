"""Measure a list of cases: each metric of one case once, latency in interleaved rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.metrics import METRICS, runner
from bench.models.context import Context
from bench.records.case import Case
from bench.records.session import opened, progress
from bench.records.store import Store
from bench.timing import interleaved
from bench.timing.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure of which cases.

    Attributes:
        exact: cases whose parameters, FLOPs and frame noise are measured.
        timed: cases whose latency and inference memory are measured, the baselines among them.
        trainable: cases whose training memory is estimated.
        training: cases whose training steps are run and timed.
        sampling: how long latency is sampled.
    """

    exact: tuple[Case, ...]
    timed: tuple[Case, ...]
    trainable: tuple[Case, ...] = ()
    training: tuple[Case, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)


def run(plan: Plan, path: Path, context: Context, *, quiet: bool = False) -> None:
    """Measure what the store at ``path`` lacks; can be interrupted at any time and called again.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
        bench.records.errors.UsageError: if the device is not there.
    """
    with opened(path, (*plan.exact, *plan.timed)) as (store, stamp):
        for metric in METRICS.values():
            runner.measure(metric, getattr(plan, metric.of), store, context, stamp, quiet)
        measure_latency(plan.timed, plan.sampling, store, context, stamp, quiet)


def measure_latency(
    cases: Sequence[Case],
    sampling: Sampling,
    store: Store,
    context: Context,
    stamp: dict[str, Any],
    quiet: bool,
) -> None:
    """Sample the latency that the store lacks, with a progress line.

    Raises:
        bench.records.errors.UsageError: if the device is not there.
    """
    todo = sum(lacking for _, lacking in interleaved.unfinished(cases, sampling, store))
    with progress("latency, interleaved", todo, quiet) as tick:
        interleaved.measure(cases, sampling, store, context, stamp, tick)
