"""One metric of many cases, into the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from bench.metrics.base import Metric
from bench.models.context import Context
from bench.records.case import Case
from bench.records.record import Record
from bench.records.session import progress
from bench.records.status import excuse
from bench.records.store import Store


def measure(
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
