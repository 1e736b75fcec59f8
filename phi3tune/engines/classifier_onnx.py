"""The classifier on plain onnxruntime: a portable build, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from phi3tune.engines.base import EngineInfo
from phi3tune.engines.classifier import Classifier, labels_of_ref
from phi3tune.engines.folders import read_json
from phi3tune.engines.portable import Graph, context_length

if TYPE_CHECKING:
    from phi3tune.engines.models import ModelRef


class OnnxClassifier(Classifier):
    """A classifier on the CPU. Raises `UserError` when the build cannot be loaded."""

    def __init__(self, ref: ModelRef, *, threads: int | None = None) -> None:
        super().__init__(ref.base, labels=labels_of_ref(ref), context_length=context_length(ref.base))
        self._ref = ref
        self._pad = int(read_json(ref.base / "config.json")["pad_token_id"])
        self._graph = Graph(ref.base, threads)

    @property
    def info(self) -> EngineInfo:
        return self._info(self._ref, "onnxruntime", self._graph.precision, "cpu", self._graph.size_bytes)

    def _logits(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        return self._graph.run(*self._padded(rows, self._pad))

    def close(self) -> None:
        del self._graph
