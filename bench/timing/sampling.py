"""Rounds of visits to a few workers in turn: who is next, and when it is enough.

Reads no clock of its own and starts no process: both are given, so that simulated ones will do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from bench.records.case import Case
from bench.timing.statistics import (
    FEWEST,
    Estimate,
    median_interval,
    paired,
    rounds_ratio,
    stationary,
)

MOST = 60
"""Rounds after which a case is left, however noisy."""

# A visit takes one sample of a long forward pass, and several of a short one.
VISIT_S, VISIT_SAMPLES = 0.2, 20
_WARMUP = (2, 40)  # passes, at least and at most
_WARMUP_SHARE = 0.2  # of a case's share of the budget
_LEVEL_OF = 5  # passes that must show no trend; the first is never among them


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How long cases are sampled.

    Attributes:
        rounds: so many for every case; None for as many as width and budget ask for.
        width: half the 95% interval of the median, as a share of it, that is narrow enough.
        ratio_width: likewise of the ratio to the baseline.
        budget_s: seconds for all cases together, warm-up and start of processes included; every
            case has a share by its FLOPs.
        patience_s: seconds to wait for one visit before it is a time-out.
        alive: most processes at once, the baseline's among them.
        flush_l2: whether a CUDA device's cache is emptied before every pass.
    """

    rounds: int | None = None
    width: float = 0.02
    ratio_width: float = 0.03
    budget_s: float = 780.0
    patience_s: float = 300.0
    alive: int = 4
    flush_l2: bool = False

    def __post_init__(self) -> None:
        least = {"rounds": 1, "width": 0, "ratio_width": 0, "budget_s": 0, "alive": 2}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise ValueError(f"{name} must be at least {smallest}, got {value}")


class Failure(Exception):
    """A worker has no sample to give.

    Attributes:
        status: of the record.
        reason: of the record.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Visit:
    """What a worker gives: reading to samples in seconds, and how they were taken."""

    readings: Mapping[str, Sequence[float]]
    protocol: Mapping[str, Any] = field(default_factory=dict)


class Worker(Protocol):
    """A process that measures one case; every method may raise :class:`Failure`."""

    def ready(self) -> None:
        """Return when its model is built."""
        ...

    def visit(self, turn: int, *, at_least_s: float, at_most: int, unheeded: int = 0) -> Visit:
        """Take samples of the input of a turn; see ``bench.timing.worker``."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Log(Protocol):
    """Where visits are kept."""

    def has(self, case: Case, part: int) -> bool:
        """Whether a visit is there, or the case has failed."""
        ...

    def failed(self, case: Case) -> bool:
        """Whether the case has failed, and is left."""
        ...

    def lacks(self, case: Case) -> int:
        """The first round of which a case has no visit."""
        ...

    def add(self, case: Case, part: int, found: Visit | Failure) -> None:
        """Keep a visit, or why there is none."""
        ...

    def medians(self, case: Case) -> Mapping[int, tuple[str, float]]:
        """Part to session and median latency of every visit that was kept."""
        ...


@dataclass
class Warm:
    """A warmed-up worker: how many passes it took, their last duration, whether it was level."""

    passes: int
    pass_s: float
    level: bool

    @classmethod
    def up(cls, worker: Worker, limit_s: float, now: Callable[[], float]) -> Warm:
        """Take passes that are not kept, until they show no trend or there is no more time."""
        taken: list[float] = []
        end, level = now() + limit_s, False
        while len(taken) < _WARMUP[1] and not level:
            if len(taken) >= _WARMUP[0] and now() >= end:
                break
            visit = worker.visit(0, at_least_s=0.0, at_most=1)
            taken += visit.readings["latency_s"]
            level = len(taken) > _LEVEL_OF and stationary(taken[1:], window=_LEVEL_OF)
        return cls(len(taken), min(taken[1:]), level)


class Rounds:
    """The visits of one group: forwards in even rounds, backwards in odd ones.

    Args:
        cases: the baseline first.
        sampling: when it is enough.
        log: knows what was taken before and keeps what is taken now.
        now: a clock in seconds.
    """

    def __init__(
        self, cases: Sequence[Case], sampling: Sampling, log: Log, now: Callable[[], float]
    ) -> None:
        self.cases, self.sampling, self.log, self.now = cases, sampling, log, now
        self._longest = 0.0
        self._narrow = 0

    def first(self) -> int:
        """The first round that lacks a visit; 0 where every case has failed."""
        lacking = [self.log.lacks(case) for case in self.cases if not self.log.failed(case)]
        return min(lacking, default=0)

    def run(
        self,
        workers: Mapping[Case, Worker],
        warm: Mapping[Case, Warm],
        deadline: float,
        tick: Callable[[Case], None],
    ) -> tuple[int, str]:
        """Take rounds until it is enough.

        Args:
            workers: of the cases that have one; a case is left when it fails.
            warm: of the same cases.
            deadline: on the clock; at least two rounds are taken all the same.
            tick: called after each visit.

        Returns:
            How many rounds there are, and why they ended: "rounds", "width", "budget" or "failed".
        """
        left = dict(workers)
        part = self.first()
        while True:
            end = self.ended(part, list(left), deadline)
            if end:
                return part, end
            began = self.now()
            for case in self.order(part):
                if case in left and not self.log.has(case, part):
                    self._visit(left, case, part, warm[case])
                    tick(case)
            self._longest = max(self._longest, self.now() - began)
            part += 1

    def order(self, part: int) -> Sequence[Case]:
        """Who is visited when in a round."""
        return self.cases if part % 2 == 0 else self.cases[::-1]

    def _visit(self, left: dict[Case, Worker], case: Case, part: int, warm: Warm) -> None:
        try:
            found = left[case].visit(
                part,
                at_least_s=VISIT_S,
                at_most=VISIT_SAMPLES,
                # What others did since has cooled the caches; of long passes that is a small part.
                unheeded=int(warm.pass_s < VISIT_S / 2),
            )
        except Failure as failure:
            self.log.add(case, part, failure)
            left.pop(case).close()
            return
        protocol = {
            **found.protocol, "warmup": warm.passes, "warmup_level": warm.level,
            "interleaved": len(self.cases), "order": "ABBA",
        }  # fmt: skip
        self.log.add(case, part, Visit(found.readings, protocol))

    def ended(self, part: int, left: Sequence[Case], deadline: float) -> str:
        """Why there is no round ``part``; "" if there is to be one."""
        if not left:
            return "failed"
        if self.sampling.rounds is not None:
            return "rounds" if part >= self.sampling.rounds else ""
        if part % 2 or part < 2:  # a round forwards goes with one backwards
            return ""
        # Twice in a row, as an interval is sometimes narrow by chance.
        self._narrow = self._narrow + 1 if part >= FEWEST and self.precise(left) else 0
        if self._narrow >= 2:
            return "width"
        if part >= MOST:
            return "rounds"
        return "budget" if self.now() + 2 * self._longest > deadline else ""

    def precise(self, left: Sequence[Case]) -> bool:
        """Whether the intervals of all cases and of their ratios are narrow enough."""
        wide = any(e.width > self.sampling.width for e in map(self.latency, left))
        return not wide and all(
            e is None or e.width <= self.sampling.ratio_width for e in map(self.ratio, left)
        )

    def latency(self, case: Case) -> Estimate:
        """The median over visits of a case's latency, in seconds."""
        taken = self.log.medians(case)
        return median_interval([taken[part][1] for part in sorted(taken)])

    def ratio(self, case: Case) -> Estimate | None:
        """A case's latency over the baseline's; None for the baseline, or if it has failed."""
        if case == self.cases[0]:
            return None
        return rounds_ratio(*paired(self.log.medians(self.cases[0]), self.log.medians(case)))


def warm_limit(share_s: float) -> float:
    """Seconds that a case with such a share of the budget may take to warm up."""
    return _WARMUP_SHARE * share_s


def middle(samples: Sequence[float]) -> float:
    """What a visit of several samples counts as."""
    return median(samples)
