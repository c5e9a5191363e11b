"""Measure a list of cases: each metric of one case once, latency in interleaved rounds."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench.metrics import METRICS
from bench.metrics.base import Context, Metric, excuse
from bench.records.case import Case
from bench.records.environment import environment
from bench.records.record import Record
from bench.records.store import Store, open_store
from bench.timing import interleaved
from bench.timing.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure of which cases.

    Attributes:
        exact: cases whose parameters, FLOPs and frame noise are taken.
        timed: cases whose latency and inference memory are taken, the baselines among them.
        trainable: cases whose training memory is estimated.
        training: cases whose training steps are really taken.
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
    threads = {case.threads for case in (*plan.exact, *plan.timed)} - {0}
    if len(threads) == 1:
        torch.set_num_threads(threads.pop())
    with opened(path) as (store, stamp):
        for metric in METRICS.values():
            take(metric, getattr(plan, metric.of), store, context, stamp, quiet)
        take_latency(plan.timed, plan.sampling, store, context, stamp, quiet)


def take_latency(
    cases: Sequence[Case],
    sampling: Sampling,
    store: Store,
    context: Context,
    stamp: dict[str, Any],
    quiet: bool,
) -> None:
    """Sample the latency that the store lacks, and show how far it is.

    Raises:
        bench.records.errors.UsageError: if the device is not there.
    """
    todo = sum(lacking for _, lacking in interleaved.unfinished(cases, sampling, store))
    with progress("latency, interleaved", todo, quiet) as tick:
        interleaved.measure(cases, sampling, store, context, stamp, tick)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Store, dict[str, Any]]]:
    """The store at ``path``, and the fields that all records of this process share.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
    """
    where = environment(torch.get_num_threads())
    notes: list[str] = []
    with open_store(path, environment=where["fingerprint"], note=notes) as store:
        for note in notes:
            print(f"note: {note}", file=sys.stderr)  # noqa: T201
        yield store, {"session": uuid.uuid4().hex[:12], "environment": where}


def take(
    metric: Metric,
    cases: Sequence[Case],
    store: Store,
    context: Context,
    stamp: dict[str, Any],
    quiet: bool,
    group: str = "",
) -> None:
    """Take one metric of every case that lacks it.

    ``group`` sets records apart that are of the same case but of other weights or input.
    """
    todo = [
        case
        for case in dict.fromkeys(cases)
        if any((case, reading, group, 0) not in store for reading in metric.readings)
    ]
    with progress(metric.title, len(todo), quiet) as tick:
        for records in _each(metric, todo, context, {**stamp, "group": group}):
            store.append(records)
            tick(records[0].case.label)


def _each(
    metric: Metric, cases: Sequence[Case], context: Context, stamp: dict[str, Any]
) -> Iterator[list[Record]]:
    """The records of each case as they come, several at a time where the metric allows it."""
    if metric.at_once == 1:
        yield from (_records(metric, case, context, stamp) for case in cases)
        return
    pool = ThreadPoolExecutor(metric.at_once)
    try:
        waiting = [pool.submit(_records, metric, case, context, stamp) for case in cases]
        yield from (done.result() for done in as_completed(waiting))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _records(metric: Metric, case: Case, context: Context, stamp: dict[str, Any]) -> list[Record]:
    """The readings of one case as records, or why there are none."""
    try:
        readings = metric.measure(case, context)
    except Exception as error:  # whatever it is, the sweep goes on and the row says why
        return [
            Record(case=case, metric=m, unit="", values=(), **excuse(error), **stamp)
            for m in metric.readings
        ]
    return [
        Record(
            case=case,
            metric=reading.metric,
            unit=reading.unit,
            values=reading.values,
            labels=reading.labels,
            protocol=reading.protocol,
            **stamp,
        )
        for reading in readings
    ]


@contextmanager
def progress(title: str, total: int, quiet: bool) -> Iterator[Callable[..., None]]:
    """A progress line with the time left; silent when there is nothing to do."""
    interval = 0.5 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=total, desc=title, disable=quiet or not total, mininterval=interval, file=sys.stderr,
        dynamic_ncols=True, unit="case",
    ) as bar:  # fmt: skip

        def tick(label: str, done: float = 1) -> None:
            bar.set_postfix_str(label, refresh=False)
            bar.update(done)

        yield tick
