"""Statistics of timed samples: intervals, warm-up, outliers, ratios. Pure; reads no clock."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # loads its parts when they are first used

Array = npt.NDArray[np.float64]

MIN_SAMPLES = 6
"""Samples below which no interval is claimed: the range of five covers the median with 93.8%."""

# Serial correlation beyond these counts as chance. It may be negative; otherwise a series without
# any would on average appear to have some.
_CORRELATION = (-0.3, 0.95)
_LAGS = np.arange(1, 200)
_MAD_LIMIT = 14.8  # as hyperfine: 10 standard deviations of a normal series


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and how well it is known.

    Attributes:
        value: the number.
        low, high: ends of its interval; None where there are too few samples for one.
        level: share of such intervals that hold the true value.
        n: independent units it rests on (samples, or processes).
    """

    value: float
    low: float | None
    high: float | None
    level: float
    n: int

    @property
    def width(self) -> float:
        """Half the interval as a share of the value; infinite without an interval."""
        if self.low is None or self.high is None:
            return math.inf
        return (self.high - self.low) / 2 / abs(self.value)


def median_interval(values: Sequence[float], *, level: float = 0.95) -> Estimate:
    """The median of a series and its interval, which allows for serial correlation.

    Order statistics of the effective number of samples: n over the factor by which the
    correlation of neighbours (fitted as first order, on normal scores) inflates the variance of a
    median. Where that is fewer than six, the interval is the full range.

    Args:
        values: (n,), in the order of measurement.
        level: of the interval.

    Returns:
        Without an interval for fewer than six samples.

    Raises:
        ValueError: for an empty series or values that are not finite.
    """
    x = _finite(values)
    n, value = len(x), float(np.median(x))
    if n < MIN_SAMPLES:
        return Estimate(value=value, low=None, high=None, level=level, n=n)
    ordered = np.sort(x)
    place = _rank(int(n / _inflation(x)), level)
    low, high = ordered[0], ordered[-1]
    if place is not None:
        low, high = (float(np.quantile(ordered, p, method="hazen")) for p in (place, 1 - place))
    return Estimate(value=value, low=float(low), high=float(high), level=level, n=n)


def _inflation(x: Array) -> float:
    """By how much serial correlation inflates the variance of the median."""
    n = len(x)
    scores = scipy.special.ndtri((scipy.stats.rankdata(x) - 0.5) / n)
    scores -= scores.mean()
    power = float(scores @ scores)
    if power == 0:  # all equal
        return 1.0
    sample = float(scores[1:] @ scores[:-1]) / power
    unbiased = (n * sample + 1) / (n - 5)  # a short series looks less correlated than it is
    correlation = min(max(unbiased, _CORRELATION[0]), _CORRELATION[1])
    # Being above the median is a yes or no, correlated less than the values are.
    return 1 + 4 / math.pi * float(np.arcsin(correlation**_LAGS).sum())


def _rank(n: int, level: float) -> float | None:
    """The quantile, as a share, at which the interval of n independent samples begins.

    Interpolates between two ranks as Hettmansperger and Sheather do. None if even the range of n
    samples holds the median less often than ``level``.
    """
    if n < 1:
        return None
    # Of a fair coin's n throws, at most i.
    below = scipy.special.bdtr(np.arange(n // 2 + 2), n, 0.5)
    rank = max(int(np.searchsorted(below, (1 - level) / 2, side="right")), 1)
    outer, inner = (1 - 2 * float(below[rank - 1 + i]) for i in (0, 1))
    if outer < level:
        return None
    share = (outer - level) / (outer - inner)
    share = (n - rank) * share / (rank + (n - 2 * rank) * share)
    return (rank + share - 0.5) / n


def stationary(values: Sequence[float], *, window: int = 6, tolerance: float = 0.02) -> bool:
    """Whether warm-up is over: the last samples show no trend, or one that does not matter.

    Args:
        values: all warm-up samples so far, in order.
        window: how many of the last are looked at; at least 5, or no trend could be shown.
        tolerance: a fitted change over the window, as a share of its median, that is none.

    Raises:
        ValueError: for a window under 5.
    """
    if window < 5:
        raise ValueError(f"window must be at least 5, got {window}")
    if len(values) < window:
        return False
    last = _finite(values[-window:])
    slope = float(scipy.stats.theilslopes(last).slope)
    if abs(slope) * (window - 1) <= tolerance * float(np.median(last)):
        return True
    return bool(scipy.stats.kendalltau(np.arange(window), last).pvalue > 0.05)


def outliers(values: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Which samples are far off, to be flagged; nothing is ever dropped.

    Args:
        values: (n,).

    Returns:
        (n,), True more than 14.8 median absolute deviations from the median.
    """
    x = _finite(values)
    distance = np.abs(x - np.median(x))
    flagged: npt.NDArray[np.bool_] = distance > _MAD_LIMIT * np.median(distance)
    return flagged


def interleaved_ratio(
    base: Sequence[float], other: Sequence[float], *, level: float = 0.95
) -> Estimate:
    """The ratio other / base of two series measured in turn: base, other twice, base twice, ...

    The median over turns of the ratio within a turn. Even turns (the first is 0) begin with base
    and odd ones with other, so that a drifting machine moves the two kinds apart by as much in
    either direction; the difference between the kinds is removed.

    Args:
        base, other: (n,), one value per turn.

    Returns:
        Without an interval for fewer than six turns.

    Raises:
        ValueError: for series of different lengths, empty, or not positive.
    """
    if len(base) != len(other):
        raise ValueError(f"one value per turn and series, got {len(base)} and {len(other)}")
    logs = _logs(other) - _logs(base)
    if len(logs) > 1:
        shift = (np.median(logs[::2]) - np.median(logs[1::2])) / 2
        logs[::2] -= shift
        logs[1::2] += shift
    return _exponential(median_interval(logs.tolist(), level=level))


def rounds_ratio(
    base: Mapping[int, float], other: Mapping[int, float], *, level: float = 0.95
) -> Estimate | None:
    """The ratio other / base of two series measured in rounds, alternately forwards and backwards.

    Args:
        base, other: round to its value; only rounds that both have are compared, and of those only
            as many as alternate between even and odd (an interruption may have left others).
        level: of the interval.

    Returns:
        None if there is no such round; else as :func:`interleaved_ratio`.
    """
    turns: list[int] = []
    for number in sorted(base.keys() & other.keys()):
        if not turns or (number - turns[-1]) % 2:
            turns.append(number)
    if not turns:
        return None
    return interleaved_ratio([base[t] for t in turns], [other[t] for t in turns], level=level)


def hierarchical_ratio(
    base: Sequence[Sequence[float]],
    head: Sequence[Sequence[float]],
    *,
    level: float,
    paired: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The ratio head / base of two programs, each measured in several processes.

    Processes differ by more than samples within one do, so that processes are drawn first, then
    samples within each, their noise counted once (the spread of processes is shrunk by what noise
    within them explains). The estimate is the mean over processes of the logarithm of a process's
    median; its standard error is that of the bootstrap, times sqrt(K / (K - 1)) for the K
    processes, and its interval has the quantiles of Student's t. Percentiles of the bootstrap
    would not do: with ten processes the level that a gate needs lies outside what resampling can
    reach.

    Args:
        base, head: per process, its samples in order.
        level: of the two-sided interval.
        paired: whether process i of both sides was measured in turn; then pairs are drawn, and
            within a pair, if both have as many samples, the turns.
        resamples: bootstrap replicates.
        seed: of the resampling.

    Returns:
        ``n`` is the number of processes per side, the smaller of the two; without an interval
        for fewer than two.

    Raises:
        ValueError: for a side without processes, unequal numbers of processes in a paired
            measurement, or samples that are not positive.
    """
    if not base or not head:
        raise ValueError(f"each side needs a process, got {len(base)} and {len(head)}")
    if paired and len(base) != len(head):
        raise ValueError(f"pairs need as many processes per side, got {len(base)}, {len(head)}")
    below, above = [_logs(s) for s in base], [_logs(s) for s in head]
    generator = np.random.default_rng(seed)
    n = min(len(base), len(head))
    aligned = paired and all(len(a) == len(b) for a, b in zip(below, above, strict=True))
    if aligned:
        turns = [b - a for a, b in zip(below, above, strict=True)]
        value, spread = _location([turns], [1.0], generator, resamples, together=True)
    else:
        value, spread = _location([below, above], [-1.0, 1.0], generator, resamples, paired)
    if n < 2:
        return Estimate(value=math.exp(value), low=None, high=None, level=level, n=n)
    spread *= math.sqrt(n / (n - 1))
    reach = float(scipy.stats.t.ppf((1 + level) / 2, n - 1)) * spread
    return _exponential(
        Estimate(value=value, low=value - reach, high=value + reach, level=level, n=n)
    )


def _location(
    sides: Sequence[Sequence[Array]],
    signs: Sequence[float],
    generator: np.random.Generator,
    resamples: int,
    together: bool,
) -> tuple[float, float]:
    """Signed sum over sides of the mean of medians, and its bootstrap standard error."""
    value, drawn = 0.0, np.zeros(resamples)
    slots = None
    for series, sign in zip(sides, signs, strict=True):
        medians = np.array([np.median(s) for s in series])
        value += sign * float(medians.mean())
        if slots is None or not together:
            slots = generator.integers(len(series), size=(resamples, len(series)))
        within = _medians(series, slots, generator) - medians[slots]
        between = _shrunk(medians, float((within**2).mean()))
        drawn += sign * (between[slots] + within).mean(axis=1)
    return value, float(drawn.std())


def _shrunk(medians: Array, within: float) -> Array:
    """Medians of processes, less the part of their spread that is noise within a process.

    Resampling within a process adds that part again, and it is to count once.
    """
    if len(medians) < 2:
        return medians
    observed = float(medians.var(ddof=1))
    share = math.sqrt(max(observed - within, 0.0) / observed) if observed else 0.0
    centre = medians.mean()
    shrunk: Array = centre + share * (medians - centre)
    return shrunk


def _medians(
    series: Sequence[Array], slots: npt.NDArray[np.int64], generator: np.random.Generator
) -> Array:
    """Medians of resampled samples of the processes named in slots; (R, K)."""
    sizes = np.array([len(s) for s in series])
    longest = int(sizes.max())
    padded = np.full((len(series), longest), np.inf)
    for row, s in zip(padded, series, strict=True):
        row[: len(s)] = s
    n = sizes[slots]
    places = (generator.random((*slots.shape, longest)) * n[..., None]).astype(np.int64)
    values = padded[slots[..., None], places]
    if (sizes != longest).any():  # shorter processes are resampled to their own length
        values[np.arange(longest) >= n[..., None]] = np.inf
    values.sort(axis=-1)
    middle = [np.take_along_axis(values, m[..., None], -1)[..., 0] for m in ((n - 1) // 2, n // 2)]
    medians: Array = (middle[0] + middle[1]) / 2
    return medians


def proportion_bounds(hits: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson bounds of a proportion.

    Raises:
        ValueError: unless 0 <= hits <= trials and there is a trial.
    """
    interval: Any = scipy.stats.binomtest(hits, trials).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def _finite(values: Sequence[float]) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"expected a series of finite numbers, got {list(values)[:8]}")
    return x


def _logs(values: Sequence[float]) -> Array:
    x = _finite(values)
    if (x <= 0).any():
        raise ValueError(f"a ratio needs positive samples, got {float(x.min())}")
    logs: Array = np.log(x)
    return logs


def _exponential(log: Estimate) -> Estimate:
    """An estimate of a logarithm as one of the number itself."""
    low, high = (None if end is None else math.exp(end) for end in (log.low, log.high))
    return replace(log, value=math.exp(log.value), low=low, high=high)


def paired(
    base: Mapping[int, tuple[str, float]], other: Mapping[int, tuple[str, float]]
) -> Iterator[dict[int, float]]:
    """The values of two series by round, in rounds where one session measured both."""
    both = [number for number in base if number in other and base[number][0] == other[number][0]]
    for series in (base, other):
        yield {number: series[number][1] for number in both}
