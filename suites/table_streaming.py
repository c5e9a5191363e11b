"""Streaming latency: frame in to pose out, seq2frame and seq2seq."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.data.windows import MotionSource
from bench.models.context import Context
from bench.records import store
from bench.scenarios import streaming
from suites.conftest import REPLAY, uncaptured

pytestmark = pytest.mark.benchmark(timer=REPLAY, group="Streaming latency", warmup=False)


@pytest.fixture(scope="session")
def streamed(
    request: pytest.FixtureRequest, motion: MotionSource, where: dict[str, Any]
) -> Callable[[streaming.Row], list[float]]:
    """Compute latency per pose of a row, in seconds, after measuring all collected rows."""
    option = request.config.getoption
    specs = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    collected = [spec["row"] for spec in specs if isinstance(spec.get("row"), streaming.Row)]
    plan = streaming.Plan(
        rows=streaming.settled(collected, **where), fps=option("--fps"), seconds=option("--seconds")
    )
    with uncaptured(request.config):
        streaming.run(plan, option("--store"), Context(motion))
    latencies = [r for r in store.read(option("--store")) if r.metric == "stream_latency_s"]

    def samples(row: streaming.Row) -> list[float]:
        (own,) = streaming.settled([row], **where)
        mine = (r for r in latencies if r.case == own.case and r.group == row.group(None))
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
