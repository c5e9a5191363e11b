"""The pytest-benchmark suites: what they collect, and the clock that replays recorded samples."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench.paper import rows

ROOT = Path(__file__).resolve().parents[2]


def run_pytest(*arguments: str) -> str:
    # As from a shell: pytest-benchmark takes no times within pytest-xdist.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of all rows of all suites."""
    nowhere = tmp_path_factory.mktemp("suites")
    out = run_pytest("suites", "--collect-only", f"--store={nowhere}/s", f"--out={nowhere}/o")
    assert not list(nowhere.iterdir())
    return [line for line in out.splitlines() if "::" in line]


def test_the_ablations_are_41_rows(collected: list[str]) -> None:
    counts = Counter(name.partition("::")[0] for name in collected)
    assert counts["suites/table_2_strategies.py"] == 6
    assert counts["suites/table_4_schedule.py"] == 24
    assert counts["suites/table_5_frames.py"] == 11
    assert len(set(collected)) == len(collected)


@pytest.mark.parametrize("table", [2, 3, 4, 5, 6, 7])
def test_rows_are_named_after_what_they_are(collected: list[str], table: int) -> None:
    own = [name for name in collected if name.startswith(f"suites/table_{table}_")]
    known = [(row, case) for row in rows(table) if (case := row.case()) is not None]
    assert len(own) == len(known) > 0
    for name, (row, case) in zip(own, known, strict=True):
        assert name.endswith(f"::test_row[{row.number}-{case.label}]")


def test_a_readable_name(collected: list[str]) -> None:
    name = "test_row[4-mixste-f243-tps+tri-r121,81-b0,3]"
    assert f"suites/table_4_schedule.py::{name}" in collected


# Sums of these would not give the single durations back to the last digit.
SAMPLES = [0.1, 0.2, 1e-9, 123456.789, 0.3, 0.1]

REPLAYED = f"""
import pytest
from suites.conftest import REPLAY

@pytest.mark.benchmark(timer=REPLAY, warmup=False)
def test_replay(benchmark):
    REPLAY.load({SAMPLES})
    benchmark.pedantic(lambda: None, rounds={len(SAMPLES)}, iterations=1)
    assert benchmark.stats.stats.data == {SAMPLES}
    assert next(iter(REPLAY._readings), None) is None

@pytest.mark.benchmark(timer=REPLAY, warmup=False)
def test_replay_again(benchmark):
    REPLAY.load([0.25])
    benchmark.pedantic(lambda: None, rounds=1, iterations=1)
    assert benchmark.stats.stats.data == [0.25]
"""


def test_the_clock_replays_exactly_the_samples_that_were_loaded(tmp_path: Path) -> None:
    (tmp_path / "test_replayed.py").write_text(REPLAYED)
    assert "2 passed" in run_pytest(str(tmp_path), "-c", str(ROOT / "pyproject.toml"))
