"""The loss of training and of watching, over the loss-bearing tokens only."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch.nn import functional

from phi3tune.chat import NO_LOSS


class Score(NamedTuple):
    """Sums over a batch, in nats where they are logarithms.

    loss     what is trained on; carries the gradient
    trained  loss-bearing tokens (or rows, of a classifier)
    correct  those that the model had likeliest
    entropy  of the model's predictions at them
    """

    loss: torch.Tensor
    trained: int
    correct: int
    entropy: float


def score(
    model: Any,
    batch: dict[str, Any],
    *,
    loss: Literal["cross_entropy", "dft"] = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Score:
    """Score `labels` [B, T] of a batch; -100 bears no loss. Plain cross entropy equals transformers' own causal loss.

    The head runs only where the next token bears loss: over all positions of a long vocabulary it
    would take most of the time on a CPU. `use_cache` must be off, or transformers takes several
    conversations in one row for a single one and lets them see each other.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    targets = batch["labels"][:, 1:]
    bears_loss = targets != NO_LOSS
    logits = model(**inputs, use_cache=False, logits_to_keep=functional.pad(bears_loss, (0, 1))).logits
    return measured(logits, targets[bears_loss], loss=loss, label_smoothing=label_smoothing)


def measured(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    loss: Literal["cross_entropy", "dft"] = "cross_entropy",
    label_smoothing: float = 0.0,
) -> Score:
    """Sums over `logits` [N, C], each row of which should have chosen its one of `targets` [N].

    dft weighs a token's loss by the probability that the model gives it (Wu et al. 2025, arXiv 2508.05629, as in
    TRL's `SFTTrainer`); label smoothing is that of `torch.nn.functional.cross_entropy`.
    """
    logits = logits.float()
    losses, likeliest, entropies = _Likelihood.apply(logits, targets)  # type: ignore[no-untyped-call]
    if loss == "dft":
        losses = losses * torch.exp(-losses).detach()
    if label_smoothing:
        log_normalizer = losses + logits.gather(-1, targets[:, None])[:, 0]
        losses = (1 - label_smoothing) * losses + label_smoothing * (log_normalizer - logits.mean(-1))
    return Score(losses.sum(), len(targets), int((likeliest == targets).sum()), float(entropies.sum()))


class _Likelihood(torch.autograd.Function):
    """Of every row of `logits` [N, C]: -log p(target) (differentiable), the likeliest column, the entropy; in nats.

    All from one softmax. On a CPU, each further pass over a long vocabulary costs about as much as cross entropy
    itself: entropy and accuracy by torch's own functions took a third more time for the head than this does.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
        probabilities = logits.softmax(-1)
        top, likeliest = logits.max(-1)
        # At the likeliest column, so that nothing underflows.
        log_normalizer = top - probabilities.gather(-1, likeliest[:, None])[:, 0].log()
        losses = log_normalizer - logits.gather(-1, targets[:, None])[:, 0]
        entropies = log_normalizer - torch.linalg.vecdot(probabilities, logits)
        ctx.mark_non_differentiable(likeliest, entropies)
        ctx.save_for_backward(probabilities, targets)
        return losses, likeliest, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        probabilities, targets = ctx.saved_tensors
        gradient = probabilities * gradients[0][:, None]
        return gradient.scatter_add_(-1, targets[:, None], -gradients[0][:, None]), None
