"""The self-check's verdicts, and the artificial model it times, without real clocks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from bench.cli import main
from bench.records.case import Case
from bench.scenarios import self_check
from bench.scenarios.self_check import Check, exit_status, judged
from bench.scenarios.self_check_memory import BYTES, worker
from bench.timing import clock as timing
from bench.timing.statistics import Estimate


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves only while something spins or pauses."""
    clock = 0.0

    def pass_(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    monkeypatch.setattr("bench.timing.clock.time.perf_counter", lambda: clock)
    monkeypatch.setattr(timing, "spin", pass_)
    monkeypatch.setattr(timing, "pause", pass_)


@pytest.mark.parametrize("lengths", [(0.25, 0.125, 0.5), (0.0, 0.0, 1.0), (1.0, 2.0, 0.0)])
def test_known_stages_read_as_they_are_and_add_up(
    machine: None, lengths: tuple[float, float, float]
) -> None:
    model: Any = self_check._Known(*lengths)
    sample = timing.time_forward(model, torch.zeros(1))
    assert (sample.prune_s, sample.recover_s, sample.rest_s) == lengths
    assert sample.total_s == sum(lengths)


def test_a_true_machine_passes(machine: None) -> None:
    found = [*self_check.stages("cpu"), *self_check.drift("cpu")]
    assert [check.verdict for check in found] == ["pass"] * 5
    assert next(iter(self_check.kernel_of_known_length("cpu"))).verdict == "skipped"


def test_a_clock_that_runs_slow_fails(machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    spin = timing.spin
    monkeypatch.setattr(timing, "spin", lambda s: spin(1.05 * s))
    assert {check.verdict for check in self_check.stages("cpu")} == {"FAIL"}


@pytest.mark.parametrize(
    ("value", "half", "verdict"),
    [
        (1.0, 0.005, "pass"), (1.008, 0.001, "pass"), (1.02, 0.005, "FAIL"),
        (0.97, 0.01, "FAIL"), (1.008, 0.005, "unclear"), (1.0, 0.05, "unclear"),
        (1.005, math.nan, "pass"), (1.02, math.nan, "FAIL"),
    ],
)  # fmt: skip
def test_verdicts(value: float, half: float, verdict: str) -> None:
    low, high = (None, None) if math.isnan(half) else (value - half, value + half)
    known = Estimate(value=value, low=low, high=high, level=0.95, n=9)
    assert judged("x", known, 0.01).verdict == verdict


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [(["pass", "skipped"], 0), (["pass", "unclear"], 3), (["unclear", "FAIL"], 1), ([], 0)],
)
def test_the_command_says_how_it_went(
    verdicts: list[str], status: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    checks = [Check(f"property {i}", "+0.1%", "1%", v) for i, v in enumerate(verdicts)]
    assert exit_status(checks) == status
    monkeypatch.setattr(self_check, "run", lambda device, log: checks)
    assert main(["self-check"]) == status
    out = capsys.readouterr().out
    assert all(check.name in out and check.verdict in out for check in checks)


@pytest.mark.slow
def test_a_planted_gibibyte_reads_as_one() -> None:
    taken = worker(Case(host="mixste", frames=27))
    if not taken["reset"]:
        pytest.skip("the high-water mark cannot be reset on this system")
    assert taken["grown"]["process"] == pytest.approx(BYTES, rel=0.02)
