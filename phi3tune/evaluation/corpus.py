"""chrF and BLEU from sums of counts, for many resamples at once; sacrebleu's own functions take one at a time."""

from __future__ import annotations

import numpy as np

_CHRF_BETA = 2
_BLEU_ORDER = 4


def chrf(sums: np.ndarray) -> np.ndarray:
    """chrF2 between 0 and 1, from sums of `text.chrf_counts` [..., 18]; sacrebleu gives 100 times as much.

    Popovic 2015, https://aclanthology.org/W15-3049: precision and recall are means over the orders of n-grams that
    both sides have, and recall counts twice.
    """
    given, wanted, right = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    both = (given > 0) & (wanted > 0)
    orders = np.maximum(both.sum(-1), 1)
    zeros = np.zeros_like(right)
    precision = np.divide(right, given, out=zeros.copy(), where=both).sum(-1) / orders
    recall = np.divide(right, wanted, out=zeros.copy(), where=both).sum(-1) / orders
    below = _CHRF_BETA**2 * precision + recall
    score = np.divide((1 + _CHRF_BETA**2) * precision * recall, below, out=np.zeros_like(below), where=below > 0)
    return np.asarray(score)


def bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU-4 between 0 and 1, from sums of `text.bleu_counts` [..., 10]; sacrebleu gives 100 times as much.

    Papineni et al. 2002, https://aclanthology.org/P02-1040; orders without a match are smoothed as sacrebleu does by
    default (`exp`: the k-th of them counts half of the one before).
    """
    length, reference = sums[..., 0], sums[..., 1]
    right, total = sums[..., 2 : 2 + _BLEU_ORDER], sums[..., 2 + _BLEU_ORDER :]
    missed = np.cumsum((right == 0) & (total > 0), axis=-1)
    smoothed = np.where(right > 0, right, 0.5**missed)
    with np.errstate(divide="ignore", invalid="ignore"):
        # No n-gram of an order at all makes the score 0, as exp of the logarithm of 0.
        mean = np.where(total > 0, np.log(smoothed / total), -np.inf).mean(-1)
        brevity = np.where(length < reference, np.exp(1 - reference / length), 1.0)
        score = np.where((right.sum(-1) > 0) & (length > 0), brevity * np.exp(mean), 0.0)
    return np.asarray(score)
