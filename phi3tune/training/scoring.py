"""The one loss of training and of watching: cross entropy over the loss-bearing tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional

from phi3tune.chat import NO_LOSS


class Score(NamedTuple):
    """Sums over a batch. `loss` (in nats) carries the gradient; `correct` counts tokens the model had likeliest."""

    loss: torch.Tensor
    trained: int
    correct: int


def score(model: torch.nn.Module, batch: dict[str, Any]) -> Score:
    """Score `labels` [B, T] of a batch; -100 bears no loss. The sum equals transformers' own causal loss.

    The head runs only where the next token bears loss: over all positions of a long vocabulary it
    would take most of the time on a CPU. `use_cache` must be off, or transformers takes several
    conversations in one row for a single one and lets them see each other.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    targets = batch["labels"][:, 1:]
    bears_loss = targets != NO_LOSS
    logits = model(**inputs, use_cache=False, logits_to_keep=functional.pad(bears_loss, (0, 1))).logits.float()
    targets = targets[bears_loss]
    loss = functional.cross_entropy(logits, targets, reduction="sum")
    correct = int((logits.detach().argmax(-1) == targets).sum())
    return Score(loss, len(targets), correct)
