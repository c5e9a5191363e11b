"""Clocks and synchronisation: the only file that reads a clock for a measurement."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from h2ot_core import Hourglass

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One timed forward pass, in seconds."""

    total_s: float
    prune_s: float
    recover_s: float


class SectionTimer:
    """A probe that times sections: by the clock on a CPU, by events in stream order on CUDA."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = defaultdict(list)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
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

    def seconds(self, name: str) -> float:
        """Time spent in a section so far; on CUDA the device must have been waited for."""
        spans = sum(end - start for start, end in self._spans[name])
        return spans + sum(a.elapsed_time(b) for a, b in self._events[name]) / 1e3


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_forward(model: Hourglass, x: Tensor) -> Sample:
    """Time one forward pass, from before it is issued until its result exists."""
    probe = SectionTimer(x.device)
    total = time_call(lambda: model.run(x, probe=probe), x.device)
    return Sample(total, probe.seconds("prune"), probe.seconds("recover"))


def now() -> float:
    """Seconds since some fixed moment, for budgets and progress."""
    return time.perf_counter()


def slowed(work: Callable[P, T], share: float) -> Callable[P, T]:
    """The same work, followed by busy waiting for a share of the time it took.

    Args:
        work: must be done when it returns, as on a CPU.
        share: 0.05 makes it take 5% longer.
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
    """Take samples until they add up to a duration, at least one and at most ``at_most``."""
    samples: list[Sample] = []
    while not samples or (len(samples) < at_most and sum(s.total_s for s in samples) < at_least_s):
        samples.append(once())
    return samples


def time_call(work: Callable[[], object], device: torch.device) -> float:
    """Time one call, from before it is issued until the device has done it, in seconds."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def wait_until(moment: float) -> None:
    """Sleep until :func:`now` reads ``moment``, the last millisecond awake; back at once if past.

    A sleep ends late by a fraction of a millisecond, which would be taken for latency.
    """
    while (left := moment - time.perf_counter()) > 0:
        if left > 2e-3:
            time.sleep(left - 1e-3)
