"""How sure a number is: paired bootstrap intervals and an exact test, over rows.

Intervals are expanded percentile intervals (Hesterberg 2015, https://doi.org/10.1080/00031305.2015.1089789):
percentiles of the resampled value, taken a little further out so that they are as wide as a t interval.
benchmarks/interval_coverage.py shows how often they hold the true difference, beside other kinds of interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, norm, t

LEVEL = 0.95
_POWER = 0.8
_DRAWN_AT_ONCE = 2_000_000  # row numbers: 16 MB
_MOST_ROWS = 1_000_000_000


@dataclass(frozen=True)
class Interval:
    """A difference and the interval that holds the true one with the given level of confidence."""

    difference: float
    low: float
    high: float


class Resampling:
    """Draws of as many rows as there are, with replacement; the same draws for everything that is compared."""

    def __init__(self, rows: int, *, resamples: int, seed: int) -> None:
        self.rows = rows
        self._resamples = resamples
        self._seed = seed

    def sums(self, counts: np.ndarray) -> np.ndarray:
        """Sums over the rows of each draw, float64 [resamples, k], of what counts [rows, k] adds up."""
        return np.concatenate([times @ counts for times in self._draws()])

    def _draws(self) -> Iterator[np.ndarray]:
        """How often each row is drawn, float64 [draws, rows], in pieces of bounded memory."""
        random = np.random.default_rng(self._seed)
        step = max(1, _DRAWN_AT_ONCE // self.rows)
        for start in range(0, self._resamples, step):
            count = min(step, self._resamples - start)
            drawn = random.integers(self.rows, size=(count, self.rows))
            drawn += np.arange(count)[:, None] * self.rows
            yield np.bincount(drawn.ravel(), minlength=count * self.rows).reshape(count, -1).astype(np.float64)


def bounds(
    value: float, drawn: np.ndarray, rows: int, *, level: float = LEVEL, limits: tuple[float, float] | None = None
) -> tuple[float, float] | None:
    """The interval around a value, from its resamples [resamples]; None where two rows cannot be had.

    With `limits` the value is a mean over rows between them. Where all rows agree, resamples cannot differ; then it
    is the exact interval for a share of rows that none of them showed (Clopper and Pearson 1934), at its worst.
    """
    drawn = drawn[np.isfinite(drawn)]
    if rows < 2 or len(drawn) == 0:
        return None
    outside = (1 - level) / 2
    if limits is not None and np.ptp(drawn) < 1e-12:
        unseen = 1 - outside ** (1 / rows)
        return max(limits[0], value - unseen), min(limits[1], value + unseen)
    outside = float(norm.cdf(math.sqrt(rows / (rows - 1)) * t.ppf(outside, rows - 1)))
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return float(low), float(high)


def paired_interval(a: ArrayLike, b: ArrayLike, *, resamples: int, seed: int, level: float = LEVEL) -> Interval:
    """The mean of a - b over rows, with its bootstrap interval.

    a, b  [rows]  values of two models on the same rows, in the same order
    Raises `ValueError` for different lengths and for fewer than two rows.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"two arrays of the same length, two or more, are needed, not {a.shape} and {b.shape}")
    counts = (a - b)[:, None]
    drawn = Resampling(len(a), resamples=resamples, seed=seed).sums(counts)[:, 0] / len(a)
    shares = min(a.min(), b.min()) >= 0 and max(a.max(), b.max()) <= 1
    difference = float(counts.mean())
    found = bounds(difference, drawn, len(a), level=level, limits=(-1.0, 1.0) if shares else None)
    assert found is not None  # two rows or more, all of them finite
    return Interval(difference, *found)


def sign_test(wins: int, losses: int) -> float:
    """p-value of the exact two-sided sign test; ties take no part. It is McNemar's exact test for right and wrong."""
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def rows_needed(difference: float, drawn: np.ndarray, rows: int, *, level: float = LEVEL) -> int | None:
    """How many rows would be enough to see a difference of this size, 8 times in 10; None when there is none.

    The usual normal approximation: the standard error, here that of the resamples [resamples], falls with the root
    of the number of rows (Cohen 1988, Statistical Power Analysis, chapter 2).
    """
    error = float(np.std(drawn[np.isfinite(drawn)])) if np.isfinite(drawn).any() else 0.0
    if difference == 0 or error == 0:
        return None
    width = float(norm.ppf((1 + level) / 2) + norm.ppf(_POWER))
    needed = rows * (width * error / abs(difference)) ** 2
    return math.ceil(needed) if needed < _MOST_ROWS else None
