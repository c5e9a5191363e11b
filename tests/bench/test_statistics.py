"""Intervals that cover what they claim to, on series whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from bench.timing import statistics
from bench.timing.statistics import (
    hierarchical_ratio,
    interleaved_ratio,
    median_interval,
    outliers,
    proportion_bounds,
    stationary,
)

SERIES = 500


def correlated(phi: float, shape: tuple[int, int], seed: int) -> np.ndarray:
    """First-order series around 0, one per row, long since stationary."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((shape[0], shape[1] + 60))
    for i in range(1, noise.shape[1]):
        noise[:, i] += phi * noise[:, i - 1]
    return noise[:, 60:]


def holds(found: statistics.Estimate, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


# --- the interval of a median ------------------------------------------------------------------


@pytest.mark.parametrize("series", [SERIES, 3000])
@pytest.mark.parametrize(
    ("phi", "least", "most"), [(0.0, 0.93, 0.97), (0.3, 0.93, 0.97), (0.6, 0.90, 0.97)]
)
def test_the_interval_covers_the_long_run_median(
    phi: float, series: int, least: float, most: float
) -> None:
    """500 series, as promised, and six times as many, so that no lucky seed is needed."""
    lengths = np.random.default_rng(0).integers(40, 201, series)
    rows = correlated(phi, (series, 200), seed=0)
    found = [median_interval(x[:n].tolist()) for x, n in zip(rows, lengths, strict=True)]
    assert least <= np.mean([holds(f, 0.0) for f in found]) <= most


@pytest.mark.parametrize(("n", "least"), [(6, 0.93), (10, 0.93), (20, 0.93)])
def test_a_short_series_without_correlation_is_covered_too(n: int, least: float) -> None:
    found = [median_interval(x.tolist()) for x in correlated(0.0, (2000, n), seed=0)]
    assert least <= np.mean([holds(f, 0.0) for f in found])


@pytest.mark.parametrize("skewed", [np.exp, lambda x: np.abs(x) ** 3])
def test_the_interval_needs_no_normal_series(
    skewed: Callable[[np.ndarray], np.ndarray],
) -> None:
    raw = correlated(0.0, (SERIES, 60), seed=1)
    truth = float(skewed(np.array([0.0 if skewed is np.exp else stats.norm.ppf(0.75)]))[0])
    share = np.mean([holds(median_interval(x.tolist()), truth) for x in skewed(raw)])
    assert 0.93 <= share <= 0.975


def test_a_correlated_series_has_a_wider_interval() -> None:
    widths = []
    for phi in (0.0, 0.6):
        rows = correlated(phi, (50, 100), seed=2)
        rows = rows / rows.std() + 100
        widths.append(np.median([median_interval(x.tolist()).width for x in rows]))
    assert widths[1] > 1.4 * widths[0]


@pytest.mark.parametrize("n", range(1, 6))
def test_under_six_samples_no_interval_is_claimed(n: int) -> None:
    found = median_interval([float(i + 1) for i in range(n)])
    assert (found.low, found.high, found.n) == (None, None, n)
    assert found.value == (n + 1) / 2
    assert math.isinf(found.width)


def test_six_samples_have_their_range() -> None:
    found = median_interval([3.0, 1.0, 6.0, 2.0, 5.0, 4.0])
    assert found.low is not None
    assert found.high is not None
    assert 1.0 <= found.low < 2.0
    assert 5.0 < found.high <= 6.0


def test_equal_samples_are_known_exactly() -> None:
    found = median_interval([2.0] * 20)
    assert (found.value, found.low, found.high, found.width) == (2.0, 2.0, 2.0, 0.0)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf] * 7])
def test_what_is_no_series_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        median_interval(values)


# --- warm-up and outliers ----------------------------------------------------------------------


def test_warm_up_lasts_until_the_series_is_level() -> None:
    rng = np.random.default_rng(0)
    falling = [1 + math.exp(-i / 3) + 0.002 * rng.standard_normal() for i in range(40)]
    assert not any(stationary(falling[:n]) for n in range(1, 12))
    assert stationary(falling)
    assert stationary([5.0, *[1.0] * 6])  # the first call alone was slow
    assert not stationary([1.0] * 5)


def test_noise_alone_is_mostly_level() -> None:
    rows = 1 + 0.1 * correlated(0.0, (SERIES, 6), seed=3)
    assert np.mean([stationary(x.tolist()) for x in rows]) > 0.9


def test_a_window_that_cannot_show_a_trend_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 5, got 4"):
        stationary([1.0] * 9, window=4)


def test_outliers_are_flagged_and_kept() -> None:
    values = [1.0, 1.01, 0.99, 1.02, 3.0, 0.98, 1.0, 1.01]
    assert outliers(values).tolist() == [v == 3.0 for v in values]
    assert not outliers([1.0] * 5).any()


# --- ratios of interleaved series --------------------------------------------------------------


def interleaved(
    turns: int, *, drift: float, ratio: float, noise: float, seed: int
) -> tuple[list[float], list[float]]:
    """Two series taken as ABBA on a machine that grows slower by ``drift`` on the whole."""
    rng = np.random.default_rng(seed)
    levels: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns):
        for place, side in enumerate((0, 1) if turn % 2 == 0 else (1, 0)):
            slow = 1 + drift * (2 * turn + place) / (2 * turns - 1)
            level = slow * (ratio if side else 1.0) * math.exp(noise * rng.standard_normal())
            levels[side].append(level)
    return levels


@pytest.mark.parametrize("turns", [6, 10, 11, 40])
@pytest.mark.parametrize("drift", [0.1, -0.1])
def test_drift_does_not_bias_the_ratio(turns: int, drift: float) -> None:
    base, other = interleaved(turns, drift=drift, ratio=0.5, noise=0.0, seed=0)
    found = interleaved_ratio(base, other)
    assert abs(found.value / 0.5 - 1) < 0.005
    assert abs(found.value / 0.5 - 1) < 0.001  # not even a fifth of what is asked
    many = [
        interleaved_ratio(*interleaved(turns, drift=drift, ratio=0.5, noise=0.01, seed=s)).value
        for s in range(200)
    ]
    assert abs(np.mean(many) / 0.5 - 1) < 0.005


@pytest.mark.parametrize("turns", [10, 40])
def test_the_interval_of_a_ratio_covers_it_under_drift(turns: int) -> None:
    found = [
        interleaved_ratio(*interleaved(turns, drift=0.1, ratio=0.5, noise=0.03, seed=s))
        for s in range(SERIES)
    ]
    assert np.mean([holds(f, 0.5) for f in found]) >= 0.92


def test_few_turns_have_a_ratio_and_no_interval() -> None:
    found = interleaved_ratio([1.0] * 5, [2.0] * 5)
    assert (found.value, found.low) == (2.0, None)
    assert interleaved_ratio([1.0], [2.0]).value == 2.0
    with pytest.raises(ValueError, match="got 1 and 2"):
        interleaved_ratio([1.0], [2.0, 2.0])
    with pytest.raises(ValueError, match="positive"):
        interleaved_ratio([0.0], [2.0])


# --- processes, then samples -------------------------------------------------------------------


def processes(
    count: int, samples: int, level: float, spread: float, rng: np.random.Generator
) -> list[list[float]]:
    return [
        (
            level * np.exp(spread * rng.standard_normal() + 0.01 * rng.standard_normal(samples))
        ).tolist()
        for _ in range(count)
    ]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("samples", [(8, 8), (8, 11)])
def test_the_interval_covers_the_ratio_of_programs(paired: bool, samples: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(300):
        base = processes(8, samples[0], 1.0, 0.02, rng)
        head = processes(8, samples[1], 1.05, 0.02, rng)
        hits += holds(hierarchical_ratio(base, head, level=0.95, paired=paired), 1.05)
    assert hits / 300 >= 0.92  # unpaired, the degrees of freedom are chosen too low


def test_processes_of_different_lengths() -> None:
    base = [[1.0, 1.0, 1.0], [2.0, 2.0], [1.0]]
    head = [[2.0], [4.0, 4.0], [2.0, 2.0, 2.0]]
    found = hierarchical_ratio(base, head, level=0.9, paired=True)
    assert found.value == pytest.approx(2.0)
    assert found.low == pytest.approx(2.0)  # pairs are drawn together, so their levels cancel
    apart = hierarchical_ratio(base, head, level=0.9)
    assert apart.low is not None
    assert apart.low < 1.9


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(5)
    base, head = (processes(6, 6, 1.0, 0.01, rng) for _ in range(2))
    assert hierarchical_ratio(base, head, level=0.99) == hierarchical_ratio(base, head, level=0.99)
    assert hierarchical_ratio(base, head, level=0.99, seed=1) != hierarchical_ratio(
        base, head, level=0.99
    )


def test_one_process_says_nothing_of_others() -> None:
    found = hierarchical_ratio([[1.0] * 9], [[2.0] * 9], level=0.95)
    assert (found.value, found.low, found.n) == (pytest.approx(2.0), None, 1)


@pytest.mark.parametrize(
    ("base", "head", "paired", "message"),
    [
        ([], [[1.0]], False, "got 0 and 1"),
        ([[1.0]], [[1.0], [1.0]], True, "as many processes per side, got 1, 2"),
        ([[-1.0]], [[1.0]], False, "positive samples, got -1.0"),
    ],
)
def test_measurements_that_do_not_fit(
    base: list[list[float]], head: list[list[float]], paired: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        hierarchical_ratio(base, head, level=0.95, paired=paired)


def test_bounds_of_a_proportion() -> None:
    assert proportion_bounds(0, 300, level=0.9)[1] == pytest.approx(0.00994, abs=1e-4)
    low, high = proportion_bounds(95, 100)
    assert (low, high) == (pytest.approx(0.887, abs=1e-3), pytest.approx(0.984, abs=1e-3))
