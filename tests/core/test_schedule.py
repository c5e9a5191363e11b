"""The schedule, and the frames that TPS keeps under it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from h2ot_core import ConfigError, Schedule, build
from h2ot_core.prune import UniformPruner
from h2ot_core.prune.base import Signals
from h2ot_core.schedule import middle, odd_nearest

ROUNDINGS = ("half_even", "floor", "half_up", "nearest")
# Positions between two frames, settled by definitions from outside the library.
ROUND: dict[str, Callable[[Fraction], int]] = {
    "half_even": round,
    "floor": math.floor,
    "half_up": lambda position: math.floor(position + Fraction(1, 2)),
}


def kept(
    frames: int, r: Sequence[int], rounding: str = "half_even", centre: int | None = None
) -> list[list[int]]:
    schedule = Schedule(frames, tuple(r), tuple(range(len(r))), len(r))
    return UniformPruner(schedule, centre, tps_rounding=rounding).fixed()


@st.composite
def schedules(draw: st.DrawFn, least: int = 1) -> tuple[int, list[int]]:
    frames = draw(st.integers(least + 1, 90))
    r = draw(st.sets(st.integers(least, frames - 1), min_size=1, max_size=4))
    return frames, sorted(r, reverse=True)


# --- Schedule


def test_a_schedule_counts_its_stages() -> None:
    schedule = Schedule(243, (121, 81), (0, 3), 8)
    assert (schedule.stages, schedule.kept) == (2, 81)
    empty = Schedule(243, (), (), 8)
    assert (empty.stages, empty.kept) == (0, 243)
    assert Schedule(1, (), (), 1).kept == 1


def test_frames_that_reach_a_block() -> None:
    """A stage acts before its block, which sees what is left."""
    schedule = Schedule(27, (13, 9), (1, 3), 5)
    assert [schedule.frames_at(block) for block in range(5)] == [27, 13, 13, 9, 9]
    assert [Schedule(27, (9,), (0,), 2).frames_at(block) for block in range(2)] == [9, 9]
    assert Schedule(27, (), (), 2).frames_at(1) == 27


def test_a_schedule_takes_any_integers() -> None:
    schedule = Schedule(27, [np.int64(13), 9], (k for k in (0, 3)), 8)  # type: ignore[arg-type]
    assert (schedule.r, schedule.b) == ((13, 9), (0, 3))
    assert Schedule(27, 9, 0, 8).r == (9,)  # type: ignore[arg-type]
    assert Schedule(27, np.int64(9), 0, 8).r == (9,)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("r", "b", "message"),
    [
        ((9, 13), (0, 3), r"r must decrease.*\[9, 13\]"),
        ((13, 13), (0, 3), r"r must decrease.*\[13, 13\]"),
        ((27,), (0,), r"smaller than the 27 input frames.*\[27\]"),
        ((40,), (0,), r"smaller than the 27 input frames.*\[40\]"),
        ((0,), (0,), r"at least 1 frame.*\[0\]"),
        ((13, 9), (3, 0), r"b must increase.*\[3, 0\]"),
        ((13, 9), (3, 3), r"b must increase.*\[3, 3\]"),
        ((13,), (8,), r"has 8 \(0 to 7\), got b = \[8\]"),
        ((13,), (-1,), r"has 8 \(0 to 7\), got b = \[-1\]"),
        ((13, 9), (0,), r"r = \[13, 9\] \(2\) and b = \[0\] \(1\)"),
        ((), (0,), r"r = \[\] \(0\) and b = \[0\] \(1\)"),
        (13.0, 0, r"r must be integers, got 13.0"),
        ((13, 4.5), (0, 3), r"r must be integers, got 4.5"),
        ((13,), (0.0,), r"b must be integers, got 0.0"),
        ((True,), (0,), r"r must be integers, got True"),
        ("9", (0,), r"r must be integers, got '9'"),
        (None, (0,), r"r must be integers, got None"),
    ],
)
def test_what_a_schedule_refuses(r: object, b: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schedule(27, r, b, 8)  # type: ignore[arg-type]


def test_a_schedule_needs_frames() -> None:
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Schedule(0, (), (), 8)


@given(st.integers(1, 500), st.integers(1, 9))
def test_odd_nearest(numerator: int, denominator: int) -> None:
    odd = range(1, numerator + 2, 2)
    truth = min(odd, key=lambda k: (abs(Fraction(numerator, denominator) - k), k))
    assert odd_nearest(numerator, denominator) == truth


def test_middle_of_even_counts_is_the_earlier() -> None:
    assert [middle(n) for n in (1, 2, 3, 4, 243)] == [0, 0, 1, 1, 121]


# --- the frames that TPS keeps


@pytest.mark.parametrize(
    ("frames", "chain"),
    [
        (
            27,
            [
                [0, 2, 4, 6, 9, 11, 13, 15, 17, 20, 22, 24, 26],
                [0, 4, 6, 9, 13, 17, 20, 22, 26],
            ],
        ),
        (9, [[0, 2, 4, 6, 8], [0, 4, 8]]),
        (
            81,
            [
                list(range(0, 81, 2)),
                [
                    *(0, 4, 6, 10, 12, 16, 18, 22, 24, 28, 30, 34, 36, 40),
                    *(44, 46, 50, 52, 56, 58, 62, 64, 68, 70, 74, 76, 80),
                ],
            ],
        ),
    ],
)
def test_published_chains(frames: int, chain: list[list[int]]) -> None:
    assert kept(frames, [len(frames_kept) for frames_kept in chain]) == chain


@pytest.mark.data
def test_reference_index_lists(shared_dir: Path) -> None:
    chains = json.loads((shared_dir / "spec" / "tps_indices.json").read_text())
    assert chains
    for name, lists in chains.items():
        frames, *r = (int(count) for count in name.split("-"))
        model = build(
            "mixste",
            frames=frames,
            r=r,
            b=range(len(r)),
            width=4,
            heads=1,
            joints=1,
            depth=len(r),
        )
        out = model.run(torch.zeros(1, frames, 1, 2))
        found = [selection.index.tolist() for selection in out.selections]
        assert found == [[lists[str(count)]] for count in r], name


@pytest.mark.parametrize("rounding", ROUND)
@given(schedules(least=2))
def test_rounding_against_fractions(rounding: str, schedule: tuple[int, list[int]]) -> None:
    frames, r = schedule
    current = list(range(frames))
    for stage in kept(frames, r, rounding):
        n, keep = len(current), len(stage)
        positions = (Fraction(k * (n - 1), keep - 1) for k in range(keep))
        current = [current[ROUND[rounding](position)] for position in positions]
        assert stage == current


def test_nearest_takes_the_closest_kept_frame() -> None:
    """To every point of the even grid over all frames, where those frames differ."""
    compared = 0
    chains = [(243, [121, 81, 49, 27]), (81, [41, 27]), (50, [31, 12, 5]), (17, [9, 6, 4, 2])]
    for frames, r in chains:
        current = list(range(frames))
        for stage in kept(frames, r, "nearest"):
            grid = [Fraction(k * (frames - 1), len(stage) - 1) for k in range(len(stage))]
            closest = [min(current, key=lambda f, point=point: abs(f - point)) for point in grid]
            if len(set(closest)) == len(closest):
                assert stage == closest
                compared += 1
            current = stage
    assert compared >= 8


def test_nearest_takes_a_frame_once() -> None:
    """Of 8 among 9 frames, 4 goes; then both 4 and 5.33 are nearest to 5, and 3 is taken."""
    chain = [[0, 1, 2, 3, 5, 6, 7, 8], [0, 1, 3, 5, 6, 7, 8]]
    assert kept(9, [8, 7], "nearest") == chain


@pytest.mark.parametrize(
    ("frames", "r", "before", "single"),
    [
        (11, [6, 1], [0, 2, 4, 6, 8, 10], 4),  # 4 and 6 are as near to 5: the earlier
        (11, [2, 1], [0, 10], 0),
        (7, [5, 4, 1], [0, 1, 4, 6], 4),
    ],
)
def test_nearest_single_frame_is_that_closest_to_the_middle(
    frames: int, r: list[int], before: list[int], single: int
) -> None:
    assert kept(frames, r, "nearest")[-2:] == [before, [single]]


@given(schedules())
def test_half_even_is_symmetric_in_time(schedule: tuple[int, list[int]]) -> None:
    frames, r = schedule
    frames, r = frames | 1, sorted({k - 1 + k % 2 for k in r}, reverse=True)  # odd counts
    for stage in kept(frames, r):
        assert stage == [frames - 1 - frame for frame in reversed(stage)]
        assert (frames - 1) // 2 in stage


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("centred", [False, True])
@given(schedules())
def test_every_stage_is_ordered_nested_and_complete(
    rounding: str, centred: bool, schedule: tuple[int, list[int]]
) -> None:
    frames, r = schedule
    centre = (frames - 1) // 2 if centred else None
    before = list(range(frames))
    for count, stage in zip(r, kept(frames, r, rounding, centre), strict=True):
        assert len(stage) == count
        assert all(early < late for early, late in pairwise(stage))
        assert set(stage) <= set(before)
        if centre is not None:
            assert centre in stage
        elif count > 1:
            assert (stage[0], stage[-1]) == (0, frames - 1)
        before = stage


@pytest.mark.parametrize(
    ("frames", "r", "plain", "centred"),
    [
        (10, 4, [0, 3, 6, 9], [0, 4, 6, 9]),
        (11, 6, [0, 2, 4, 6, 8, 10], [0, 2, 5, 6, 8, 10]),  # 4 and 6 are as near: the earlier
        (11, 2, [0, 10], [5, 10]),
        (10, 5, [0, 2, 4, 7, 9], [0, 2, 4, 7, 9]),
        (10, 1, [4], [4]),
    ],
)
def test_the_centre_replaces_the_nearest_pick(
    frames: int, r: int, plain: list[int], centred: list[int]
) -> None:
    assert kept(frames, [r]) == [plain]
    assert kept(frames, [r], centre=(frames - 1) // 2) == [centred]


def test_select_gives_positions_among_the_frames_of_a_stage() -> None:
    pruner = UniformPruner(Schedule(9, (5, 3), (0, 1), 2), None, tps_rounding="half_even")
    elsewhere = torch.zeros(1, 9, dtype=torch.int64, device="meta")
    assert pruner.select(Signals(index=elsewhere), 0).is_meta
    first = pruner.select(Signals(torch.arange(9)[None]), 0)
    assert first.tolist() == [[0, 2, 4, 6, 8]]
    assert pruner.select(Signals(first), 1).tolist() == [[0, 2, 4]]
