"""How far two engines' next-token distributions are apart, token by token, and whether they answer alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from phi3tune.engines.base import Completion, Engine

# Logits closer than this are a tie: float32 sums in another order decide which of them comes first.
TIE = 1e-4
_ROWS_AT_ONCE = 64


class Divergence:
    """Per token: KL(merged || build) in nats, whether the first choice agrees, and both negative log-likelihoods."""

    def __init__(self) -> None:
        self._columns: list[np.ndarray] = []  # float64 [k, 4]

    def add(self, merged: Engine, build: Engine, ids: Sequence[int], positions: Sequence[int]) -> None:
        """Compare what both expect after each of the ascending `positions` of a sequence.

        A few rows at a time: a long conversation's logits would fill gigabytes.
        """
        targets = np.array(ids)[np.array(positions) + 1]
        ours, theirs = rows(merged, ids, positions), rows(build, ids, positions)
        for start in range(0, len(positions), _ROWS_AT_ONCE):
            part = targets[start : start + _ROWS_AT_ONCE]
            self._add(np.stack(list(islice(ours, len(part)))), np.stack(list(islice(theirs, len(part)))), part)

    def _add(self, merged: np.ndarray, build: np.ndarray, targets: np.ndarray) -> None:
        """Logits float32 [k, V] of both at the same positions, and the tokens int64 [k] that follow."""
        each = np.arange(len(targets))
        p, q = _log_softmax(merged), _log_softmax(build)
        divergence = (np.exp(p) * (p - q)).sum(axis=1)
        agree = merged[each, build.argmax(axis=1)] >= merged.max(axis=1) - TIE
        self._columns.append(np.stack([divergence, agree, -p[each, targets], -q[each, targets]], axis=1))

    def result(self, chosen: Sequence[bool] | None = None) -> dict[str, Any]:
        """The figures over all tokens that were added, or over the `chosen` of them."""
        columns = np.concatenate(self._columns)
        divergence, agree, merged, build = (columns if chosen is None else columns[np.array(chosen)]).T
        return {
            "tokens": len(divergence),
            "kl_mean": float(divergence.mean()),
            "kl_p99": float(np.percentile(divergence, 99)),
            "top1_agreement": float(agree.mean()),
            "perplexity_merged": _exp(merged.mean()),
            "perplexity_build": _exp(build.mean()),
            "perplexity_ratio": _exp(build.mean() - merged.mean()),
        }


def rows(engine: Engine, ids: Sequence[int], positions: Sequence[int]) -> Iterator[np.ndarray]:
    """Logits float32 [V] after each of `positions`."""
    for chunk in engine.logits(ids, positions):
        yield from chunk


def same_answer(merged: Engine, prompt: Sequence[int], ours: Completion, theirs: Completion) -> bool:
    """Whether two greedy answers are the same token for token, or part where the merged model has a tie."""
    a, b = ours.token_ids, theirs.token_ids
    if a == b:
        return True
    common = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    ids = [*prompt, *a[:common]]
    row = next(rows(merged, ids, [len(ids) - 1]))
    # Where the build's answer is over, its next token was an end token.
    chosen = [b[common]] if common < len(b) else sorted(merged.renderer.end_ids)
    return bool(row[chosen].max() >= row.max() - TIE)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """float64 [k, V]: a KL of 1e-9 is lost in float32."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _exp(value: float) -> float:
    return math.exp(min(float(value), 700.0))
