"""What a model makes of the reference answers of one row: the loss of every token that training would take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phi3tune.chat import Example, Renderer
from phi3tune.engines.base import Scores


@dataclass(frozen=True)
class Likelihood:
    """Sums over the loss-bearing tokens of one row.

    nll        sum of their negative log-probabilities, in nats
    hits       how many were the model's first choice
    truncated  whether the row was cut to the model's context
    pieces     text and negative log-probability of each of them
    """

    nll: float
    tokens: int
    hits: int
    truncated: bool
    pieces: tuple[tuple[str, float], ...]


def likelihood(example: Example, scores: Scores, renderer: Renderer) -> Likelihood:
    """Take the loss-bearing tokens out of the scores of a whole row.

    exp(sum of nll / sum of tokens) is the perplexity: exp of transformers' loss on the same labels.
    """
    labels = np.array(example.labels[1:])
    trained = labels >= 0
    losses = -scores.logprobs[trained].astype(np.float64)
    pieces = renderer.pieces(labels[trained].tolist())
    return Likelihood(
        nll=float(losses.sum()),
        tokens=int(trained.sum()),
        hits=int((scores.argmax[trained] == labels[trained]).sum()),
        truncated=example.truncated,
        pieces=tuple(zip(pieces, (round(loss, 4) for loss in losses.tolist()), strict=True)),
    )
