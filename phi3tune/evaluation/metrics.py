"""Scores of answers and of distributions. Every share is between 0 and 1."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from phi3tune.chat import Example

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(answer: str, reference: str) -> bool:
    """Equal text, apart from white space at either end."""
    return answer.strip() == reference.strip()


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words, as the SQuAD v1.1 evaluation script defines it.

    Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250: lower case, no punctuation, no articles.
    Where either side has no word left, the score is 1 if both have none and else 0 (as SQuAD v2.0).
    """
    given, wanted = _words(answer), _words(reference)
    if not given or not wanted:
        return float(given == wanted)
    common = (Counter(given) & Counter(wanted)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


@dataclass
class TokenScore:
    """Sums over loss-bearing tokens, to which conversations are added one by one."""

    tokens: int = 0
    nll: float = 0.0
    hits: int = 0

    def add(self, example: Example, logprobs: np.ndarray, argmax: np.ndarray) -> None:
        """Add one conversation of T tokens.

        logprobs  float32 [T-1]  log-probability of each next token, given those before it
        argmax    int64 [T-1]    likeliest next token
        """
        for position, label in enumerate(example.labels[1:]):
            if label >= 0:
                self.tokens += 1
                self.nll -= float(logprobs[position])
                self.hits += int(argmax[position]) == label

    @property
    def perplexity(self) -> float | None:
        """exp of the mean negative log-likelihood per token: exp(transformers' loss on the same labels)."""
        return math.exp(min(self.nll / self.tokens, 700.0)) if self.tokens else None

    @property
    def accuracy(self) -> float | None:
        """Share of the tokens that were the model's first choice."""
        return self.hits / self.tokens if self.tokens else None


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
