"""Sweeps and latency on tiny models: complete, resumable, in turn, whatever fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import h2ot_core
from bench.data.windows import MotionSource
from bench.metrics import METRICS, runner
from bench.metrics.base import NotApplicable, Reading
from bench.models.context import Context
from bench.records import store
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.record import Record
from bench.records.status import Failure, excuse
from bench.records.store import open_store
from bench.scenarios import tables
from bench.timing import clock, interleaved
from bench.timing import sampling as rounds
from bench.timing.sampling import Sampling, Trial
from bench.timing.worker import TimedCase

MOTION = MotionSource.generated(frames=54)
CONTEXT = Context(MOTION)
BASE = Case(
    host="mixste",
    frames=27,
    options=(("depth", 3), ("heads", 2), ("width", 16)),
    motion=MOTION.name,
)
HOT = replace(BASE, prune="tpc", recover="tra", r=(9,), b=(1,))
TPA = replace(BASE, prune="tpa", recover="tra", r=(13, 9), b=(1, 2))
H2OT = replace(BASE, prune="tps", recover="tri", r=(13, 9), b=(0, 2))
CASES = (BASE, HOT, TPA, H2OT)
PLAN = tables.Plan(exact=CASES, timed=CASES, trainable=CASES[:2], sampling=Sampling(rounds=3))
GROUP = interleaved.group_name(CASES)

Identity = tuple[Case, str, str, int]


def complete(plan: tables.Plan) -> Counter[Identity]:
    """What a finished sweep holds, each once."""
    taken = [
        (case, reading, "", 0)
        for metric in METRICS.values()
        for case in getattr(plan, metric.of)
        for reading in metric.readings
    ]
    assert plan.sampling.rounds is not None
    timed = [
        (case, reading, interleaved.group_name(group), part)
        for group in interleaved.groups(plan.timed)
        for case in group
        for reading in interleaved.READINGS
        for part in range(plan.sampling.rounds)
    ]
    return Counter(taken + timed)


def held(path: Path) -> Counter[Identity]:
    return Counter(record.identity for record in store.read(path))


def constant(names: Sequence[str]) -> Callable[[Case, Context], list[Reading]]:
    return lambda case, context: [Reading(metric=n, unit="1", values=(1,)) for n in names]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny layers gain nothing from more, and on a busy machine lose much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def leave_out(patch: pytest.MonkeyPatch, *but: str) -> None:
    """Replace metrics by constants, time in this process, and take few samples per trial."""
    for name, metric in METRICS.items():
        if name not in but:
            patch.setitem(METRICS, name, replace(metric, measure=constant(metric.readings)))
    patch.setattr(interleaved, "Process", Here)
    patch.setattr(rounds, "TRIAL_SAMPLES", 2)


class Here:
    """A worker in this process, which a test can reach into."""

    def __init__(self, case: Case, inputs: Path, sampling: Sampling) -> None:
        self.setup = {"case": case.to_json(), "inputs": str(inputs), "threads": 1, "flush": False}

    def ready(self) -> None:
        self.timed = TimedCase()
        self.facts = self.timed.build(**self.setup)["facts"]

    def trial(self, number: int, *, at_least_s: float, at_most: int, discarded: int = 0) -> Trial:
        try:
            found = self.timed.trial(number, at_least_s, at_most, discarded)
        except Exception as error:
            raise Failure(**excuse(error)) from None
        return Trial(found.pop("readings"), {**self.facts, **found})

    def close(self) -> None:
        pass


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure latency alone."""
    leave_out(monkeypatch)


@pytest.fixture(scope="module")
def finished(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of all that needs no process of its own."""
    path = tmp_path_factory.mktemp("finished") / "records.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        leave_out(patch, "counts", "frame_noise")
        run(path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


def run(path: Path, plan: tables.Plan = PLAN) -> list[Record]:
    tables.run(plan, path, CONTEXT, quiet=True)
    return store.read(path)


# --- what a sweep records ----------------------------------------------------------------------


def test_everything_is_recorded_once(finished: Path) -> None:
    records = store.read(finished)
    assert held(finished) == complete(PLAN)
    refused = {(r.case, r.metric, r.status) for r in records if r.status != "ok"}
    noise = ("frame_noise_px", "frame_noise_all_px")
    assert refused == {(case, name, "skipped") for case in (HOT, TPA) for name in noise}
    assert {r.reason for r in records if r.status != "ok"} == {
        "which frames it keeps depends on weights, and these are not trained"
    }
    assert len({r.session for r in records}) == 1
    assert len({r.environment["fingerprint"] for r in records}) == 1


def test_what_the_records_say(finished: Path) -> None:
    found = {r.identity: r for r in store.read(finished)}
    for case in CASES:
        model = h2ot_core.build(**case.build_arguments())
        parameters = found[case, "param_count", "", 0]
        assert parameters.values == (sum(p.numel() for p in model.parameters()),)
        full = found[case, "flops_full", "", 0].values
        for breakdown in ("kind", "section", "module"):
            record = found[case, f"flops_full_by_{breakdown}", "", 0]
            assert sum(record.values) == full[0]
            assert len(set(record.labels)) == len(record.labels) == len(record.values)
        for part in range(3):
            series = [
                found[case, reading, GROUP, part].values
                for reading in ("latency_s", "prune_s", "recover_s")
            ]
            for total, prune, recover in zip(*series, strict=True):
                assert total > prune + recover >= 0
                assert (prune > 0, recover > 0) == (case.prune is not None,) * 2


def test_a_finished_sweep_has_nothing_left_to_do(
    path: Path, cheap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(path)
    before = path.read_bytes()

    def fail(*_: Any) -> Any:
        pytest.fail("measured again")

    for name, metric in METRICS.items():
        monkeypatch.setitem(METRICS, name, replace(metric, measure=fail))
    monkeypatch.setattr(clock, "time_forward", fail)
    run(path)
    assert path.read_bytes() == before


def test_rounds_go_forwards_and_backwards(path: Path, cheap: None) -> None:
    visits = [(r.part, r.case) for r in run(path) if r.metric == "latency_s"]
    assert interleaved.groups(CASES) == [CASES]
    forwards = [BASE, HOT, TPA, H2OT]
    assert visits == [
        (part, case)
        for part, order in enumerate([forwards, forwards[::-1], forwards])
        for case in order
    ]


def test_a_case_named_twice_is_measured_once(path: Path, cheap: None) -> None:
    plan = tables.Plan(exact=(BASE, H2OT), timed=(BASE, H2OT), sampling=Sampling(rounds=1))
    run(path, replace(plan, exact=(BASE, H2OT, BASE)))
    assert held(path) == complete(plan)


# --- interruptions -----------------------------------------------------------------------------


def interrupting(at: int) -> Callable[..., Any]:
    """A progress line at whose n-th step the user presses Ctrl-C."""
    left = at

    @contextmanager
    def progress(title: str, total: int, quiet: bool) -> Iterator[Callable[[str], None]]:
        def tick(label: str, done: float = 1) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

        yield tick

    return progress


def steps(plan: tables.Plan) -> int:
    """How often a sweep moves on."""
    taken = sum(len(getattr(plan, metric.of)) for metric in METRICS.values())
    assert plan.sampling.rounds is not None
    return taken + len(plan.timed) * plan.sampling.rounds


STEPS = steps(PLAN)


@pytest.mark.parametrize("at", [1, 3, len(CASES) + 1, STEPS - 11, STEPS - 6, STEPS - 5])
def test_an_interrupted_sweep_goes_on(
    path: Path, at: int, monkeypatch: pytest.MonkeyPatch, cheap: None
) -> None:
    with monkeypatch.context() as patch:
        stop = interrupting(at)
        for module in (tables, runner):
            patch.setattr(module, "progress", stop)
        with pytest.raises(KeyboardInterrupt):
            run(path)
    before = path.read_bytes()
    assert 0 < len(held(path)) < len(complete(PLAN))
    run(path)
    assert held(path) == complete(PLAN)
    assert path.read_bytes().startswith(before)


def test_a_sweep_interrupted_at_every_step_ends_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch, cheap: None
) -> None:
    plan = tables.Plan(exact=(BASE, H2OT), timed=(BASE, H2OT), sampling=Sampling(rounds=3))
    interruptions = 0
    while True:
        stop = interrupting(1)
        for module in (tables, runner):
            monkeypatch.setattr(module, "progress", stop)
        try:
            run(path, plan)
        except KeyboardInterrupt:
            interruptions += 1
            assert max(held(path).values()) == 1
            continue
        break
    assert held(path) == complete(plan)
    assert interruptions == steps(plan)


def test_a_crash_within_any_line_loses_that_line_alone(
    path: Path, cheap: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run(path)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for last in (1, len(lines) // 2, len(lines) - 5, len(lines) - 4, len(lines) - 3):
        # The third of them cuts a visit in two.
        path.write_bytes(b"".join(lines[:last]) + lines[last][:40])
        run(path)
        assert held(path) == complete(PLAN)
        assert "set aside a torn last line" in capsys.readouterr().err


# --- failures ----------------------------------------------------------------------------------

ERRORS = [
    (torch.OutOfMemoryError("out of memory.\nTried to allocate"), "oom", "out of memory."),
    (MemoryError(), "oom", "MemoryError"),
    (RuntimeError("\nlaunch failure\nat 0x0"), "failed", "launch failure"),
    (ValueError("wrong shape"), "failed", "wrong shape"),
]
IDS = [type(error).__name__ for error, _, _ in ERRORS]


def failing(error: Exception, of: str, after: int) -> Callable[..., clock.Sample]:
    """A clock under which the models of one pruner fail after so many passes."""
    passes = 0

    def time_forward(
        model: h2ot_core.Hourglass, x: torch.Tensor, *, flush: Any = None
    ) -> clock.Sample:
        nonlocal passes
        if model.config.prune == of:
            passes += 1
            if passes > after:
                raise error
        return clock.Sample(0.5, 0.1, 0.1)  # a visit of one sample

    return time_forward


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize(("error", "status", "reason"), ERRORS, ids=IDS)
def test_a_case_that_fails_in_time_says_so_and_stops_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, cheap: None, error: Exception, status: str,
    reason: str, after: int,
) -> None:  # fmt: skip
    warm = 6  # passes, of which the last five show no trend
    monkeypatch.setattr(clock, "time_forward", failing(error, "tpa", warm + after))
    records = run(path)
    failed = [r for r in records if r.status != "ok"]
    assert {(r.case, r.metric, r.part) for r in failed} == {
        (TPA, reading, after) for reading in ("latency_s", "prune_s", "recover_s")
    }
    assert {(r.status, r.reason, r.values) for r in failed} == {(status, reason, ())}
    expected = complete(PLAN)
    for identity in list(expected):
        if identity[0] == TPA and identity[2] and identity[3] > after:
            del expected[identity]
    assert held(path) == expected
    again = run(path)  # a case that failed is not tried again
    assert again == records


@pytest.mark.parametrize(("error", "status", "reason"), ERRORS, ids=IDS)
def test_a_metric_that_fails_says_so_and_stops_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, cheap: None, error: Exception, status: str,
    reason: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(clock, "time_forward", failing(error, "none", 0))
    metric = METRICS["counts"]

    def measure(case: Case, context: Context) -> list[Reading]:
        if case == HOT:
            raise error
        return metric.measure(case, context)

    monkeypatch.setitem(METRICS, "counts", replace(metric, measure=measure))
    records = run(path)
    assert held(path) == complete(PLAN)
    failed = {(r.case, r.metric, r.status, r.reason) for r in records if r.status != "ok"}
    assert failed == {(HOT, reading, status, reason) for reading in metric.readings}


def test_a_metric_that_does_not_apply_is_skipped(
    path: Path, monkeypatch: pytest.MonkeyPatch, cheap: None
) -> None:
    def measure(case: Case, context: Context) -> list[Reading]:
        raise NotApplicable("means nothing here")

    metric = replace(METRICS["counts"], measure=measure)
    monkeypatch.setitem(METRICS, "counts", metric)
    skipped = [r for r in run(path) if r.status == "skipped"]
    assert len(skipped) == len(CASES) * len(metric.readings)
    assert {r.reason for r in skipped} == {"means nothing here"}


# --- latency -----------------------------------------------------------------------------------


def test_a_group_is_a_set_of_cases() -> None:
    assert interleaved.group_name(CASES) == interleaved.group_name(CASES[::-1])
    others = [CASES[:3], CASES[1:], (*CASES[:3], replace(H2OT, batch=2))]
    assert len({GROUP, *map(interleaved.group_name, others)}) == 4


def example(case: Case, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((batch, case.frames, 17, 2), generator=generator)


def test_input_that_is_not_finite_is_refused(path: Path, cheap: None) -> None:
    class Broken(MotionSource):
        def windows(self, *arguments: Any, **options: Any) -> Any:
            found = MOTION.windows(*arguments, **options)
            bad = np.full_like(found[0].input, np.nan)
            return [*found[:-1], replace(found[-1], input=bad)]

    broken = Broken(MOTION.name, "", lambda split: [], MOTION.noise)
    with pytest.raises(UsageError, match="holds poses that are not finite"):
        tables.run(replace(PLAN, sampling=Sampling(rounds=8)), path, Context(broken), quiet=True)
    assert not [r for r in store.read(path) if r.status != "ok"]


@pytest.mark.parametrize("other", [{"threads": 1}, {"device": "cuda"}])
def test_cases_timed_together_share_their_machine(path: Path, other: dict[str, Any]) -> None:
    cases = (BASE, replace(H2OT, **other))
    with (
        open_store(path, environment="", note=[]) as opened,
        pytest.raises(UsageError, match="must share device and threads"),
    ):
        interleaved.measure(cases, Sampling(rounds=1), opened, CONTEXT, {}, lambda *_: None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(path: Path, cheap: None) -> None:
    case = replace(BASE, device="cuda")
    with pytest.raises(UsageError, match="no CUDA device here; use --device cpu"):
        run(path, tables.Plan(exact=(case,), timed=(case,)))


def test_every_case_gets_the_same_clips_and_every_round_others(tmp_path: Path) -> None:
    inputs = interleaved._Inputs(CONTEXT.motion, tmp_path)
    two = replace(BASE, batch=2)
    assert inputs.file(BASE) == inputs.file(H2OT)
    rounds = np.load(inputs.file(two))
    assert rounds.shape == (8, 2, 27, 17, 2)
    assert rounds.dtype == np.float32
    assert len({x.tobytes() for x in rounds}) == 8
    windows = {w.input.tobytes() for w in MOTION.windows(27)}
    assert all(clip.tobytes() in windows for x in rounds for clip in x)


# --- clocks ------------------------------------------------------------------------------------


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves by one second whenever it is read."""
    readings = iter(range(1000))
    monkeypatch.setattr("bench.timing.clock.time.perf_counter", lambda: float(next(readings)))


@pytest.mark.parametrize(
    ("case", "sample"),
    [
        # Two readings around the pass, and two around every section within.
        (BASE, (1, 0, 0)),
        (H2OT, (9, 2, 2)),  # two stages; marking and recovering
        (HOT, (7, 1, 2)),
    ],
)
def test_a_pass_and_its_sections(
    ticking: None, case: Case, sample: tuple[float, float, float]
) -> None:
    model = h2ot_core.build(**case.build_arguments()).eval()
    assert clock.time_forward(model, example(case, 1)) == clock.Sample(*sample)


@pytest.mark.parametrize(
    ("durations", "taken"),
    [
        ([0.2], 1),  # one long pass
        ([0.05] * 9, 4),  # until they add up
        ([0.01] * 9, 6),  # at most
        ([0.0] * 9, 6),
        ([0.1, 0.3], 2),
    ],
)
def test_how_often_a_visit_repeats(durations: list[float], taken: int) -> None:
    samples = (clock.Sample(duration, 0, 0) for duration in durations)
    found = clock.repeat(lambda: next(samples), at_least_s=0.2, at_most=6)
    assert [s.total_s for s in found] == durations[:taken]
