"""Streaming latency: frame in to pose out, seq2frame and seq2seq."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from bench.data.windows import MotionSource
from bench.models.context import Context
from bench.records import store
from bench.scenarios import streaming
from suites.conftest import REPLAY

pytestmark = pytest.mark.benchmark(timer=REPLAY, group="Streaming latency", warmup=False)


@pytest.fixture(scope="session")
def streamed(request: pytest.FixtureRequest) -> Callable[[streaming.Row], list[float]]:
    """Latency of computing per pose of a row, in seconds, after measuring all rows collected."""
    option = request.config.getoption
    file = option("--motion")
    motion = MotionSource.from_file(file) if file else MotionSource.generated()
    where: dict[str, Any] = {"motion": motion.name, "device": option("--device")}
    found = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = [params["row"] for params in found if isinstance(params.get("row"), streaming.Row)]
    plan = streaming.Plan(
        rows=streaming.settled(wanted, **where), fps=option("--fps"), seconds=option("--seconds")
    )
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled(), warnings.catch_warnings():
        warnings.simplefilter("default")  # pytest makes them errors, which would fail the rows
        streaming.take_streams(plan, option("--store"), Context(motion))
    taken = [r for r in store.read(option("--store")) if r.metric == "stream_latency_s"]

    def samples(row: streaming.Row) -> list[float]:
        (own,) = streaming.settled([row], **where)
        mine = (r for r in taken if r.case == own.case and r.group == row.group(None))
        return [value for record in mine for value in record.values]

    return samples


@pytest.mark.parametrize("row", streaming.default_rows(), ids=lambda row: row.label)
def test_row(
    row: streaming.Row, streamed: Callable[[streaming.Row], list[float]], benchmark: Any
) -> None:
    """One pipeline, its latencies replayed."""
    samples = streamed(row)
    if not samples:
        pytest.fail(f"{row.label} was not timed; the report says why")
    REPLAY.load(samples)
    benchmark.extra_info.update(case=row.case.label, hop=row.hop)
    benchmark.pedantic(lambda: None, rounds=len(samples), iterations=1)
