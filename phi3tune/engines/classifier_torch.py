"""The torch classifier: `Phi3ForSequenceClassification`, whole or as an adapter that carries the head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Phi3Config, Phi3ForSequenceClassification
from transformers.utils import logging

from phi3tune import system
from phi3tune.engines.base import EngineInfo
from phi3tune.engines.classifier import Classifier, head_config, labels_of_ref
from phi3tune.engines.folders import read_json
from phi3tune.engines.torch_model import (
    PRECISIONS,
    check_adapter_shapes,
    choose_device,
    inference_dtype,
    load_weights,
    parameters,
    weights_bytes,
)
from phi3tune.errors import UserError

if TYPE_CHECKING:
    from phi3tune.engines.models import ModelRef

HEAD = "score.weight"


class TorchClassifier(Classifier):
    """A classifier on the first GPU, else on the CPU. Raises `UserError` when it cannot be loaded."""

    def __init__(
        self,
        ref: ModelRef,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(ref.base, labels=labels_of_ref(ref))
        torch.set_num_threads(threads or system.cores())
        self._ref = ref
        self._device = device or choose_device()
        self._dtype = dtype or inference_dtype(self._device, 4 * parameters(ref.base))
        self._model = self._load(ref).to(self._device).eval()

    def _load(self, ref: ModelRef) -> Any:
        if ref.adapter is None:
            return load_weights(ref.base, self._dtype, Phi3ForSequenceClassification)
        with unreported():
            model = load_weights(
                ref.base,
                self._dtype,
                Phi3ForSequenceClassification,
                absent=frozenset({HEAD}),
                **head_options(ref.base, self.labels),
            )
        from peft import PeftModel

        check_adapter_shapes(ref.adapter, model, ref.base)
        try:
            return PeftModel.from_pretrained(model, ref.adapter)
        except (RuntimeError, ValueError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UserError(f"adapter {ref.adapter} does not fit the base {ref.base}: {detail}") from error

    @property
    def info(self) -> EngineInfo:
        size = sum(weights_bytes(folder) for folder in (self._ref.base, self._ref.adapter) if folder is not None)
        return self._info(self._ref, "torch", PRECISIONS[self._dtype], self._device.type, size)

    @torch.inference_mode()
    def _logits(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        ids, mask = (
            torch.from_numpy(each).to(self._device) for each in self._padded(rows, self._model.config.pad_token_id)
        )
        logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return np.asarray(logits.float().cpu().numpy())

    def close(self) -> None:
        del self._model
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def unreported() -> Iterator[None]:
    """Without transformers' report of weights that the base has not: a new head is one."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def head_options(base: Path, labels: Sequence[str]) -> dict[str, Any]:
    """Options of `from_pretrained` that put a head for `labels` on the weights in `base`, whatever head they have."""
    config = Phi3Config.from_pretrained(base, local_files_only=True)
    for name, value in head_config(read_json(base / "config.json"), labels).items():
        setattr(config, name, {int(key): label for key, label in value.items()} if name == "id2label" else value)
    return {"config": config, "ignore_mismatched_sizes": True}
