"""The sampled part: latency of a few cases, base and head in fresh processes, in turn.

The processes of a pair live at the same time and pass in turn, base first, head twice, base twice,
and so on, so that what the machine does to one it does to the other. Which of them goes first
changes from pair to pair.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from bench.gate.exact import library_hosts
from bench.gate.revisions import Revision
from bench.gate.verdicts import SAMPLED
from bench.models.resolve import resolve
from bench.records.case import Case
from bench.records.record import Record
from bench.records.status import Failure, excuse
from bench.timing import clock
from bench.timing.statistics import stationary
from bench.workers.process import WorkerProcess

_SCHEMES = {"motionagformer": "hot"}  # so that TPC and TRA are measured too
_FRAMES = 27


def cases() -> tuple[Case, ...]:
    """One case per host, of published width and depth, in its default scheme.

    Clips are short, so that many processes fit into the budget; a host that puts out the centre
    frame alone keeps its published length. One thread: with more, an interruption of either core
    is one of all.
    """
    found = []
    for name, host in library_hosts().items():
        frames = _FRAMES if "seq2seq" in host.pipelines else None
        case = resolve({"host": name, "frames": frames, "scheme": _SCHEMES.get(name)})
        found.append(replace(case, threads=1))
    return tuple(found)


PAIRS = 10
"""Pairs of processes; simulations show which slowdowns they detect."""

BUDGET_S = 140.0
"""Wall time of the sampled part, start of processes included."""

MIN_PAIRS = 4
"""Fewer give no verdict; see Rules.processes."""

_TURNS = (4, 40)
_WARMUP = (6, 12)  # passes, at least and at most
_TURN_S = 0.05  # a shorter forward pass is repeated within a turn


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is sampled.

    Attributes:
        cases: measured by every process.
        pairs: processes per side, unless the budget ends before.
        budget_s: wall time of it all.
        turns: per case and pair; None for as many as the budget allows.
    """

    cases: Sequence[Case] = field(default_factory=cases)
    pairs: int = PAIRS
    budget_s: float = BUDGET_S
    turns: int | None = None


def sample(
    plan: Plan, base: Revision, head: Revision, tick: Callable[[str], None]
) -> tuple[list[Record], list[Record]]:
    """Records of both sides, one per case and process.

    Stops early where another pair would not fit into the budget, but never before four.

    Args:
        tick: called after each pair with a line on it.
    """
    records: dict[str, list[Record]] = {base.name: [], head.name: []}
    start, longest, run = clock.now(), 0.0, uuid.uuid4().hex[:12]
    for pair in range(plan.pairs):
        began = clock.now()
        left = plan.budget_s - (began - start)
        if pair >= MIN_PAIRS and left < longest:
            break
        order = (base, head) if pair % 2 == 0 else (head, base)
        both = _Pair(plan, order, pair, run).measure(began + left / (plan.pairs - pair))
        for name, measured in both.items():
            records[name] += measured
        longest = max(longest, clock.now() - began)
        turns = [len(r.values) for measured in both.values() for r in measured]
        tick(f"pair {pair + 1}: {min(turns)} to {max(turns)} samples a case")
        if not any(r.status == "ok" for r in both[base.name]):
            break  # the base cannot be measured at all
    return records[base.name], records[head.name]


@dataclass
class _Series:
    """The measurements of one case by one process."""

    seconds: list[float] = field(default_factory=list)
    warmup: int = 0
    failure: Failure | None = None

    def receive(self, worker: WorkerProcess) -> list[float]:
        """The seconds that a process answers; none if it fails, which is kept."""
        try:
            return worker.receive()["seconds"]
        except Failure as failure:
            self.failure = failure
            return []


class _Pair:
    """Two fresh processes that measure in turn."""

    def __init__(self, plan: Plan, order: tuple[Revision, Revision], pair: int, run: str) -> None:
        self.plan, self.order, self.pair, self.run = plan, order, pair, run
        self.series = {side.name: [_Series() for _ in plan.cases] for side in order}
        self.passes = [1] * len(plan.cases)

    def measure(self, deadline: float) -> dict[str, list[Record]]:
        """Measure in turn until the deadline; the records of each side."""
        with ExitStack() as stack:
            workers = {side.name: stack.enter_context(side.worker()) for side in self.order}
            for name, worker in workers.items():
                try:
                    worker.receive()
                except Failure as failure:
                    for series in self.series[name]:
                        series.failure = failure
            self._warm(workers)
            self._turns(workers, deadline)
        return {side.name: self._records(side) for side in self.order}

    def _warm(self, workers: Mapping[str, WorkerProcess]) -> None:
        """Build and warm up on both sides at once; nothing of it is kept."""
        for number, case in enumerate(self.plan.cases):
            both = {name: series[number] for name, series in self.series.items()}
            warmup: dict[str, list[float]] = {name: [] for name in both}
            passes = _WARMUP[0]
            while passes:
                active = [name for name in workers if both[name].failure is None]
                for name in active:
                    workers[name].send("time", case=case.to_json(), passes=passes)
                for name in active:
                    warmup[name] += both[name].receive(workers[name])
                # The first pass is never like the others, so it is not in the window.
                level = all(stationary(s, window=_WARMUP[0] - 1) for s in warmup.values())
                enough = level or max(map(len, warmup.values())) >= _WARMUP[1]
                passes = 0 if enough or any(one.failure for one in both.values()) else 2
            for name, series in both.items():
                series.warmup = len(warmup[name])
            slowest = max(median(seconds or [0.0]) for seconds in warmup.values())
            self.passes[number] = max(1, math.ceil(_TURN_S / slowest)) if slowest else 1

    def _turns(self, workers: Mapping[str, WorkerProcess], deadline: float) -> None:
        least, most = (self.plan.turns, self.plan.turns) if self.plan.turns else _TURNS
        turn, longest = 0, 0.0
        order = list(workers)
        # Turns come in twos, of which the second begins with the other side.
        while turn < most and (turn < least or clock.now() + 2 * longest < deadline):
            for names in (order, order[::-1]):
                began = clock.now()
                for number, case in enumerate(self.plan.cases):
                    for name in names:
                        series = self.series[name][number]
                        if series.failure is None:
                            workers[name].send(
                                "time", case=case.to_json(), passes=self.passes[number]
                            )
                            series.seconds += series.receive(workers[name])
                longest = max(longest, clock.now() - began)
            turn += 2

    def _records(self, side: Revision) -> list[Record]:
        records = []
        for case, passes, series in zip(
            self.plan.cases, self.passes, self.series[side.name], strict=True
        ):
            protocol = {
                "side": side.name,
                "pair": self.pair,
                "run": self.run,
                "per_turn": passes,
                "order": "ABBA",
                "first": self.order[0].name,
                "warmup": series.warmup,
                "clock": "wall, synchronised",
                "mode": "inference_mode, eager",
                **({"slowdown": side.slowdown} if side.slowdown else {}),
            }
            result: dict[str, Any] = {"values": tuple(series.seconds)}
            if series.failure is not None:
                result = {"values": (), **excuse(series.failure)}
            records.append(
                Record(
                    case=case, metric=SAMPLED, unit="s", group="gate", part=self.pair,
                    session=f"{self.run}-{side.name}-{self.pair}", protocol=protocol,
                    environment=side.facts(case.threads), **result,
                )
            )  # fmt: skip
        return records
