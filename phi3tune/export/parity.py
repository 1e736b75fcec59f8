"""Does a build behave like the model it was made from? Measured on held-out conversations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from phi3tune.chat import NO_LOSS
from phi3tune.config import Precision
from phi3tune.engines.base import Engine, Request, Sampling
from phi3tune.errors import UserError
from phi3tune.events import Progress, Reporter

if TYPE_CHECKING:
    from phi3tune.data import Conversation

PARITY_SCHEMA = 1
GREEDY_TOKENS = 64
# Logits closer than this are a tie: float32 sums in another order decide which of them comes first.
TIE = 1e-4
_ROWS_AT_ONCE = 64
_PROMPTS_AT_ONCE = 8


@dataclass(frozen=True)
class Limits:
    """What a build must keep to. `greedy_match` is None where answers may differ."""

    kl_mean: float
    top1_agreement: float
    perplexity_ratio: float
    greedy_match: float | None = None


LIMITS: dict[Precision, Limits] = {
    "int4": Limits(kl_mean=0.02, top1_agreement=0.95, perplexity_ratio=1.02),
    "int8": Limits(kl_mean=0.002, top1_agreement=0.99, perplexity_ratio=1.005),
    "fp32": Limits(kl_mean=1e-5, top1_agreement=1.0, perplexity_ratio=1.0001, greedy_match=1.0),
}


class _Tokens:
    """Per loss-bearing token: the divergence, whether the first choice agrees, and both likelihoods."""

    def __init__(self) -> None:
        self._kl: list[np.ndarray] = []
        self._agree: list[np.ndarray] = []
        self._nll = np.zeros(2)

    def add(self, merged: np.ndarray, build: np.ndarray, targets: np.ndarray) -> None:
        """Logits float32 [k, V] of both at the same positions, and the tokens int64 [k] that follow."""
        rows = np.arange(len(targets))
        p, q = _log_softmax(merged), _log_softmax(build)
        self._kl.append((np.exp(p) * (p - q)).sum(axis=1))
        self._agree.append(merged[rows, build.argmax(axis=1)] >= merged.max(axis=1) - TIE)
        self._nll -= [p[rows, targets].sum(), q[rows, targets].sum()]

    def result(self) -> dict[str, Any]:
        kl, agree = np.concatenate(self._kl), np.concatenate(self._agree)
        merged, build = (float(nll) / len(kl) for nll in self._nll)
        return {
            "tokens": len(kl),
            "kl_mean": float(kl.mean()),
            "kl_p99": float(np.percentile(kl, 99)),
            "top1_agreement": float(agree.mean()),
            "perplexity_merged": _exp(merged),
            "perplexity_build": _exp(build),
            "perplexity_ratio": _exp(build - merged),
        }


def compare(
    merged: Engine, build: Engine, chats: Sequence[Conversation], precision: Precision, reporter: Reporter
) -> dict[str, Any] | None:
    """The content of parity.json: KL(merged || build) in nats, agreement, perplexities, and whether it passed.

    Distributions are compared at every loss-bearing token of `chats`; `greedy_match` is the share of chats whose
    last answer, decoded greedily up to 64 tokens, is the same token for token, or parts at a tie.
    None when the user stopped the job. Raises `UserError` when no token can be compared.
    """
    length = min(merged.info.context_length, build.info.context_length)
    tokens = _Tokens()
    prompts: list[list[int]] = []
    for number, chat in enumerate(chats):
        if reporter.stop_requested():
            return None
        reporter.emit(Progress(done=number, total=2 * len(chats), unit="conversations"))
        example = merged.renderer.training_example(chat.messages, max_length=length)
        positions = [i for i, label in enumerate(example.labels[1:]) if label != NO_LOSS]
        prompt = merged.renderer.prompt(chat.prompt_messages)
        if positions and len(prompt) < length:
            targets = np.array(example.input_ids)[np.array(positions) + 1]
            _add_logits(tokens, merged, build, example.input_ids, positions, targets)
            prompts.append(prompt)
    if not prompts:
        raise UserError("no held-out conversation fits the model's context, so the build cannot be compared")
    same = 0
    for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
        if reporter.stop_requested():
            return None
        reporter.emit(Progress(done=len(chats) + start, total=2 * len(chats), unit="conversations"))
        same += _same_answers(merged, build, prompts[start : start + _PROMPTS_AT_ONCE])
    reporter.emit(Progress(done=2 * len(chats), total=2 * len(chats), unit="conversations"))
    limits = LIMITS[precision]
    measured = {"rows": len(prompts), **tokens.result(), "greedy_match": same / len(prompts)}
    return {
        "schema": PARITY_SCHEMA,
        "precision": precision,
        **{key: value if math.isfinite(value) else None for key, value in measured.items()},
        "limits": asdict(limits),
        # A NaN is within no limit.
        "passed": measured["kl_mean"] <= limits.kl_mean
        and measured["top1_agreement"] >= limits.top1_agreement
        and measured["perplexity_ratio"] <= limits.perplexity_ratio
        and (limits.greedy_match is None or measured["greedy_match"] >= limits.greedy_match),
    }


def _add_logits(
    tokens: _Tokens, merged: Engine, build: Engine, ids: list[int], positions: list[int], targets: np.ndarray
) -> None:
    """A few rows at a time: a long conversation's logits would fill gigabytes."""
    ours, theirs = _rows(merged, ids, positions), _rows(build, ids, positions)
    for start in range(0, len(positions), _ROWS_AT_ONCE):
        part = targets[start : start + _ROWS_AT_ONCE]
        tokens.add(np.stack(list(islice(ours, len(part)))), np.stack(list(islice(theirs, len(part)))), part)


def _rows(engine: Engine, ids: list[int], positions: list[int]) -> Iterator[np.ndarray]:
    for chunk in engine.logits(ids, positions):
        yield from chunk


def _same_answers(merged: Engine, build: Engine, prompts: list[list[int]]) -> int:
    requests = [Request(prompt, Sampling(max_new_tokens=GREEDY_TOKENS)) for prompt in prompts]
    pairs = zip(prompts, merged.generate(requests), build.generate(requests), strict=True)
    return sum(_same_up_to_tie(merged, prompt, a.token_ids, b.token_ids) for prompt, a, b in pairs)


def _same_up_to_tie(merged: Engine, prompt: list[int], ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    if ours == theirs:
        return True
    common = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    ids = [*prompt, *ours[:common]]
    row = next(_rows(merged, ids, [len(ids) - 1]))
    # Where the build's answer is over, its next token was an end token.
    chosen = [theirs[common]] if common < len(theirs) else sorted(merged.renderer.end_ids)
    return bool(row[chosen].max() >= row.max() - TIE)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """float64 [k, V]: a KL of 1e-9 is lost in float32."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
