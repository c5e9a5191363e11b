"""Does the harness measure what it says, on this machine? Checks against known truths."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from bench.data.windows import MotionSource
from bench.models.build import measured_model
from bench.records.case import Case
from bench.records.session import require_device
from bench.scenarios import self_check_memory
from bench.timing import clock, interleaved
from bench.timing.sampling import Sampling
from bench.timing.statistics import Estimate, interleaved_ratio, median_interval
from bench.workers import isolated

MOTION_FRAMES = 162
_ROUNDS = 60  # at least, and always an even number
_TIMEOUT_S = 15.0  # to make a noisy property clear
_IDLE_S = 3.0
_DRIFT = 0.1
_REST_S = 0.02  # a process that never sleeps is preempted

PASS, FAIL, UNCLEAR, SKIPPED = "pass", "FAIL", "unclear", "skipped"


@dataclass(frozen=True)
class Check:
    """The result for one property.

    Attributes:
        name: of the property.
        found: the deviation, as text.
        limit: what is allowed, as text.
        verdict: "pass", "FAIL", "unclear" (the machine is too noisy to say) or "skipped".
    """

    name: str
    found: str
    limit: str
    verdict: str


def run(device: str, log: Callable[[str], None]) -> list[Check]:
    """Run all checks, about a minute.

    Args:
        device: "cpu" or "cuda".
        log: called with what is being checked.

    Raises:
        bench.records.errors.UsageError: if the device is not there.
    """
    require_device(device)
    found: list[Check] = []
    for check in (kernel_of_known_length, stages, probe_cost, drift, idle_workers, memory):
        log((check.__doc__ or "").splitlines()[0].rstrip("."))
        found += check(device)
    return found


def exit_status(checks: Sequence[Check]) -> int:
    """0 all passed or were skipped, 1 one failed, 3 none failed but some were unclear."""
    verdicts = {check.verdict for check in checks}
    return 1 if FAIL in verdicts else 3 if UNCLEAR in verdicts else 0


def judged(name: str, known: Estimate, limit: float) -> Check:
    """Whether a ratio that should be 1 is closer to it than ``limit``."""
    off = known.value - 1
    text = f"{100 * off:+.2f}%"
    if known.low is None or known.high is None:
        return Check(name, text, f"{100 * limit:g}%", PASS if abs(off) < limit else FAIL)
    text += f" [{100 * (known.low - 1):+.2f}, {100 * (known.high - 1):+.2f}]"
    if -limit < known.low - 1 and known.high - 1 < limit:
        verdict = PASS
    elif known.low - 1 >= limit or known.high - 1 <= -limit:
        verdict = FAIL
    else:
        verdict = UNCLEAR
    return Check(name, text, f"{100 * limit:g}%", verdict)


def _settled(
    name: str, limit: float, rounds: Callable[[], object], known: Callable[[], Estimate]
) -> Check:
    """Run rounds until the verdict is clear or the time is up."""
    end = clock.now() + _TIMEOUT_S
    while True:
        rounds()
        check = judged(name, known(), limit)
        if check.verdict != UNCLEAR or clock.now() > end:
            return check


def kernel_of_known_length(device: str) -> Iterator[Check]:
    """A kernel of known length: does the clock wait for the device."""
    name = "sleeping kernel, timed over known"
    if device != "cuda":
        yield Check(name, "no CUDA device asked for", "2%", SKIPPED)
        return
    pairs = [clock.sleep_proof(torch.device(device)) for _ in range(20)]
    yield judged(name, median_interval([timed / known for known, timed in pairs]), 0.02)


class _Known(torch.nn.Module):
    """Has the interface of a model; its stages last known times, in seconds."""

    def __init__(self, prune_s: float, recover_s: float, rest_s: float) -> None:
        super().__init__()
        self.lengths = (prune_s, recover_s, rest_s)

    def run(self, x: Tensor, *, probe: Any) -> None:
        """Spend the time."""
        prune_s, recover_s, rest_s = self.lengths
        clock.spin(rest_s / 2)
        with probe.section("prune"):
            clock.spin(prune_s)
        clock.spin(rest_s / 2)
        with probe.section("recover"):
            clock.spin(recover_s)


def stages(device: str) -> Iterator[Check]:
    """Stages of known length: do they read so, and add up to the whole."""
    lengths = {"prune": 0.003, "recover": 0.002, "rest": 0.008}
    model: Any = _Known(*lengths.values())
    x = torch.zeros(1)
    samples: list[clock.Sample] = []

    def rounds() -> None:
        for _ in range(_ROUNDS):
            clock.pause(_REST_S)
            samples.append(clock.time_forward(model, x))

    def over_known(name: str) -> Estimate:
        return median_interval([getattr(s, f"{name}_s") / lengths[name] for s in samples])

    for name in lengths:
        title = f"stage {name!r}, timed over known"
        yield _settled(title, 0.03, rounds, partial(over_known, name))
    known = sum(lengths.values())
    yield _settled(
        "sum of known stages over end to end", 0.03, rounds,
        lambda: median_interval([known / s.total_s for s in samples]),
    )  # fmt: skip


def probe_cost(device: str) -> Iterator[Check]:
    """Passes with and without instrumentation, in turn."""
    case = Case(
        host="mixste", frames=81, prune="tps", recover="tri", r=(41, 27), b=(0, 3), device=device,
        options=(("depth", 4), ("heads", 4), ("width", 64)),
    )  # fmt: skip
    model, where = measured_model(case), torch.device(device)
    x = torch.rand(1, 81, 17, 2, device=device) * 2 - 1
    plain: list[float] = []
    probed: list[float] = []

    def with_probe() -> float:
        probe = clock.SectionTimer(where)
        return clock.time_call(lambda: model.run(x, probe=probe), where)

    def without() -> float:
        return clock.time_call(lambda: model.run(x), where)

    def rounds() -> None:
        for turn in range(_ROUNDS):
            order = [(without, plain), (with_probe, probed)]
            for work, series in order if turn % 2 == 0 else order[::-1]:
                series.append(work())

    with torch.inference_mode():
        for _ in range(5):
            without(), with_probe()
        yield _settled(
            "instrumented over plain pass", 0.01, rounds, lambda: interleaved_ratio(plain, probed)
        )


def drift(device: str) -> Iterator[Check]:
    """Work of known lengths on a clock that drifts by a tenth, in turn."""
    lengths = (0.004, 0.002)
    samples: tuple[list[float], list[float]] = ([], [])
    cpu = torch.device("cpu")

    def rounds() -> None:
        for turn in range(_ROUNDS):
            for place, side in enumerate((0, 1) if turn % 2 == 0 else (1, 0)):
                slow = 1 + _DRIFT * (2 * turn + place) / (2 * _ROUNDS - 1)
                work = partial(clock.spin, lengths[side] * slow)
                # Divided by the known length, so that the ratio should be 1.
                samples[side].append(clock.time_call(work, cpu) / lengths[side])

    yield _settled(
        "ratio under 10% drift, timed over known", 0.005, rounds,
        lambda: interleaved_ratio(*samples),
    )  # fmt: skip


def idle_workers(device: str) -> Iterator[Check]:
    """Processor time of workers that wait for their turn."""
    motion = MotionSource.generated(frames=MOTION_FRAMES)
    case = Case(host="mixste", frames=81, device=device, motion=motion.name)
    workers: list[interleaved.Process] = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = interleaved._Inputs(motion, Path(folder)).file(case)
        try:
            workers += [interleaved.Process(case, inputs, Sampling()) for _ in range(3)]
            for worker in workers:
                worker.ready()
                worker.trial(0, at_least_s=0.0, at_most=1)
            clock.pause(0.5)
            before, began = [_cpu_s(w) for w in workers], clock.now()
            clock.pause(_IDLE_S)
            passed = clock.now() - began
            used = [_cpu_s(w) - b for w, b in zip(workers, before, strict=True)]
        finally:
            for worker in workers:
                worker.close()
    share = max(used) / passed
    verdict = PASS if share < 0.01 else FAIL
    yield Check("processor time of an idle worker", f"{100 * share:.2f}%", "1%", verdict)


def _cpu_s(worker: interleaved.Process) -> float:
    times = psutil.Process(worker.pid).cpu_times()
    return float(times.user + times.system)


def memory(device: str) -> Iterator[Check]:
    """An allocation of 1 GiB, read as the memory metrics do."""
    # On a GPU the host's reading is checked too.
    for where in dict.fromkeys(("cpu", device)):
        reading = isolated.call(
            "bench.scenarios.self_check_memory", Case(host="mixste", frames=27, device=where)
        )
        if where == "cpu" and not reading["reset"]:
            yield Check("1 GiB, process", "peaks cannot be reset here", "2%", SKIPPED)
            continue
        for name, grown in reading["grown"].items():
            off = grown / self_check_memory.BYTES - 1
            verdict = PASS if abs(off) < 0.02 else FAIL
            yield Check(f"1 GiB, {name}", f"{100 * off:+.2f}%", "2%", verdict)


def summary(checks: Sequence[Check]) -> str:
    """How many passed, in words."""
    counts = {v: sum(c.verdict == v for c in checks) for v in (PASS, FAIL, UNCLEAR, SKIPPED)}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
