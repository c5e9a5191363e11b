"""Paired comparison of two configurations on the same views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import stats

RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """Mean over views of one configuration's error minus another's.

    Attributes:
        mean: in the unit of the errors.
        low, high: 95% bootstrap interval over source clips, percentile method.
        error: standard deviation of the mean over the bootstrap.
        clips: independent clips behind it.
    """

    mean: float
    low: float
    high: float
    error: float
    clips: int

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"

    @property
    def detectable(self) -> float:
        """The smallest true difference detected at 5% in 4 of 5 such samples."""
        freedom = max(self.clips - 1, 1)
        return float(stats.t.ppf(0.975, freedom) + stats.t.ppf(0.8, freedom)) * self.error

    def wide(self, tests: int) -> tuple[float, float]:
        """A joint 95% interval for many such tests (Bonferroni, t)."""
        reach = float(stats.t.ppf(1 - 0.025 / max(tests, 1), max(self.clips - 1, 1))) * self.error
        return self.mean - reach, self.mean + reach


def difference(
    ours: Sequence[float], base: Sequence[float], clips: Sequence[str], seed: int = 0
) -> Difference:
    """Compare two configurations view by view.

    Views of one clip, from several cameras and times, are not independent, so the bootstrap draws
    whole clips.

    Args:
        ours, base: error per view, in one order.
        clips: the clip of each view.
        seed: of the bootstrap.

    Raises:
        ValueError: if the lengths differ or there is no view.
    """
    if not len(ours) == len(base) == len(clips) or not len(ours):
        raise ValueError(f"{len(ours)} and {len(base)} errors of {len(clips)} views")
    gaps = np.asarray(ours, dtype=np.float64) - np.asarray(base, dtype=np.float64)
    names, place = np.unique(np.asarray(clips), return_inverse=True)
    sums = np.bincount(place, weights=gaps)
    counts = np.bincount(place).astype(np.float64)
    draws = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    # The bootstrap of n clips has (n - 1) / n of the variance.
    error = float(means.std()) * sqrt(len(names) / max(len(names) - 1, 1))
    return Difference(float(gaps.mean()), float(low), float(high), error, len(names))


@dataclass(frozen=True)
class Ordering:
    """Number of the paper's ordered pairs that hold here.

    Attributes:
        holds: pairs whose interval is wholly on the paper's side of zero.
        reversed: pairs whose interval is wholly on the other side.
        open: pairs whose interval contains zero.
    """

    holds: int
    reversed: int
    open: int

    @property
    def verdict(self) -> str:
        """Whether the paper's ordering holds on this data."""
        if self.reversed:
            return "does not hold on this data"
        if self.open:
            return "cannot be decided on this data"
        return "holds on this data"


def ordering(
    printed: Sequence[float], errors: Sequence[Sequence[float]], clips: Sequence[str]
) -> Ordering:
    """Compare every pair of rows that the paper orders.

    Args:
        printed: the paper's error of each row.
        errors: ours of each row, per view.
        clips: the clip of each view.
    """
    pairs = [
        (i, j)
        for i in range(len(printed))
        for j in range(len(printed))
        if printed[i] < printed[j] and errors[i] is not errors[j]
    ]
    holds = backwards = 0
    for better, worse in pairs:
        low, high = difference(errors[better], errors[worse], clips).wide(len(pairs))
        holds += high < 0
        backwards += low > 0
    return Ordering(holds, backwards, len(pairs) - holds - backwards)
