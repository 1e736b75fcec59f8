"""Drawing the next token."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from phi3tune.engines.base import Sampling


class Sampler:
    """Draws for one request, on the CPU, so that a seed gives the same tokens on every device."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)

    @property
    def greedy(self) -> bool:
        return self._sampling.temperature == 0

    def draw(self, logits: torch.Tensor) -> int:
        """The next token from logits [V]: argmax at temperature 0, else nucleus sampling (arXiv 1904.09751)."""
        if self.greedy:
            return int(logits.argmax())
        logits = logits.to("cpu", torch.float32) / self._sampling.temperature
        if self._sampling.top_p >= 1:
            return int(torch.multinomial(logits.softmax(-1), 1, generator=self._generator))
        shares, order = logits.softmax(-1).sort(descending=True)
        shares[shares.cumsum(-1) - shares >= self._sampling.top_p] = 0  # the first token always stays
        return int(order[torch.multinomial(shares, 1, generator=self._generator)])


def draw_rows(samplers: Sequence[Sampler], logits: torch.Tensor) -> list[int]:
    """The next token of every row of logits [B, V], each drawn by its own sampler."""
    if all(sampler.greedy for sampler in samplers):
        return [int(token) for token in logits.argmax(-1).tolist()]
    return [sampler.draw(row) for sampler, row in zip(samplers, logits, strict=True)]
