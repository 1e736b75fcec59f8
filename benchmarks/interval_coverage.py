"""How often the 95 % interval of a difference holds the true one: 5,000 simulated evaluations of 200 rows a line.

    python benchmarks/interval_coverage.py [simulations]

The first column is the interval that the reports give (phi3tune.evaluation.paired_interval); it should be right in
93.5 to 96.5 % of the evaluations. Beside it, on the same resamples: the plain percentile interval, BCa, bootstrap-t
(Efron and Tibshirani 1993, chapters 13 and 14) and Student's t, which is not a bootstrap. The last line is a warning
and no promise: differences of a heavy-tailed value, such as a latency with rare long waits, need more rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import beta, expon, norm, t

from phi3tune.evaluation.certainty import Resampling, bounds

ROWS, RESAMPLES, SEED, LEVEL = 200, 10_000, 0, 0.95
_AT_ONCE = 500  # simulations whose resamples are in memory together: 40 MB an array

Values = Callable[[np.ndarray], np.ndarray]  # quantile function of one model's values
Scenario = tuple[Values, Values, float, float]  # both models, correlation of their rows, true difference of means


def yes(rate: float) -> Values:
    """Right or wrong."""
    return lambda u: (u > 1 - rate).astype(np.float64)


def partly(wrong: float, right: float, a: float, b: float) -> Values:
    """Like token F1: a share of 0, a share of 1, and a beta distribution between them."""
    grid = np.linspace(0, 1, 20_001)
    table = beta.ppf(grid, a, b)

    def values(u: np.ndarray) -> np.ndarray:
        inner = np.interp((u - wrong) / (1 - wrong - right), grid, table)
        return np.where(u < wrong, 0.0, np.where(u > 1 - right, 1.0, inner))

    return values


def lognormal(sigma: float, shift: float = 0.0) -> Values:
    return lambda u: np.exp(sigma * norm.ppf(u)) + shift


def _mean_partly(wrong: float, right: float, a: float, b: float) -> float:
    return right + (1 - wrong - right) * a / (a + b)


def _rates(first: float, second: float, correlation: float) -> Scenario:
    return yes(first), yes(second), correlation, first - second


def _shares(first: tuple[float, ...], second: tuple[float, ...], correlation: float) -> Scenario:
    return partly(*first), partly(*second), correlation, _mean_partly(*first) - _mean_partly(*second)


SCENARIOS: dict[str, Scenario] = {
    "right or wrong, 5 % and 10 %, independent": _rates(0.05, 0.10, 0.0),
    "right or wrong, 5 % and 10 %, correlated": _rates(0.05, 0.10, 0.8),
    "right or wrong, 1 % and 3 %": _rates(0.01, 0.03, 0.5),
    "right or wrong, 50 % and 60 %, independent": _rates(0.50, 0.60, 0.0),
    "right or wrong, 50 % and 60 %, correlated": _rates(0.50, 0.60, 0.8),
    "right or wrong, 2 % and 87 %": _rates(0.02, 0.87, 0.5),
    "right or wrong, 30 % and 30 %": _rates(0.30, 0.30, 0.5),
    "token F1, middling": _shares((0.1, 0.2, 2, 2), (0.2, 0.1, 2, 3), 0.5),
    "token F1, mostly 1": _shares((0.02, 0.7, 3, 1), (0.05, 0.6, 3, 1), 0.5),
    "skewed: exponential against 0": (expon.ppf, np.zeros_like, 0.0, 1.0),
    "skewed: lognormal, shifted": (lognormal(0.5), lognormal(0.5, 0.1), 0.5, -0.1),
}
HEAVY_TAIL: Scenario = (lognormal(1.0), lognormal(0.5), 0.5, float(np.exp(0.5) - np.exp(0.125)))


def simulate(scenario: Scenario, simulations: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Values of both models, float64 [simulations, rows] each."""
    random = np.random.default_rng(seed)
    first, second, correlation, _ = scenario
    one = random.standard_normal((simulations, ROWS))
    other = correlation * one + np.sqrt(1 - correlation**2) * random.standard_normal((simulations, ROWS))
    return first(norm.cdf(one)), second(norm.cdf(other))


def intervals(differences: np.ndarray) -> Iterator[dict[str, tuple[float, float]]]:
    """Every kind of interval for each simulation of differences [simulations, rows]; all share one set of draws."""
    resampling = Resampling(ROWS, resamples=RESAMPLES, seed=SEED)
    limits = (-1.0, 1.0) if np.abs(differences).max() <= 1 else None
    for start in range(0, len(differences), _AT_ONCE):
        some = differences[start : start + _AT_ONCE].T
        drawn, squares = resampling.sums(some) / ROWS, resampling.sums(some**2) / ROWS
        for row, sample, square in zip(some.T, drawn.T, squares.T, strict=True):
            ours = bounds(float(row.mean()), sample, ROWS, level=LEVEL, limits=limits)
            assert ours is not None
            yield {"phi3tune": ours, **_others(row, sample, square)}


def _others(row: np.ndarray, drawn: np.ndarray, squares: np.ndarray) -> dict[str, tuple[float, float]]:
    mean, error = row.mean(), row.std(ddof=1) / np.sqrt(ROWS)
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    below = (drawn < mean - 1e-12).mean() + 0.5 * (np.abs(drawn - mean) <= 1e-12).mean()
    shift = norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    spread = ((row - mean) ** 2).sum() ** 1.5
    skew = ((row - mean) ** 3).sum() / (6 * spread) if spread > 0 else 0.0
    moved = shift + norm.ppf(tails)
    errors = np.sqrt(np.maximum(squares - drawn**2, 1e-12) / (ROWS - 1))
    low_t, high_t = np.quantile((drawn - mean) / errors, tails)
    student = t.ppf(tails, ROWS - 1)
    return {
        "percentile": tuple(np.quantile(drawn, tails)),
        "BCa": tuple(np.quantile(drawn, norm.cdf(shift + moved / (1 - skew * moved)))),
        "bootstrap-t": (mean - high_t * error, mean - low_t * error),
        "Student's t": (mean + student[0] * error, mean + student[1] * error),
    }


def coverage(scenario: Scenario, simulations: int) -> dict[str, float]:
    """By kind of interval, the share of simulations in which it holds the true difference."""
    first, second = simulate(scenario, simulations)
    true, held = scenario[3], dict[str, int]()
    for kinds in intervals(first - second):
        for kind, (low, high) in kinds.items():
            held[kind] = held.get(kind, 0) + bool(low - 1e-12 <= true <= high + 1e-12)
    return {kind: count / simulations for kind, count in held.items()}


def main() -> None:
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    for number, (name, scenario) in enumerate([*SCENARIOS.items(), ("heavy tail: lognormal, sigma 1", HEAVY_TAIL)]):
        found = coverage(scenario, simulations)
        if number == 0:
            print(f"{'coverage in %':<44}" + "".join(f"{kind:>13}" for kind in found))
        print(f"{name:<44}" + "".join(f"{100 * share:>13.1f}" for share in found.values()), flush=True)


if __name__ == "__main__":
    main()
