"""Drawing the next token; the same for every engine, so that a seed gives the same draw from the same logits."""

from __future__ import annotations

import numpy as np

from phi3tune.engines.base import Sampling


class Sampler:
    """Draws the tokens of one request."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def draw(self, logits: np.ndarray) -> int:
        """The next token from logits float32 [V]: argmax at temperature 0, else nucleus sampling (arXiv 1904.09751)."""
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        shares = np.exp((logits - logits.max()).astype(np.float64) / self._sampling.temperature)
        shares /= shares.sum()
        if self._sampling.top_p >= 1:
            return _pick(shares, self._random.random())
        order = np.argsort(-shares, kind="stable")
        nucleus = order[: np.searchsorted(np.cumsum(shares[order]), self._sampling.top_p) + 1]
        return int(nucleus[_pick(shares[nucleus], self._random.random())])


def _pick(weights: np.ndarray, point: float) -> int:
    """The index at a point of [0, 1) of the whole weight."""
    ends = np.cumsum(weights)
    return min(int(np.searchsorted(ends, point * ends[-1], side="right")), len(weights) - 1)
