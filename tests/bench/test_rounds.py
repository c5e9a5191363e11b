"""Rounds with a simulated clock and simulated workers: order, stopping, budget, failures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.windows import MotionSource
from bench.models.context import Context
from bench.records import store
from bench.records.case import Case
from bench.records.record import Record
from bench.records.status import Failure
from bench.records.store import Store, open_store
from bench.timing import interleaved
from bench.timing import sampling as rounds
from bench.timing.sampling import Sampling, Trial
from bench.timing.statistics import interleaved_ratio, median_interval, rounds_ratio

MOTION = MotionSource.generated(frames=54)
BASE = Case(host="mixste", frames=27, motion=MOTION.name)
ROWS = tuple(
    replace(BASE, prune="tps", recover="tri", r=(keep,), b=(1,)) for keep in range(3, 24, 3)
)
SHORT = replace(BASE, frames=9)
STARTS_S = 1.0


@dataclass
class World:
    """A machine without time of its own.

    Attributes:
        seconds: how long a pass of a case takes.
        drift: share by which the machine slows down per second.
        noise: standard deviation of a pass, as a share.
        ends: what befalls a case at one of its visits, counted from 1, warm-up included; 0 is
            the building of its model.
    """

    seconds: dict[Case, float]
    drift: float = 0.0
    noise: float = 0.0
    ends: dict[tuple[Case, int], Failure] = field(default_factory=dict)
    clock: float = 0.0
    alive: list[Case] = field(default_factory=list)
    most: int = 0
    started: list[Case] = field(default_factory=list)
    trials: list[tuple[Case, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def now(self) -> float:
        return self.clock

    def start(self, case: Case, inputs: Path, sampling: Sampling) -> Simulated:
        assert inputs.is_file()
        self.clock += STARTS_S
        self.started.append(case)
        self.alive.append(case)
        self.most = max(self.most, len(self.alive))
        return Simulated(self, case)

    def one_pass(self, case: Case) -> float:
        noise = math.exp(self.noise * self.rng.standard_normal())
        taken = self.seconds[case] * (1 + self.drift * self.clock) * noise
        self.clock += taken
        return taken


@dataclass
class Simulated:
    world: World
    case: Case
    count: int = 0

    def _fate(self) -> None:
        if (self.case, self.count) in self.world.ends:
            raise self.world.ends[self.case, self.count]

    def ready(self) -> None:
        self._fate()

    def trial(self, number: int, *, at_least_s: float, at_most: int, discarded: int = 0) -> Trial:
        assert self.case in self.world.alive, "asked after its end"
        self.count += 1
        self._fate()
        for _ in range(discarded):
            self.world.one_pass(self.case)
        taken = [self.world.one_pass(self.case)]
        while len(taken) < at_most and sum(taken) < at_least_s:
            taken.append(self.world.one_pass(self.case))
        if at_most > 1:
            self.world.trials.append((self.case, number))
        return Trial({name: taken for name in interleaved.READINGS})

    def close(self) -> None:
        self.world.alive.remove(self.case)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    with open_store(path, environment="here", note=[]) as found:
        yield found


def measure(
    path: Path, world: World, sampling: Sampling, *cases: Case, session: str = "s",
    tick: Callable[[str, float], None] = lambda label, done: None,
) -> list[Record]:  # fmt: skip
    stamp: dict[str, Any] = {"session": session, "environment": {"fingerprint": "here"}}
    with opened(path) as held:
        try:
            interleaved.measure(
                cases, sampling, held, Context(MOTION), stamp, tick,
                start=world.start, now=world.now,
            )  # fmt: skip
        finally:
            assert not world.alive
    return store.read(path)


def latencies(records: list[Record], case: Case) -> list[float]:
    return [v for r in records if r.case == case and r.metric == "latency_s" for v in r.values]


def ended(records: list[Record]) -> set[tuple[float, str]]:
    marks = [r for r in records if r.metric == interleaved.ENDED]
    return {(r.values[0], str(r.protocol["ended"])) for r in marks}


# --- groups and order --------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "sizes"), [(0, [1]), (3, [4]), (4, [3, 3]), (7, [3, 3, 4])])
def test_rows_are_grouped_with_their_baseline(rows: int, sizes: list[int]) -> None:
    found = interleaved.groups([*ROWS[:rows], BASE])
    assert sorted(map(len, found)) == sizes
    assert all(group[0] == BASE for group in found)
    assert [case for group in found for case in group[1:]] == list(ROWS[:rows])


def test_a_baseline_that_is_missing_is_added_and_groups_follow_their_baseline() -> None:
    other = replace(ROWS[0], frames=9)
    found = interleaved.groups([ROWS[0], other, *ROWS[1:5], SHORT])
    assert [group[0] for group in found] == [BASE, BASE, SHORT]
    assert found[2] == (SHORT, other)


def test_few_are_alive_and_a_baseline_starts_once(path: Path) -> None:
    world = World({case: 0.3 for case in (BASE, *ROWS, SHORT)})
    measure(path, world, Sampling(rounds=2), BASE, *ROWS, SHORT)
    assert world.most == 4
    assert Counter(world.started) == Counter((BASE, *ROWS, SHORT))


def test_rounds_go_there_and_back(path: Path) -> None:
    world = World({case: 0.3 for case in (BASE, *ROWS)})
    measure(path, world, Sampling(rounds=4), BASE, *ROWS[:3])
    there = [BASE, *ROWS[:3]]
    assert world.trials == [
        (case, part) for part, order in enumerate([there, there[::-1]] * 2) for case in order
    ]


def test_short_passes_are_repeated_and_the_first_of_a_visit_does_not_count(path: Path) -> None:
    world = World({BASE: 0.05, ROWS[0]: 0.001, ROWS[1]: 0.5})
    records = measure(path, world, Sampling(rounds=2), BASE, ROWS[0], ROWS[1])
    counts = [len(latencies(records, case)) / 2 for case in (BASE, ROWS[0], ROWS[1])]
    assert counts == [4, rounds.TRIAL_SAMPLES, 1]
    assert {r.protocol["warmup"] for r in records} == {6}


# --- drift -------------------------------------------------------------------------------------


@pytest.mark.parametrize("drift", [0.1, -0.1])
@pytest.mark.parametrize("count", [6, 7, 12])
def test_a_drift_of_a_tenth_moves_no_ratio_by_half_a_percent(
    path: Path, drift: float, count: int
) -> None:
    seconds = {BASE: 2.0, **{case: 1.5 - 0.4 * i for i, case in enumerate(ROWS[:3])}}
    length = count * sum(seconds.values()) + 60
    world = World(seconds, drift=drift / length)
    records = measure(path, world, Sampling(rounds=count), BASE, *ROWS[:3])
    base = latencies(records, BASE)
    assert len(base) == count
    for case in ROWS[:3]:
        found = interleaved_ratio(base, latencies(records, case))
        assert abs(found.value / (seconds[case] / 2.0) - 1) < 0.005


# --- when it is enough -------------------------------------------------------------------------


def test_a_quiet_machine_is_left_soon(path: Path) -> None:
    world = World({BASE: 0.5, ROWS[0]: 0.3}, noise=0.002)
    assert ended(measure(path, world, Sampling(), BASE, ROWS[0])) == {(8, "width")}


def test_a_noisy_one_is_measured_longer_and_then_well_known(path: Path) -> None:
    world = World({BASE: 0.5, ROWS[0]: 0.3}, noise=0.03)
    records = measure(path, world, Sampling(), BASE, ROWS[0])
    ((count, why),) = ended(records)
    assert (8 < count <= rounds.MAX_ROUNDS, why) == (True, "width")
    for case, truth in ((BASE, 0.5), (ROWS[0], 0.3)):
        found = median_interval(latencies(records, case))
        assert found.width <= 0.02
        assert found.low is not None
        assert found.low * 0.98 < truth < (found.high or 0) * 1.02


def test_a_wider_interval_takes_fewer_rounds(path: Path, tmp_path: Path) -> None:
    counts: list[tuple[float, str]] = []
    for i, width in enumerate((0.005, 0.02, 0.1)):
        world = World({BASE: 0.5, ROWS[0]: 0.3}, noise=0.03)
        given = Sampling(width=width, ratio_width=width)
        counts += ended(measure(tmp_path / f"{i}", world, given, BASE, ROWS[0]))
    assert counts[0] == (rounds.MAX_ROUNDS, "rounds")
    assert counts[1][0] > 8
    assert counts[2] == (8, "width")


def test_however_noisy_the_budget_holds(path: Path) -> None:
    cases = (BASE, *ROWS, SHORT)
    world = World({case: 0.5 for case in cases}, noise=0.5)
    records = measure(path, world, Sampling(budget_s=300), *cases)
    assert 200 < world.clock < 310
    assert {why for _, why in ended(records)} == {"budget"}
    # Shares are as equal as the costs are.
    counts = [count for count, _ in ended(records)]
    assert max(counts) < 2.5 * min(counts)


def test_a_budget_that_is_too_small_leaves_two_rounds_each(path: Path) -> None:
    cases = (BASE, *ROWS)
    world = World({case: 5.0 for case in cases})
    records = measure(path, world, Sampling(budget_s=1), *cases)
    assert ended(records) == {(2, "budget")}
    assert all(len(latencies(records, case)) >= 2 for case in cases)


def test_what_quick_cases_leave_goes_to_slow_ones(path: Path) -> None:
    world = World({SHORT: 0.1, BASE: 3.0, ROWS[0]: 2.0}, noise=0.001)
    with opened(path) as held:  # counted before, as a sweep does
        held.append(
            Record(case=case, metric="flops_full", unit="flop", values=(flops,),
                   environment={"fingerprint": "here"})
            for case, flops in ((SHORT, 1), (BASE, 300), (ROWS[0], 200))
        )  # fmt: skip
    records = measure(path, world, Sampling(budget_s=75), BASE, ROWS[0], SHORT)
    assert world.started[0] == SHORT  # the cheapest first
    assert ended(records) == {(8, "width")}


@pytest.mark.parametrize(
    ("sd", "phi", "least"), [(0.005, 0.0, 0.92), (0.02, 0.0, 0.92), (0.01, 0.3, 0.88)]
)
def test_stopping_early_leaves_intervals_honest(sd: float, phi: float, least: float) -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(500):
        noise = rng.standard_normal(rounds.MAX_ROUNDS + 30)
        for i in range(1, len(noise)):
            noise[i] += phi * noise[i - 1]
        series = np.exp(sd * math.sqrt(1 - phi**2) * noise[30:])
        log = Kept({BASE: series.tolist()})
        job = rounds.Rounds([BASE], Sampling(), log, lambda: 0.0)
        while not job.ended(log.count, [BASE], math.inf):
            log.count += 1
        found = job.latency(BASE)
        hits += found.low is not None and found.high is not None and found.low <= 1 <= found.high
    assert hits / 500 >= least


@dataclass
class Kept:
    """A log of which the first ``count`` rounds are known."""

    series: dict[Case, list[float]]
    count: int = 0
    failed: set[Case] = field(default_factory=set)

    def has(self, case: Case, part: int) -> bool:
        return part < self.count

    def lacks(self, case: Case) -> int:
        return self.count

    def add(self, case: Case, part: int, found: Trial | Failure) -> None:
        raise AssertionError

    def medians(self, case: Case) -> dict[int, tuple[str, float]]:
        return {i: ("s", v) for i, v in enumerate(self.series[case][: self.count])}


# --- resuming ----------------------------------------------------------------------------------


def test_a_finished_measurement_starts_nothing(path: Path) -> None:
    for sampling in (Sampling(), Sampling(rounds=3), Sampling(width=0.5)):
        first = World({BASE: 0.5, ROWS[0]: 0.3})
        measure(path, first, sampling, BASE, ROWS[0])
        again = World({BASE: 0.5, ROWS[0]: 0.3})
        measure(path, again, sampling, BASE, ROWS[0])
        assert again.started == []


def test_more_is_taken_when_more_is_asked_for(path: Path) -> None:
    world = World({BASE: 0.5, ROWS[0]: 0.3}, noise=0.1)
    few = measure(path, world, Sampling(budget_s=20), BASE, ROWS[0])
    assert {why for _, why in ended(few)} == {"budget"}
    more = measure(path, world, Sampling(budget_s=40), BASE, ROWS[0], session="t")
    assert more[: len(few)] == few
    assert len(latencies(more, BASE)) > len(latencies(few, BASE))


@pytest.mark.parametrize("at", range(1, 12, 2))
def test_an_interruption_at_any_visit_loses_and_doubles_nothing(path: Path, at: int) -> None:
    world = World({case: 0.5 for case in (BASE, *ROWS[:2])}, noise=0.002)
    left = at

    def stop(label: str, done: float) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(path, world, Sampling(), BASE, *ROWS[:2], tick=stop)
    kept = store.read(path)
    assert len(kept) == 3 * at
    records = measure(path, world, Sampling(), BASE, *ROWS[:2], session="t")
    assert records[: len(kept)] == kept
    assert max(Counter(r.identity for r in records).values()) == 1
    ((count, why),) = ended(records)
    assert why == "width"
    parts = {r.part for r in records if r.metric == "latency_s"}
    assert parts == set(range(int(count)))
    for case in (BASE, *ROWS[:2]):
        assert len(latencies(records, case)) == count


def test_rounds_that_an_interruption_left_unbalanced_are_not_compared() -> None:
    base = {0: 1.0, 1: 1.0, 3: 1.0, 4: 1.0, 6: 9.0, 7: 1.0}
    found = rounds_ratio(base, dict.fromkeys(range(8), 2.0))
    assert found is not None
    assert (found.n, found.value) == (4, pytest.approx(2.0))  # of rounds 0, 1, 4 and 7
    assert rounds_ratio({0: 1.0}, {1: 2.0}) is None


# --- failures ----------------------------------------------------------------------------------

OOM = Failure("oom", "the process was killed, probably for want of memory")
LATE = Failure("timeout", "no answer within 300 s")


@pytest.mark.parametrize("failure", [OOM, LATE, Failure("failed", "launch failure")])
@pytest.mark.parametrize("at", [0, 1, 4, 7, 9])
def test_a_row_that_fails_is_typed_and_stops_no_other(
    path: Path, failure: Failure, at: int
) -> None:
    seconds = {case: 0.5 for case in (BASE, *ROWS[:5])}
    world = World(seconds, ends={(ROWS[1], at): failure})
    records = measure(path, world, Sampling(), BASE, *ROWS[:5])
    lost = [r for r in records if r.status != "ok"]
    assert {(r.case, r.metric) for r in lost} == {(ROWS[1], m) for m in interleaved.READINGS}
    assert {(r.status, r.reason) for r in lost} == {(failure.status, failure.reason)}
    assert {r.part for r in lost} == {max(0, at - 7)}  # six passes to warm up
    for case in (ROWS[0], *ROWS[2:5]):
        assert set(latencies(records, case)) == {0.5}
        assert len(latencies(records, case)) == 8
    again = World(seconds)
    assert measure(path, again, Sampling(), BASE, *ROWS[:5]) == records
    assert again.started == []


def test_rows_without_their_baseline_are_timed_all_the_same(path: Path) -> None:
    world = World({case: 0.5 for case in (BASE, *ROWS[:5])}, ends={(BASE, 0): OOM})
    records = measure(path, world, Sampling(), BASE, *ROWS[:5])
    assert Counter(world.started)[BASE] == 1  # and not again for the second group
    assert {r.case for r in records if r.status == "oom"} == {BASE}
    assert len({r.group for r in records if r.status == "oom"}) == 2
    assert all(len(latencies(records, case)) == 8 for case in ROWS[:5])


def test_a_group_of_which_nothing_is_left(path: Path) -> None:
    ends = {(BASE, 0): OOM, (ROWS[0], 3): LATE}
    world = World({BASE: 0.5, ROWS[0]: 0.5, SHORT: 0.5}, ends=ends)
    records = measure(path, world, Sampling(), BASE, ROWS[0], SHORT)
    assert ended(records) == {(0, "failed"), (8, "width")}
    assert len(latencies(records, SHORT)) == 8


@pytest.mark.parametrize(
    "given",
    [{"rounds": 0}, {"width": -1}, {"budget_s": -1}, {"max_workers": 1}, {"ratio_width": -1}],
)
def test_a_sampling_that_makes_no_sense(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Sampling(**given)
