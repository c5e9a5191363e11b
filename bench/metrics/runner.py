"""One metric of many cases, into the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from bench.metrics.base import Metric, Reading
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
    """Measure one metric of every case that lacks it.

    ``group`` sets records apart that are of the same case but of other weights or input.
    """
    todo = [
        case
        for case in dict.fromkeys(cases)
        if any((case, reading, group, 0) not in store for reading in metric.readings)
    ]
    with progress(metric.title, len(todo), quiet) as tick:
        for done in _each(metric, todo, context, {**stamp, "group": group}):
            store.append(done)
            tick(done[0].case.label)


def _each(
    metric: Metric, cases: Sequence[Case], context: Context, stamp: dict[str, Any]
) -> Iterator[list[Record]]:
    """The records of each case as they come, several at a time where the metric allows it."""

    def one(case: Case) -> list[Record]:
        return records(case, metric.readings, lambda: metric.measure(case, context), **stamp)

    if metric.at_once == 1:
        yield from map(one, cases)
        return
    pool = ThreadPoolExecutor(metric.at_once)
    try:
        waiting = [pool.submit(one, case) for case in cases]
        yield from (done.result() for done in as_completed(waiting))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def records(
    case: Case,
    metrics: Sequence[str],
    measure: Callable[[], list[Reading]],
    **stamp: Any,
) -> list[Record]:
    """The readings of one case as records, or why there are none.

    Args:
        metrics: names of the records of a measurement that fails.
        measure: called for the readings.
        stamp: fields of every record.
    """
    try:
        readings = measure()
    except Exception as error:  # whatever it is, other cases are measured and the record has it
        empty: dict[str, Any] = {"unit": "", "values": (), **excuse(error), **stamp}
        return [Record(case=case, metric=metric, **empty) for metric in metrics]
    return [Record(case=case, **vars(reading), **stamp) for reading in readings]
