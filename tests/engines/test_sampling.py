"""Draws follow the distribution that temperature and top-p define."""

from __future__ import annotations

import numpy as np
import pytest

from phi3tune.engines.base import Sampling
from phi3tune.engines.sampling import Sampler

SHARES = np.array([0.1, 0.5, 0.15, 0.25])
LOGITS = np.log(SHARES).astype(np.float32)


def frequencies(**settings: float) -> np.ndarray:
    sampler = Sampler(Sampling(1, seed=5, **settings))
    draws = [sampler.draw(LOGITS) for _ in range(20_000)]
    return np.bincount(draws, minlength=4) / len(draws)


def test_temperature_0_is_argmax() -> None:
    assert Sampler(Sampling(temperature=0.0, seed=1)).draw(LOGITS) == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature(temperature: float) -> None:
    expected = SHARES ** (1 / temperature)
    np.testing.assert_allclose(frequencies(temperature=temperature), expected / expected.sum(), atol=0.015)


@pytest.mark.parametrize(
    ("top_p", "nucleus"), [(0.4, [1]), (0.5, [1]), (0.51, [1, 3]), (0.8, [1, 2, 3]), (0.99, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, nucleus: list[int]) -> None:
    expected = np.zeros(4)
    expected[nucleus] = SHARES[nucleus] / SHARES[nucleus].sum()
    np.testing.assert_allclose(frequencies(temperature=1.0, top_p=top_p), expected, atol=0.015)


@pytest.mark.parametrize(
    ("top_k", "top_p", "expected"), [(1, 1.0, [1]), (2, 1.0, [1, 3]), (3, 0.7, [1, 3]), (9, 0.45, [1])]
)
def test_top_k_comes_before_top_p(top_k: int, top_p: float, expected: list[int]) -> None:
    shares = np.zeros(4)
    shares[expected] = SHARES[expected] / SHARES[expected].sum()
    np.testing.assert_allclose(frequencies(temperature=1.0, top_k=top_k, top_p=top_p), shares, atol=0.015)


def test_the_nucleus_is_that_of_the_whole_vocabulary() -> None:
    random = np.random.default_rng(0)
    for top_p in (0.05, 0.5, 0.9, 0.99):
        logits = (random.normal(size=4096) * random.uniform(0.5, 4)).astype(np.float32)
        shares = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
        order = np.argsort(-shares, kind="stable")
        nucleus = order[: np.searchsorted(np.cumsum(shares[order]), top_p) + 1]
        sampler = Sampler(Sampling(temperature=1.0, top_p=top_p))
        drawn = {sampler.draw(logits) for _ in range(300)}
        assert drawn <= set(nucleus.tolist())
        assert len(drawn) >= min(len(nucleus), 3)


def test_seed() -> None:
    def draws(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler.draw(LOGITS) for _ in range(30)]

    assert draws(1) == draws(1) != draws(2)


def test_extreme_logits() -> None:
    logits = np.array([-1e30, 80.0, 1e4, -np.inf], np.float32)
    sampler = Sampler(Sampling(temperature=0.01, top_p=0.9))
    assert {sampler.draw(logits) for _ in range(50)} == {2}
