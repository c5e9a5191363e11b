"""The sampled part: latency of a few cases, base and head in fresh processes, taken in turn.

The processes of a pair live at the same time and pass in turn, base first, head twice, base twice,
and so on, so that what the machine does to one it does to the other. Which of them goes first
changes from pair to pair.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.gate.revisions import Side
from bench.gate.verdicts import SAMPLED
from bench.records.case import Case
from bench.records.record import Record
from bench.timing import clock
from bench.timing.statistics import stationary
from bench.workers.process import Talker

CASES = (
    Case(host="mixste", frames=27, prune="tps", recover="tri", r=(13, 9), b=(0, 3), threads=1),
    Case(host="motionagformer", frames=27, prune="tpc", recover="tra", r=(9,), b=(7,), threads=1),
    Case(host="motionbert", frames=27, prune="tps", recover="tri", r=(13, 9), b=(0, 1), threads=1),
    Case(
        host="mhformer", frames=351, prune="tps", r=(175, 117), b=(0, 2), pipeline="seq2frame",
        threads=1,
    ),
)  # fmt: skip
"""Published widths and depths, every host, both ways to recover; clips short enough that many
processes fit into the budget. One thread: with more, a hiccup of either core is one of all."""

PAIRS = 10
"""Pairs of processes; simulations say what so many can see."""

BUDGET_S = 140.0
"""Wall time of the sampled part, start of processes included."""

FEWEST_PAIRS = 4
"""Nothing is said of fewer; see Rules.processes."""

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
        turns: per case and pair, if not as many as the budget gives.
    """

    cases: Sequence[Case] = CASES
    pairs: int = PAIRS
    budget_s: float = BUDGET_S
    turns: int | None = None


def sample(
    plan: Plan, base: Side, head: Side, tick: Callable[[str], None]
) -> tuple[list[Record], list[Record]]:
    """Records of both sides, one per case and process.

    Stops early where another pair would not fit into the budget, but never before four.

    Args:
        tick: called after each pair with what is to be said of it.
    """
    records: dict[str, list[Record]] = {base.name: [], head.name: []}
    start, longest, run = clock.now(), 0.0, uuid.uuid4().hex[:12]
    for pair in range(plan.pairs):
        began = clock.now()
        left = plan.budget_s - (began - start)
        if pair >= FEWEST_PAIRS and left < longest:
            break
        order = (base, head) if pair % 2 == 0 else (head, base)
        found = _Pair(plan, order, pair, run).measure(began + left / (plan.pairs - pair))
        for name, taken in found.items():
            records[name] += taken
        longest = max(longest, clock.now() - began)
        tick(f"pair {pair + 1}: {_said(found)}")
        if not any(r.status == "ok" for r in found[base.name]):
            break  # the base cannot be measured at all
    return records[base.name], records[head.name]


def _said(found: dict[str, list[Record]]) -> str:
    turns = [len(r.values) for taken in found.values() for r in taken]
    return f"{min(turns)} to {max(turns)} samples a case"


@dataclass
class _Series:
    """What a process gave of one case."""

    seconds: list[float] = field(default_factory=list)
    warmup: int = 0
    failure: dict[str, Any] = field(default_factory=dict)


class _Pair:
    """Two fresh processes that measure in turn."""

    def __init__(self, plan: Plan, order: tuple[Side, Side], pair: int, run: str) -> None:
        self.plan, self.order, self.pair, self.run = plan, order, pair, run
        self.taken = {side.name: [_Series() for _ in plan.cases] for side in order}
        self.passes = [1] * len(plan.cases)

    def measure(self, deadline: float) -> dict[str, list[Record]]:
        """Take turns until the deadline; the records of each side."""
        workers: list[_Worker] = []
        try:
            workers += [_Worker(side, self.plan.cases) for side in self.order]
            for worker in workers:
                worker.answer()
            self._warm(workers)
            self._turns(workers, deadline)
        finally:
            for worker in workers:
                worker.close()
        return {worker.side.name: self._records(worker) for worker in workers}

    def _warm(self, workers: Sequence[_Worker]) -> None:
        """Build and warm up on both sides at once: nothing of it is kept."""
        for number in range(len(self.plan.cases)):
            seconds: dict[str, list[float]] = {worker.side.name: [] for worker in workers}
            passes = _WARMUP[0]
            while passes:
                for worker in workers:
                    worker.ask({"case": number, "passes": passes})
                for worker in workers:
                    found = worker.answer()
                    seconds[worker.side.name] += found.get("seconds", ())
                    if "seconds" not in found:
                        self.taken[worker.side.name][number].failure = found
                passes = self._more(number, seconds)
            for name, series in seconds.items():
                self.taken[name][number].warmup = len(series)
            slowest = max(median(series or [0.0]) for series in seconds.values())
            self.passes[number] = max(1, math.ceil(_TURN_S / slowest)) if slowest else 1

    def _more(self, number: int, seconds: dict[str, list[float]]) -> int:
        """How many more warm-up passes a case needs, on either side."""
        if any(self.taken[name][number].failure for name in seconds):
            return 0
        # The first pass is never like the others, so it is not in the window.
        level = all(stationary(s, window=_WARMUP[0] - 1) for s in seconds.values())
        done = max(map(len, seconds.values()))
        return 0 if level or done >= _WARMUP[1] else 2

    def _turns(self, workers: Sequence[_Worker], deadline: float) -> None:
        fewest, most = (self.plan.turns, self.plan.turns) if self.plan.turns else _TURNS
        turn, longest = 0, 0.0
        # Turns come in twos, of which the second begins with the other side.
        while turn < most and (turn < fewest or clock.now() + 2 * longest < deadline):
            for ordered in (workers, workers[::-1]):
                began = clock.now()
                self._turn(ordered)
                longest = max(longest, clock.now() - began)
            turn += 2

    def _turn(self, workers: Sequence[_Worker]) -> None:
        for number, passes in enumerate(self.passes):
            for worker in workers:
                series = self.taken[worker.side.name][number]
                if series.failure:
                    continue
                found = worker.answer({"case": number, "passes": passes})
                if "seconds" in found:
                    series.seconds += found["seconds"]
                else:
                    series.failure = found

    def _records(self, worker: _Worker) -> list[Record]:
        side = worker.side
        records = []
        for case, passes, series in zip(
            self.plan.cases, self.passes, self.taken[side.name], strict=True
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
            if series.failure:
                result = {"values": (), **series.failure}
            records.append(
                Record(
                    case=case, metric=SAMPLED, unit="s", group="gate", part=self.pair,
                    session=f"{self.run}-{side.name}-{self.pair}", protocol=protocol,
                    environment=side.facts(case.threads), **result,
                )
            )  # fmt: skip
        return records


class _Worker(Talker):
    """A measuring process of one side."""

    def __init__(self, side: Side, cases: Sequence[Case]) -> None:
        self.side = side
        super().__init__(
            "bench.gate.worker", ["sampled", str(side.root)], flags=["-P"],
            env=side.variables(), cwd=side.root,
        )  # fmt: skip
        self.ask({"cases": [case.to_json() for case in cases], "slowdown": side.slowdown})
