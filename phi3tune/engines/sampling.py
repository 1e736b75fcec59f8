"""Drawing the next token; the same for every engine, so that a seed gives the same draw from the same logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from phi3tune.engines.base import Sampling, TokenLogprob
from phi3tune.errors import UserError

if TYPE_CHECKING:
    from phi3tune.engines.guide import Matcher


class Sampler:
    """Draws the tokens of one answer to a prompt; `matcher` allows only tokens that keep to a form.

    What changes the logits, in this order: repetition penalty, presence and frequency penalty, bias, form,
    temperature, top-k, top-p. Raises `UserError` for a bias on a token that the model does not have.
    """

    def __init__(self, sampling: Sampling, prompt_ids: Sequence[int] = (), matcher: Matcher | None = None) -> None:
        self._sampling = sampling
        self._matcher = matcher
        self._random = np.random.default_rng(sampling.seed)
        self._penalised = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self._bias_ids = np.fromiter(sampling.logit_bias.keys(), np.int64)
        self._bias = np.fromiter(sampling.logit_bias.values(), np.float32)
        self._counts: dict[int, int] = {}  # of the answer's tokens
        self._seen = set(prompt_ids) if sampling.repetition_penalty != 1 else None
        self._untouched = not (self._penalised or self._seen is not None or len(self._bias) or matcher is not None)

    @property
    def likeliest(self) -> bool:
        """Whether it takes the likeliest token of the logits as they are."""
        return self._untouched and self._sampling.temperature == 0

    def draw(self, logits: np.ndarray) -> int:
        """The next token from logits float32 [V]: argmax at temperature 0, else a draw from what top-k leaves and
        from the nucleus of that (arXiv 1904.09751)."""
        if self._untouched:
            return self._pick(logits)
        token = self._pick(self._changed(logits))
        self._counts[token] = self._counts.get(token, 0) + 1
        if self._seen is not None:
            self._seen.add(token)
        if self._matcher is not None:
            self._matcher.take(token)
        return token

    def _changed(self, logits: np.ndarray) -> np.ndarray:
        logits, sampling = logits.copy(), self._sampling
        if self._seen:
            seen = np.fromiter(self._seen, np.int64, len(self._seen))
            values, penalty = logits[seen], sampling.repetition_penalty
            logits[seen] = np.where(values > 0, values / penalty, values * penalty)
        if self._penalised and self._counts:
            said = np.fromiter(self._counts.keys(), np.int64)
            times = np.fromiter(self._counts.values(), np.float32)
            logits[said] -= sampling.presence_penalty + sampling.frequency_penalty * times
        if len(self._bias):
            if not 0 <= self._bias_ids.min() <= self._bias_ids.max() < len(logits):
                raise UserError(f"logit_bias names a token beyond the model's {len(logits)}; leave it out")
            logits[self._bias_ids] += self._bias
        if self._matcher is not None:
            logits[~self._matcher.allowed(len(logits))] = -np.inf
        return logits

    def _pick(self, logits: np.ndarray) -> int:
        sampling = self._sampling
        if sampling.temperature == 0:
            return int(logits.argmax())
        shares = np.exp((logits - logits.max()).astype(np.float64) / sampling.temperature)
        chosen = np.arange(len(shares))
        if 0 < sampling.top_k < len(shares):
            chosen = np.sort(np.argpartition(shares, -sampling.top_k)[-sampling.top_k :])
            shares = shares[chosen]
        shares /= shares.sum()
        if sampling.top_p < 1:
            # Tokens below this share are, all together, less than what the nucleus may leave out.
            likely = np.flatnonzero(shares >= (1 - sampling.top_p) / len(shares))
            order = likely[np.argsort(-shares[likely], kind="stable")]
            nucleus = order[: np.searchsorted(np.cumsum(shares[order]), sampling.top_p) + 1]
            chosen, shares = chosen[nucleus], shares[nucleus]
        return int(chosen[_place(shares, self._random.random())])


def logprob(logits: np.ndarray, token_id: int, alternatives: int) -> TokenLogprob:
    """Log-probability of a token under logits float32 [V], and the likeliest `alternatives` with theirs."""
    top = float(logits.max())
    total = top + float(np.log(np.exp((logits - top).astype(np.float64)).sum()))
    best: list[int] = np.argpartition(-logits, alternatives - 1)[:alternatives].tolist() if alternatives else []
    best.sort(key=lambda place: (-logits[place], place))
    ranked = tuple((place, float(logits[place]) - total) for place in best)
    return TokenLogprob(token_id, float(logits[token_id]) - total, ranked)


def _place(weights: np.ndarray, point: float) -> int:
    """The index at a point of [0, 1) of the whole weight."""
    ends = np.cumsum(weights)
    return min(int(np.searchsorted(ends, point * ends[-1], side="right")), len(weights) - 1)
