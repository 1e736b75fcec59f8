"""Keys and values of the tokens that a torch model has already read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from phi3tune.engines.decoding import Context

if TYPE_CHECKING:
    from phi3tune.engines.torch_model import TorchModel

_FIRST = 256
_PART_ON_GPU = 2048  # which reads many tokens as fast as a few


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Appends in place to a buffer that grows by half, where `DynamicLayer` copies everything at each token.

    It keeps every token even under a sliding window (the mask does the sliding), so it can be cropped anywhere.
    """

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self.keys: torch.Tensor
        self.values: torch.Tensor
        self._buffer: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states of shape [batch, heads, new, head]; return views of all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old = self.get_seq_length()
        length = old + key_states.shape[-2]
        if self._buffer is None or self._buffer.shape[-2] < length:
            batch, heads, _, head = key_states.shape
            buffer = key_states.new_empty(2, batch, heads, max(_FIRST, length + length // 2), head)
            if old:
                buffer[0, :, :, :old], buffer[1, :, :, :old] = self.keys, self.values
            self._buffer = buffer
        self._buffer[0, :, :, old:length], self._buffer[1, :, :, old:length] = key_states, value_states
        self.keys, self.values = self._buffer[0, :, :, :length], self._buffer[1, :, :, :length]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep some rows of the batch."""
        super().batch_select_indices(indices)
        self._buffer = None  # its rows are no longer these; the next `update` makes a new one


def new_cache() -> Any:
    """An empty cache for a model of any number of layers."""
    return Cache(layer_class_to_replicate=_GrowingLayer)


class TorchContext(Context):
    """What one model, through one adapter, has read."""

    def __init__(self, model: TorchModel, adapter: str | None) -> None:
        super().__init__(rope_switch=model.rope_switch, capacity=model.config.max_position_embeddings)
        self._model, self._adapter, self._cache = model, adapter, new_cache()
        if model.device.type == "cuda":
            self.part = _PART_ON_GPU

    @torch.inference_mode()
    def _append(self, ids: Sequence[int]) -> np.ndarray:
        self._model.select(self._adapter)
        hidden = self._model.hidden(self._model.ids(ids), past_key_values=self._cache, use_cache=True)
        logits: np.ndarray = self._model.head(hidden[0, -1]).cpu().numpy()
        return logits

    def _crop(self, length: int) -> None:
        self._cache.crop(length - len(self.ids))
