"""Measuring processes: what they are told, and every way in which they may end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from bench.data.windows import MotionSource
from bench.models.context import Context
from bench.records import store
from bench.records.case import Case
from bench.records.status import Failure
from bench.scenarios import tables
from bench.timing import clock, interleaved
from bench.timing.machine_state import state, throttle_names
from bench.timing.sampling import Sampling
from bench.workers.process import WorkerProcess, variables

MOTION = MotionSource.generated(frames=54)
BASE = Case(
    host="mixste",
    frames=27,
    options=(("depth", 3), ("heads", 2), ("width", 16)),
    threads=1,
    motion=MOTION.name,
)
H2OT = replace(BASE, prune="tps", recover="tri", r=(13, 9), b=(0, 2))

Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a module given as text."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    processes = []

    def started(code: str, timeout_s: float = 60.0) -> WorkerProcess:
        (tmp_path / "given.py").write_text("import json, os, sys, time\n" + code)
        processes.append(WorkerProcess("given", timeout_s=timeout_s))
        return processes[-1]

    yield started
    for process in processes:
        process.close()
        assert not psutil.pid_exists(process.pid)


ECHO = """
from bench.workers.process import serve
print("printed before it serves", flush=True)
print(1, flush=True)

def echo(**arguments):
    print("printed by Python")
    os.write(1, b"printed by C\\n")
    os.system("echo printed by a child")
    return {"got": arguments}

def fail(text):
    raise ValueError(text)

serve({"echo": echo, "fail": fail})
"""


def test_requests_are_answered_in_order_whatever_else_is_printed(start: Start) -> None:
    process = start(ECHO)
    process.send("echo", a=1)
    assert process.call("echo", b=2) == {"got": {"a": 1}}
    assert process.receive() == {"got": {"b": 2}}


def test_a_handler_that_fails_leaves_the_process_at_work(start: Start) -> None:
    process = start(ECHO)
    with pytest.raises(Failure, match=r"^wrong$") as caught:
        process.call("fail", text="wrong\nshape")
    assert caught.value.status == "failed"
    assert process.call("echo") == {"got": {}}


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("os.kill(os.getpid(), 9)", "oom", "the process was killed, probably for want of memory"),
        ("sys.exit(137)", "oom", "the process was killed, probably for want of memory"),
        ("raise MemoryError('no room')", "oom", "MemoryError: no room"),
        ("raise ValueError('wrong\\nshape')", "failed", "the process ended with status 1: shape"),
        ("sys.exit(3)", "failed", "the process ended with status 3: no message"),
        ("print('{\"a\": ', end='', flush=True); sys.exit(4)", "failed", "status 4: no message"),
    ],
)
def test_how_a_process_may_end(start: Start, code: str, status: str, reason: str) -> None:
    with pytest.raises(Failure, match=re.escape(reason)) as caught:
        start(code).call("measure", a=1)
    assert caught.value.status == status


def test_a_process_that_does_not_answer_is_ended(start: Start) -> None:
    process = start("time.sleep(600)", timeout_s=0.3)
    for _ in range(2):  # and it stays so
        with pytest.raises(Failure, match=r"^no answer within 0\.3 s$") as caught:
            process.call("measure")
        assert caught.value.status == "timeout"


def test_a_closed_process_leaves_no_open_file(start: Start) -> None:
    before = psutil.Process().num_fds()
    process = start("time.sleep(600)")
    assert psutil.Process().num_fds() > before
    process.close()
    assert psutil.Process().num_fds() == before


def test_threads_of_idle_processes_sleep_before_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert variables()["GOMP_SPINCOUNT"] == "10000"
    assert "OMP_WAIT_POLICY" not in variables()
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert variables()["GOMP_SPINCOUNT"] == "7"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    assert variables()["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "GOMP_SPINCOUNT" not in variables()


# --- the worker of a case ----------------------------------------------------------------------


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return interleaved._Inputs(MOTION, tmp_path).file(BASE)


def failure(case: Case, inputs: Path, **given: Any) -> Failure:
    worker = interleaved.Process(case, inputs, Sampling(**given))
    try:
        with pytest.raises(Failure) as caught:
            worker.ready()
    finally:
        worker.close()
    return caught.value


def test_a_trial_of_a_real_process(inputs: Path) -> None:
    worker = interleaved.Process(H2OT, inputs, Sampling())
    try:
        worker.ready()
        found = worker.trial(9, at_least_s=0.0, at_most=3)
        several = worker.trial(0, at_least_s=60.0, at_most=3, discarded=1)
    finally:
        worker.close()
    assert set(found.readings) == set(interleaved.READINGS)
    assert [len(found.readings[name]) for name in interleaved.READINGS] == [1] * 3
    for total, prune, recover in zip(*several.readings.values(), strict=True):
        assert total > prune + recover > 0
    protocol = several.protocol
    assert (protocol["threads"], protocol["process"], protocol["unheeded"]) == (1, "fresh", 1)
    assert protocol["host_bound"] is None
    assert protocol["before"].keys() == protocol["after"].keys() >= {"load_1m", "frequency_mhz"}


def test_a_case_that_cannot_be_built(inputs: Path) -> None:
    found = failure(replace(H2OT, r=(30,), b=(1,)), inputs)
    assert found.status == "failed"
    assert "r must be" in found.reason


def test_a_case_that_takes_too_long(inputs: Path) -> None:
    found = failure(BASE, inputs, timeout_s=0.05)
    assert (found.status, found.reason) == ("timeout", "no answer within 0.05 s")


def test_a_worker_that_is_killed_leaves_a_typed_row_and_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "METRICS", {})

    class Doomed(interleaved.Process):
        def trial(self, number: int, **arguments: Any) -> Any:
            if number == 1:
                psutil.Process(self.pid).kill()
            return super().trial(number, **arguments)

    usual = interleaved.Process

    def start(case: Case, inputs: Path, sampling: Sampling) -> interleaved.Process:
        return (Doomed if case == H2OT else usual)(case, inputs, sampling)

    monkeypatch.setattr(interleaved, "Process", start)
    path = tmp_path / "records.jsonl"
    other = replace(H2OT, r=(9, 3))
    plan = tables.Plan(exact=(), timed=(BASE, H2OT, other), sampling=Sampling(rounds=3))
    tables.run(plan, path, Context(MOTION), quiet=True)
    found: dict[tuple[Case, str], list[int]] = {}
    for r in store.read(path):
        if r.metric == "latency_s":
            found.setdefault((r.case, r.status), []).append(r.part)
    every = [0, 1, 2]
    assert found == {
        (BASE, "ok"): every, (other, "ok"): every, (H2OT, "ok"): [0], (H2OT, "oom"): [1],
    }  # fmt: skip


# --- the state of the machine ------------------------------------------------------------------


def test_a_state_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = state("cpu")
    assert found["threads"] == torch.get_num_threads()
    monkeypatch.setattr("os.getloadavg", lambda: 1 / 0)
    monkeypatch.setattr("psutil.cpu_freq", lambda: None)
    broken = state("cpu")
    assert (broken["load_1m"], broken["frequency_mhz"]) == (None, None)
    on_gpu = state("cuda")  # whether there is one or not
    assert {"sm_clock_mhz", "throttle", "temperature_c", "power_w", "tf32"} <= set(on_gpu)


def test_throttle_reasons_have_names() -> None:
    assert throttle_names(0) == []
    assert throttle_names(0x24) == ["power cap", "software thermal"]
    assert throttle_names(0x1001) == ["idle", "unknown 0x1000"]


# --- clocks ------------------------------------------------------------------------------------


def test_the_parts_of_a_pass_add_up() -> None:
    sample = clock.Sample(1.0, 0.25, 0.125)
    assert sample.prune_s + sample.recover_s + sample.rest_s == sample.total_s


def test_sections_are_counted_once() -> None:
    timer = clock.SectionTimer(torch.device("cpu"))
    with (
        timer.section("prune"),
        pytest.raises(RuntimeError, match="'recover' begins within 'prune'"),
        timer.section("recover"),
    ):
        pytest.fail("entered")


@pytest.mark.parametrize(
    ("pairs", "flag"),
    [([(1.0, None)], None), ([(1.0, 0.95)], False), ([(1.0, 0.8), (1.0, 0.7), (1.0, 1.0)], True)],
)
def test_host_bound_cases_are_flagged(
    pairs: list[tuple[float, float | None]], flag: bool | None
) -> None:
    samples = [clock.Sample(wall, 0.0, 0.0, device) for wall, device in pairs]
    assert clock.host_bound(samples) is flag


def test_flushing_a_cpu_does_nothing() -> None:
    clock.Flush(torch.device("cpu"))()


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@GPU
def test_the_clock_waits_for_a_sleeping_kernel() -> None:
    device = torch.device("cuda")
    pairs = [clock.sleep_proof(device) for _ in range(5)]
    known, timed = (float(np.median(side)) for side in zip(*pairs, strict=True))
    assert known == pytest.approx(0.05, rel=0.02)
    assert timed == pytest.approx(known, rel=0.02)


@pytest.mark.gpu
@GPU
def test_a_trial_on_a_gpu(tmp_path: Path) -> None:
    case = replace(H2OT, device="cuda")
    inputs = interleaved._Inputs(MOTION, tmp_path).file(case)
    worker = interleaved.Process(case, inputs, Sampling(flush_l2=True))
    try:
        worker.ready()
        found = worker.trial(0, at_least_s=0.0, at_most=3, discarded=3)
    finally:
        worker.close()
    assert found.readings["device_s"][0] > 0
    assert found.protocol["flush_l2"]
    assert isinstance(found.protocol["host_bound"], bool)
