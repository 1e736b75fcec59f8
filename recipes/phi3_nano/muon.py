"""Muon (Jordan 2024): momentum whose update is orthogonalised, which needs fewer tokens than AdamW on small text."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# The quintic of Jordan's Newton-Schulz iteration: it lifts every singular value close to 1 within five steps.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalised(matrix: Tensor, dtype: torch.dtype = torch.float32, steps: int = 5) -> Tensor:
    """A matrix with the singular vectors of the given one and singular values near 1, computed in `dtype`."""
    wide: Tensor = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = (wide / (wide.norm() + 1e-7)).to(dtype)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = _A * wide + (_B * gram + _C * gram @ gram) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


class Muon(torch.optim.Optimizer):
    """For 2-D weights only; the update's size is matched to AdamW's (0.2 a weight), as in Liu et al. 2025.

    PyTorch's own version always computes in bfloat16, which many processors emulate; here `dtype` says what to use.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "dtype": dtype})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                average = state.setdefault("average", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonalised(weight.grad.lerp(average, group["momentum"]), group["dtype"])
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)
