"""Measure a list of cases: each exact metric once, latency in interleaved rounds."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench import latency
from bench.case import Case
from bench.environment import environment
from bench.metrics import METRICS
from bench.metrics.base import Context, Metric, excuse
from bench.record import Record
from bench.store import Store, open_store


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure of which cases.

    Attributes:
        exact: cases whose parameters, FLOPs and frame noise are taken.
        timed: cases whose latency and memory are taken, the baseline first.
        rounds: visits per timed case.
    """

    exact: tuple[Case, ...]
    timed: tuple[Case, ...]
    rounds: int = 10


_OF_TIMED = ("process_memory", "training_memory")


def run(plan: Plan, path: Path, context: Context, *, quiet: bool = False) -> None:
    """Measure what the store at ``path`` lacks; can be interrupted at any time and called again.

    Raises:
        bench.errors.StoreError: if the store cannot be used.
        bench.errors.UsageError: if the device is not there.
    """
    threads = {case.threads for case in (*plan.exact, *plan.timed)} - {0}
    if len(threads) == 1:
        torch.set_num_threads(threads.pop())
    where = environment(torch.get_num_threads())
    stamp = {"session": uuid.uuid4().hex[:12], "environment": where}
    notes: list[str] = []
    with open_store(path, environment=where["fingerprint"], note=notes) as store:
        for note in notes:
            print(f"note: {note}", file=sys.stderr)  # noqa: T201
        for name, metric in METRICS.items():
            cases = plan.timed if name in _OF_TIMED else plan.exact
            _take(metric, cases, store, context, stamp, quiet)
        todo = latency.missing(plan.timed, plan.rounds, store)
        with _progress("latency, interleaved", len(todo), quiet) as tick:
            latency.measure(plan.timed, plan.rounds, store, context, stamp, tick)


def _take(
    metric: Metric,
    cases: Sequence[Case],
    store: Store,
    context: Context,
    stamp: dict[str, Any],
    quiet: bool,
) -> None:
    """Take one metric of every case that lacks it."""
    todo = [
        case
        for case in dict.fromkeys(cases)
        if any((case, reading, "", 0) not in store for reading in metric.readings)
    ]
    with _progress(metric.title, len(todo), quiet) as tick:
        for case in todo:
            store.append(_records(metric, case, context, stamp))
            tick(case.label)


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
def _progress(title: str, total: int, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A progress line with the time left; silent when there is nothing to do."""
    interval = 0.5 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=total, desc=title, disable=quiet or not total, mininterval=interval, file=sys.stderr,
        dynamic_ncols=True, unit="case",
    ) as bar:  # fmt: skip

        def tick(label: str) -> None:
            bar.set_postfix_str(label, refresh=False)
            bar.update()

        yield tick
