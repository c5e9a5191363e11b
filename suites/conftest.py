"""Measure all collected rows together, interleaved, then replay each row's samples.

pytest-benchmark would time one row after the other, so that a machine that slows down in between
would look like a slow row. Here ``bench`` measures, and pytest-benchmark reads the samples through
its timer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.cli.options import OUT, STORE
from bench.data.windows import MotionSource
from bench.models.context import Context
from bench.records import store
from bench.records.case import Case
from bench.scenarios import tables
from bench.timing import interleaved
from bench.timing.sampling import Sampling


class Replay:
    """A clock that is read in pairs, before and after, and returns recorded durations."""

    def __init__(self) -> None:
        self._readings: Iterator[float] = iter(())

    def load(self, samples: list[float]) -> None:
        """Set the durations to replay next, in seconds."""
        # From zero every time, so that the difference is the duration to the last digit.
        self._readings = iter([reading for sample in samples for reading in (0.0, sample)])

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
    group.addoption("--training-steps", action="store_true", help="time training steps on a CPU")
    group.addoption("--rounds", type=int, help="rounds per timed case; default: by --budget")
    group.addoption("--budget", type=float, default=13.0, help="minutes for all timing")
    group.addoption("--fps", type=float, default=50.0, help="of the camera in table_streaming")
    group.addoption("--seconds", type=float, default=3.0, help="of video per row and round there")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every case is a benchmark on the replayed clock, in one group per suite."""
    for item in items:
        if _case(item) is not None:
            group = (item.module.__doc__ or "").partition(":")[0]  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.benchmark(timer=REPLAY, group=group, warmup=False))


def _case(item: pytest.Item) -> Case | None:
    callspec = getattr(item, "callspec", None)
    case = callspec.params.get("case") if callspec else None
    if not isinstance(case, Case):
        return None
    return replace(case, batch=callspec.params.get("batch", case.batch)) if callspec else case


@pytest.fixture(scope="session")
def motion(request: pytest.FixtureRequest) -> MotionSource:
    """The input of all suites."""
    file = request.config.getoption("--motion")
    return MotionSource.from_file(file) if file else MotionSource.generated()


@pytest.fixture(scope="session")
def where(request: pytest.FixtureRequest, motion: MotionSource) -> dict[str, Any]:
    """Fields of every case that the options set."""
    return {"motion": motion.name, "device": request.config.getoption("--device")}


@contextmanager
def uncaptured(config: pytest.Config) -> Iterator[None]:
    """Show progress, and only print warnings: pytest makes them errors, which would fail rows."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled(), warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


@pytest.fixture(scope="session")
def measured(
    request: pytest.FixtureRequest, motion: MotionSource, where: dict[str, Any]
) -> Callable[[Case], list[float]]:
    """Latency samples of a case, in seconds, after measuring all cases that were collected."""
    option = request.config.getoption
    collected = [case for item in request.session.items if (case := _case(item)) is not None]
    both = [one for case in collected for one in (case.baseline, case)]
    cases = tuple(dict.fromkeys(replace(case, **where) for case in both))
    training = cases if option("--device") == "cuda" or option("--training-steps") else ()
    sampling = Sampling(rounds=option("--rounds"), budget_s=60 * option("--budget"))
    plan = tables.Plan(
        exact=cases, timed=cases, trainable=cases, training=training, sampling=sampling
    )
    with uncaptured(request.config):
        tables.run(plan, option("--store"), Context(motion))
    groups = {
        interleaved.group_name(group) for group in interleaved.groups(cases, sampling.max_workers)
    }
    samples: dict[Case, list[float]] = {case: [] for case in cases}
    for record in store.read(option("--store")):
        if record.metric == "latency_s" and record.group in groups:
            samples[record.case].extend(record.values)
    return lambda case: samples[replace(case, **where)]


@pytest.fixture
def replay(benchmark: Any, measured: Callable[[Case], list[float]]) -> Callable[[Case], None]:
    """Hand a case's samples to pytest-benchmark."""

    def run(case: Case) -> None:
        samples = measured(case)
        if not samples:
            pytest.fail(f"{case.label} was not timed; the report says why")
        REPLAY.load(samples)
        benchmark.extra_info.update(case=case.label, batch=case.batch)
        benchmark.pedantic(lambda: None, rounds=len(samples), iterations=1)

    return run


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the report from everything in the store."""
    if config.getoption("collectonly") or not config.getoption("--store").is_file():
        return
    from reports.build import build

    report = build(config.getoption("--store"), config.getoption("--out"))
    terminalreporter.write_line(f"report: {report}")
