"""Clocks and synchronisation: the only file that reads a clock for a measurement."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from bench.models.torch_private import cuda_sleep
from h2ot_core import Hourglass

P = ParamSpec("P")
T = TypeVar("T")


HOST_BOUND = 0.1
"""Share by which wall time must exceed device time for a case to count as host-bound."""

_CALIBRATION = (2_000_000, 20_000_000)  # cycles of two kernels, 1 and 10 ms at 2 GHz


@dataclass(frozen=True)
class Sample:
    """One timed forward pass, in seconds.

    Attributes:
        total_s: wall time, from before it is issued until its result exists.
        prune_s, recover_s: of it, in the sections of that name.
        device_s: on CUDA, what the device alone needs for such a pass; None on a CPU, and for a
            PyTorch without a sleeping kernel.
    """

    total_s: float
    prune_s: float
    recover_s: float
    device_s: float | None = None

    @property
    def rest_s(self) -> float:
        """Time of everything else; the three add up to ``total_s``."""
        return self.total_s - self.prune_s - self.recover_s


def host_bound(samples: Sequence[Sample]) -> bool | None:
    """Whether wall time is mostly more than 10% above device time; None on a CPU."""
    shares = [s.total_s / s.device_s - 1 for s in samples if s.device_s]
    return median(shares) > HOST_BOUND if shares else None


class SectionTimer:
    """A probe that times sections: by the clock on a CPU, by events in stream order on CUDA.

    Sections do not nest, so that none is counted twice.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._open = ""
        self._spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = defaultdict(list)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Time what runs inside.

        Raises:
            RuntimeError: within another section.
        """
        if self._open:
            raise RuntimeError(f"section {name!r} begins within {self._open!r}; end that first")
        self._open = name
        if self._cuda:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            yield
            last.record()
            self._events[name].append((first, last))
        else:
            start = time.perf_counter()
            yield
            self._spans[name].append((start, time.perf_counter()))
        self._open = ""

    def seconds(self, name: str) -> float:
        """Time spent in a section so far; on CUDA the device must have been waited for."""
        spans = sum(end - start for start, end in self._spans[name])
        return spans + sum(a.elapsed_time(b) for a, b in self._events[name]) / 1e3


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_forward(model: Hourglass, x: Tensor, *, flush: Flush | None = None) -> Sample:
    """Time one forward pass, and on CUDA a second one by the device's own events.

    Args:
        model: in evaluation mode, on the device of x.
        x: (B, F, J, C_in).
        flush: empties the device's cache before each pass.
    """
    probe = SectionTimer(x.device)
    if flush is not None:
        flush()
    total = time_call(lambda: model.run(x, probe=probe), x.device)
    device = None
    if x.device.type == "cuda" and hasattr(torch.cuda, "_sleep"):
        if flush is not None:
            flush()
        device = device_time(lambda: model.run(x), x.device, behind_s=1.5 * total)
    return Sample(total, probe.seconds("prune"), probe.seconds("recover"), device)


def device_time(work: Callable[[], object], device: torch.device, *, behind_s: float) -> float:
    """Time by events what a CUDA device needs for one call, in seconds.

    A kernel of about ``behind_s`` seconds keeps the device waiting until the host has issued
    everything, so that no gap between launches counts. Work that itself waits for the device is
    timed with the gaps that follow.
    """
    synchronise(device)
    cuda_sleep(int(min(behind_s, 1.0) * _cycles_per_s(device)))
    return _event_time(work, device)


def _event_time(work: Callable[[], object], device: torch.device) -> float:
    """Seconds between two events around a call, in stream order."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    work()
    last.record()
    synchronise(device)
    return first.elapsed_time(last) / 1e3


@cache
def _cycles_per_s(device: torch.device) -> float:
    """How many cycles of a sleeping kernel the device counts in a second."""

    def seconds(cycles: int) -> float:
        return _event_time(lambda: cuda_sleep(cycles), device)

    few, many = _CALIBRATION
    seconds(many)  # raises the clock rate
    # A difference, so that the time of the launch is in neither.
    return (many - few) / (seconds(many) - seconds(few))


def sleep_proof(device: torch.device, *, length_s: float = 0.05) -> tuple[float, float]:
    """Time a CUDA kernel of known length, to prove that the clock waits for the device.

    Returns:
        Its length by the device's events, and as :func:`time_call` measures it; in seconds. A
        clock that does not wait reads some microseconds.
    """
    cycles = int(length_s * _cycles_per_s(device))
    known = device_time(lambda: cuda_sleep(cycles), device, behind_s=0.001)
    return known, time_call(lambda: cuda_sleep(cycles), device)


class Flush:
    """Empties a CUDA device's L2 cache by writing a buffer twice its size; nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        size = 0
        if device.type == "cuda":
            size = 2 * int(torch.cuda.get_device_properties(device).L2_cache_size)
        self._buffer = torch.empty(size, dtype=torch.uint8, device=device)

    def __call__(self) -> None:
        """Write the buffer; the next measurement begins when that is done."""
        self._buffer.zero_()


def now() -> float:
    """Seconds since an arbitrary fixed moment, for budgets and progress."""
    return time.perf_counter()


def slowed(work: Callable[P, T], share: float) -> Callable[P, T]:
    """The same work, followed by busy waiting for a share of its duration.

    Args:
        work: must be finished when it returns, as on a CPU.
        share: 0.05 makes it 5% slower.
    """

    def longer(*args: P.args, **kwargs: P.kwargs) -> T:
        start = time.perf_counter()
        result = work(*args, **kwargs)
        end = time.perf_counter()
        end += share * (end - start)
        while time.perf_counter() < end:
            pass
        return result

    return longer


def repeat(once: Callable[[], Sample], *, at_least_s: float, at_most: int) -> list[Sample]:
    """Repeat until the samples add up to ``at_least_s`` seconds, or ``at_most`` is reached."""
    samples: list[Sample] = []
    while not samples or (len(samples) < at_most and sum(s.total_s for s in samples) < at_least_s):
        samples.append(once())
    return samples


def pause(seconds: float) -> None:
    """Do nothing for a while."""
    time.sleep(seconds)


def spin(seconds: float) -> None:
    """Keep the processor busy for a while: work of known length."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def time_call(work: Callable[[], object], device: torch.device) -> float:
    """Time one call, from before it is issued until the device has done it, in seconds."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def wait_until(moment: float) -> None:
    """Sleep until :func:`now` reads ``moment``, the last millisecond awake; back at once if past.

    A sleep ends late by a fraction of a millisecond, which would count as latency.
    """
    while (left := moment - time.perf_counter()) > 0:
        if left > 2e-3:
            time.sleep(left - 1e-3)


def trial(
    work: Callable[[], object], device: torch.device, *, at_least_s: float = 0.2, at_most: int = 20
) -> list[float]:
    """Time a call until ``at_least_s`` or ``at_most`` is reached.

    Args:
        work: warmed up by the caller.
        device: waited for before and after each call.
        at_least_s: sum of the samples, in seconds.
        at_most: number of samples.

    Returns:
        Seconds of each call, at least one.
    """

    def once() -> Sample:
        return Sample(time_call(work, device), 0.0, 0.0)

    return [one.total_s for one in repeat(once, at_least_s=at_least_s, at_most=at_most)]
