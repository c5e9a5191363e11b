"""Runtimes: baseline, HoT and H2OT of every host in every runtime, all of one host interleaved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bench.data.windows import MotionSource
from bench.paper import main_cases
from bench.records import store
from bench.records.case import Case
from bench.scenarios.runtimes import RUNTIMES
from bench.scenarios.runtimes.measure import DRIFT, LATENCY, Job, run
from suites.conftest import REPLAY, uncaptured

Samples = Callable[[Case, str], list[float]]


@pytest.fixture(scope="session")
def in_runtimes(
    request: pytest.FixtureRequest, motion: MotionSource, where: dict[str, Any]
) -> Samples:
    """Latency samples of a case in a runtime, in seconds; skips with the reason if it has none."""
    option = request.config.getoption
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    rows = [(s.params["row"], s.params["runtime"]) for s in specs if s and "runtime" in s.params]
    cases = tuple(dict.fromkeys(replace(case, **where) for case, _ in rows))
    names = tuple(dict.fromkeys(name for _, name in rows))
    job = Job(cases=cases, motion=motion, runtimes=names, rounds=option("--rounds"))
    with uncaptured(request.config):
        run(job, option("--store"))
    records = store.read(option("--store"))

    def samples(case: Case, name: str) -> list[float]:
        case = replace(case, **where)
        own = [r for r in records if r.case == case and r.group == job.group(case, name)]
        reasons = [r.reason for r in own if r.metric == DRIFT and r.status != "ok"]
        if reasons:
            pytest.skip(reasons[0])
        return [value for r in own if r.metric == LATENCY for value in r.values]

    return samples


@pytest.mark.benchmark(timer=REPLAY, group="Runtimes", warmup=False)
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("row", main_cases(), ids=lambda case: case.label)
def test_runtime(row: Case, runtime: str, in_runtimes: Samples, benchmark: Any) -> None:
    """One configuration in one runtime; select with -k."""
    samples = in_runtimes(row, runtime)
    REPLAY.load(samples)
    benchmark.extra_info.update(case=row.label, runtime=runtime)
    benchmark.pedantic(lambda: None, rounds=len(samples), iterations=1)
