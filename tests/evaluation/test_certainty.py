from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from benchmarks import interval_coverage as simulated
from phi3tune.evaluation import certainty, paired_interval
from phi3tune.evaluation.certainty import Resampling, bounds, rows_needed, sign_test


def test_difference_is_the_first_less_the_second() -> None:
    a, b = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0, 0.0])
    found = paired_interval(a, b, resamples=2000, seed=0)
    assert found.difference == 0.5
    assert found.low < 0.5 < found.high
    back = paired_interval(b, a, resamples=2000, seed=0)
    assert (back.difference, back.low, back.high) == pytest.approx((-0.5, -found.high, -found.low))


def test_same_seed_same_interval_and_level_widens_it() -> None:
    random = np.random.default_rng(3)
    a, b = random.random(80), random.random(80)
    one, again = (paired_interval(a, b, resamples=1000, seed=5) for _ in range(2))
    assert one == again
    assert one != paired_interval(a, b, resamples=1000, seed=6)
    wide = paired_interval(a, b, resamples=1000, seed=5, level=0.99)
    assert wide.low < one.low < one.high < wide.high


def test_pairing_makes_the_interval_narrow() -> None:
    random = np.random.default_rng(4)
    b = random.random(200)
    a = b + 0.01 + 0.001 * random.standard_normal(200)
    paired = paired_interval(a, b, resamples=1000, seed=0)
    shuffled = paired_interval(a, random.permutation(b), resamples=1000, seed=0)
    assert paired.low > 0
    assert shuffled.high - shuffled.low > 50 * (paired.high - paired.low)


def test_interval_is_a_little_wider_than_the_normal_one() -> None:
    """Continuous values: the normal approximation must come out, with the t distribution's quantile."""
    values = np.random.default_rng(5).standard_normal(30)
    found = paired_interval(values, np.zeros(30), resamples=100_000, seed=0)
    error = values.std(ddof=1) / np.sqrt(30)
    assert (found.high - found.low) / (2 * error) == pytest.approx(2.045, abs=0.06)


def test_draws_do_not_depend_on_the_memory_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(6).random((50, 3))
    whole = Resampling(50, resamples=999, seed=1).sums(counts)
    monkeypatch.setattr(certainty, "_DRAWN_AT_ONCE", 400)
    pieces = Resampling(50, resamples=999, seed=1).sums(counts)
    assert whole.shape == (999, 3)
    assert np.allclose(whole, pieces)
    assert whole.mean(axis=0) / 50 == pytest.approx(counts.mean(axis=0), abs=0.01)


def test_rows_that_all_agree_still_leave_doubt() -> None:
    """Where resamples cannot differ, the exact interval of 0 hits in n rows takes their place."""
    right, wrong = np.ones(112), np.zeros(112)
    exact = binomtest(0, 112).proportion_ci(0.95, method="exact").high
    same = paired_interval(right, right, resamples=1000, seed=0)
    assert (same.difference, same.low, same.high) == pytest.approx((0.0, -exact, exact))
    every = paired_interval(right, wrong, resamples=1000, seed=0)
    assert (every.difference, every.low, every.high) == pytest.approx((1.0, 1 - exact, 1.0))
    assert bounds(0.0, np.zeros(1000), 112, limits=(0.0, 1.0)) == pytest.approx((0.0, exact))


def test_what_cannot_have_an_interval() -> None:
    with pytest.raises(ValueError, match="same length"):
        paired_interval([1.0], [0.0], resamples=1000, seed=0)
    with pytest.raises(ValueError, match="same length"):
        paired_interval([1.0, 0.0], [0.0, 1.0, 1.0], resamples=1000, seed=0)
    assert bounds(1.0, np.array([1.0, 1.0]), 1) is None
    assert bounds(1.0, np.array([np.nan, np.nan]), 10) is None


def test_sign_test() -> None:
    assert sign_test(8, 1) == pytest.approx(2 * 10 / 2**9)
    assert sign_test(1, 8) == sign_test(8, 1)
    assert sign_test(0, 0) == 1.0


def test_rows_needed_would_be_enough_eight_times_in_ten() -> None:
    """Simulated: with that many rows, an interval leaves zero out about 8 times in 10."""
    random = np.random.default_rng(7)
    rows, lift, spread = 40, 0.05, 0.3
    drawn = lift + spread / np.sqrt(rows) * random.standard_normal(100_000)
    needed = rows_needed(lift, drawn, rows)
    assert needed is not None
    assert needed == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) ** 2 * (spread / lift) ** 2, rel=0.02)
    means = lift + spread / np.sqrt(needed) * random.standard_normal(4000)
    seen = (means - 1.96 * spread / np.sqrt(needed) > 0).mean()
    assert seen == pytest.approx(0.8, abs=0.03)
    assert rows_needed(0.0, drawn, rows) is None
    assert rows_needed(1e-12, drawn, rows) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "right or wrong, 5 % and 10 %, independent",
        "right or wrong, 50 % and 60 %, correlated",
        "token F1, middling",
        "skewed: exponential against 0",
    ],
)
def test_interval_holds_the_true_difference_95_times_in_100(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 evaluations of 200 rows, seeds fixed; benchmarks/interval_coverage.py does more kinds and resamples."""
    monkeypatch.setattr(simulated, "RESAMPLES", 2_000)
    monkeypatch.setattr(simulated, "_others", lambda *_: {})
    assert 0.935 <= simulated.coverage(simulated.SCENARIOS[name], 5_000)["phi3tune"] <= 0.965


def test_simulation_gives_what_paired_interval_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "RESAMPLES", 1_000)
    first, second = simulated.simulate(next(iter(simulated.SCENARIOS.values())), 3)
    for row, found in enumerate(simulated.intervals(first - second)):
        one = paired_interval(first[row], second[row], resamples=1_000, seed=simulated.SEED)
        assert found["phi3tune"] == (one.low, one.high)
