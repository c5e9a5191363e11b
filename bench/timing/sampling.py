"""Rounds of trials with a few workers in turn: the order, and when to stop.

Reads no clock and starts no process: both are arguments, so that a test can simulate them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.records.case import Case
from bench.records.status import Failure
from bench.timing.statistics import (
    MIN_SAMPLES,
    Estimate,
    median_interval,
    paired,
    rounds_ratio,
    stationary,
)

MAX_ROUNDS = 60
"""Rounds after which sampling stops, however noisy a case is."""

# A trial has one sample of a long forward pass, and several of a short one.
TRIAL_S, TRIAL_SAMPLES = 0.2, 20
_WARMUP = (2, 40)  # passes, at least and at most
_WARMUP_SHARE = 0.2  # of a case's share of the budget
_LEVEL_OF = 5  # passes that must show no trend; the first is never among them


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How long cases are sampled.

    Attributes:
        rounds: number for every case; None for as many as width and budget ask for.
        width: half the 95% interval of the median, as a share of it, that is narrow enough.
        ratio_width: likewise of the ratio to the baseline.
        budget_s: seconds for all cases together, warm-up and start of processes included; every
            case has a share by its FLOPs.
        timeout_s: seconds to wait for one trial before its status is "timeout".
        max_workers: maximum of processes at once, the baseline's among them.
        flush_l2: whether a CUDA device's cache is emptied before every pass.
    """

    rounds: int | None = None
    width: float = 0.02
    ratio_width: float = 0.03
    budget_s: float = 780.0
    timeout_s: float = 300.0
    max_workers: int = 4
    flush_l2: bool = False

    def __post_init__(self) -> None:
        least = {"rounds": 1, "width": 0, "ratio_width": 0, "budget_s": 0, "max_workers": 2}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise ValueError(f"{name} must be at least {smallest}, got {value}")


@dataclass(frozen=True)
class Trial:
    """One worker's samples of one round: by reading, in seconds, and how they were measured."""

    readings: Mapping[str, Sequence[float]]
    protocol: Mapping[str, Any] = field(default_factory=dict)


class Worker(Protocol):
    """A process that measures one case; every method may raise :class:`Failure`."""

    def ready(self) -> None:
        """Return when its model is built."""
        ...

    def trial(self, turn: int, *, at_least_s: float, at_most: int, discarded: int = 0) -> Trial:
        """Measure samples on the input of a round; see ``bench.timing.worker``."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Log(Protocol):
    """Where trials are kept; ``failed`` has the cases that are not tried again."""

    failed: set[Case]

    def has(self, case: Case, number: int) -> bool:
        """Whether a trial is there, or the case has failed."""
        ...

    def lacks(self, case: Case) -> int:
        """The first round of which a case has no trial."""
        ...

    def add(self, case: Case, number: int, found: Trial | Failure) -> None:
        """Keep a trial, or why there is none."""
        ...

    def medians(self, case: Case) -> Mapping[int, tuple[str, float]]:
        """Round to session and median latency of every trial that was kept."""
        ...


@dataclass
class Warm:
    """A warmed-up worker: number of passes, the shortest in seconds, whether they were level."""

    passes: int
    pass_s: float
    level: bool

    @classmethod
    def up(cls, worker: Worker, limit_s: float, now: Callable[[], float]) -> Warm:
        """Run passes that are not kept, until they show no trend or there is no more time."""
        passes: list[float] = []
        end, level = now() + limit_s, False
        while len(passes) < _WARMUP[1] and not level:
            if len(passes) >= _WARMUP[0] and now() >= end:
                break
            passes += worker.trial(0, at_least_s=0.0, at_most=1).readings["latency_s"]
            level = len(passes) > _LEVEL_OF and stationary(passes[1:], window=_LEVEL_OF)
        return cls(len(passes), min(passes[1:]), level)


class Rounds:
    """The trials of one group: forwards in even rounds, backwards in odd ones.

    Args:
        cases: the baseline first.
        sampling: when it is enough.
        log: has the trials of before, and keeps those of now.
        now: a clock in seconds.
    """

    def __init__(
        self, cases: Sequence[Case], sampling: Sampling, log: Log, now: Callable[[], float]
    ) -> None:
        self.cases, self.sampling, self.log, self.now = cases, sampling, log, now
        self._longest = 0.0
        self._narrow = 0

    def first(self) -> int:
        """The first round that lacks a trial; 0 where every case has failed."""
        lacking = [self.log.lacks(case) for case in self.cases if case not in self.log.failed]
        return min(lacking, default=0)

    def run(
        self,
        workers: Mapping[Case, Worker],
        warm: Mapping[Case, Warm],
        deadline: float,
        tick: Callable[[Case], None],
    ) -> tuple[int, str]:
        """Measure rounds until one of the stopping criteria holds.

        Args:
            workers: of the cases that have one; a worker that fails is closed.
            warm: of the same cases.
            deadline: on the clock; at least two rounds are measured all the same.
            tick: called after each trial.

        Returns:
            How many rounds there are, and why they ended: "rounds", "width", "budget" or "failed".
        """
        active = dict(workers)
        number = self.first()
        while True:
            end = self.ended(number, list(active), deadline)
            if end:
                return number, end
            began = self.now()
            for case in self.order(number):
                if case in active and not self.log.has(case, number):
                    self._trial(active, case, number, warm[case])
                    tick(case)
            self._longest = max(self._longest, self.now() - began)
            number += 1

    def order(self, number: int) -> Sequence[Case]:
        """The order of the cases in a round."""
        return self.cases if number % 2 == 0 else self.cases[::-1]

    def _trial(self, active: dict[Case, Worker], case: Case, number: int, warm: Warm) -> None:
        try:
            found = active[case].trial(
                number,
                at_least_s=TRIAL_S,
                at_most=TRIAL_SAMPLES,
                # Other processes have cooled the caches; of long passes that is a small share.
                discarded=int(warm.pass_s < TRIAL_S / 2),
            )
        except Failure as failure:
            self.log.add(case, number, failure)
            active.pop(case).close()
            return
        protocol = {
            **found.protocol, "warmup": warm.passes, "warmup_level": warm.level,
            "interleaved": len(self.cases), "order": "ABBA",
        }  # fmt: skip
        self.log.add(case, number, Trial(found.readings, protocol))

    def ended(self, number: int, active: Sequence[Case], deadline: float) -> str:
        """Why there is no round ``number``; "" if there is to be one."""
        if not active:
            return "failed"
        if self.sampling.rounds is not None:
            return "rounds" if number >= self.sampling.rounds else ""
        if number % 2 or number < 2:  # a round forwards goes with one backwards
            return ""
        # Twice in a row, as an interval is sometimes narrow by chance.
        self._narrow = self._narrow + 1 if number >= MIN_SAMPLES and self.precise(active) else 0
        if self._narrow >= 2:
            return "width"
        if number >= MAX_ROUNDS:
            return "rounds"
        return "budget" if self.now() + 2 * self._longest > deadline else ""

    def precise(self, active: Sequence[Case]) -> bool:
        """Whether the intervals of all cases and of their ratios are narrow enough."""
        wide = any(e.width > self.sampling.width for e in map(self.latency, active))
        return not wide and all(
            e is None or e.width <= self.sampling.ratio_width for e in map(self.ratio, active)
        )

    def latency(self, case: Case) -> Estimate:
        """The median over trials of a case's latency, in seconds."""
        medians = self.log.medians(case)
        return median_interval([medians[number][1] for number in sorted(medians)])

    def ratio(self, case: Case) -> Estimate | None:
        """A case's latency over the baseline's; None for the baseline, or if it has failed."""
        if case == self.cases[0]:
            return None
        return rounds_ratio(*paired(self.log.medians(self.cases[0]), self.log.medians(case)))


def warm_limit(share_s: float) -> float:
    """Seconds of warm-up for a case with such a share of the budget."""
    return _WARMUP_SHARE * share_s
