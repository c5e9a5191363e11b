"""Measure all collected rows together, interleaved, then replay each row's samples.

pytest-benchmark would time one row after the other, so that a machine that slows down in between
would look like a slow row. Here the sweep of ``bench`` measures, and pytest-benchmark is handed
the samples through its timer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import latency, store, sweep
from bench.case import Case
from bench.cli import OUT, STORE
from bench.data.windows import MotionSource
from bench.metrics.base import Context
from bench.paper import PaperRow, rows
from reports.build import build


class Replay:
    """A clock that lets recorded durations pass, one between every two readings."""

    def __init__(self) -> None:
        self._readings: Iterator[float] = iter(())

    def load(self, samples: list[float]) -> None:
        """Take the durations to be replayed next, in seconds."""
        readings = [0.0]
        for sample in samples:
            readings += [readings[-1] + sample] * 2
        self._readings = iter(readings)

    def __call__(self) -> float:
        """The next reading, in seconds."""
        return next(self._readings)


REPLAY = Replay()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the sweep, as those of ``python -m bench run``."""
    group = parser.getgroup("suites")
    group.addoption("--store", type=Path, default=STORE, help="record file")
    group.addoption("--out", type=Path, default=OUT, help="folder of the report")
    group.addoption("--motion", type=Path, help="motion file for the input; default: generated")
    group.addoption("--device", default="cpu", choices=("cpu", "cuda"))
    group.addoption("--rounds", type=int, default=10, help="samples per timed case")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every row is a benchmark on the replayed clock, in one group per table."""
    for item in items:
        row = _row(item)
        if row is not None:
            group = f"Table {row.table}"
            item.add_marker(pytest.mark.benchmark(timer=REPLAY, group=group, warmup=False))


def _row(item: pytest.Item) -> PaperRow | None:
    callspec = getattr(item, "callspec", None)
    row = callspec.params.get("row") if callspec else None
    return row if isinstance(row, PaperRow) else None


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> Callable[[PaperRow], list[float]]:
    """Latency samples of a row, in seconds, after measuring all rows that were collected."""
    option = request.config.getoption
    motion_file = option("--motion")
    motion = MotionSource.from_file(motion_file) if motion_file else MotionSource.generated()
    where: dict[str, Any] = {"motion": motion.name, "device": option("--device")}
    collected = [row for item in request.session.items if (row := _row(item)) is not None]
    wanted = [rows(4)[0].case(), *(row.case() for row in collected)]
    cases = tuple(dict.fromkeys(replace(case, **where) for case in wanted))
    plan = sweep.Plan(exact=cases, timed=cases, rounds=option("--rounds"))
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled(), warnings.catch_warnings():
        warnings.simplefilter("default")  # pytest makes them errors, which would fail the rows
        sweep.run(plan, option("--store"), Context(motion))
    group = latency.group_name(cases)
    samples: dict[Case, list[float]] = {}
    for record in store.read(option("--store")):
        if record.metric == "latency_s" and record.group == group:
            if record.status != "ok":
                samples.setdefault(record.case, [])
            samples.setdefault(record.case, []).extend(record.values)
    return lambda row: samples[replace(row.case(), **where)]


@pytest.fixture
def replay(benchmark: Any, measured: Callable[[PaperRow], list[float]]) -> Callable[..., None]:
    """Hand a row's samples to pytest-benchmark."""

    def run(row: PaperRow) -> None:
        samples = measured(row)
        if not samples:
            pytest.fail(f"{row.name} was not timed; the report says why")
        REPLAY.load(samples)
        benchmark.extra_info.update(case=row.case().label, row=row.number)
        benchmark.pedantic(lambda: None, rounds=len(samples), iterations=1)

    return run


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the report from everything in the store."""
    if config.getoption("collectonly") or not config.getoption("--store").is_file():
        return
    report = build(config.getoption("--store"), config.getoption("--out"))
    terminalreporter.write_line(f"report: {report}")
