"""Models that answer and score: torch and onnxruntime-genai behind one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phi3tune.engines.models import ModelRef, verify

if TYPE_CHECKING:
    from phi3tune.engines.base import Engine


def open_engine(ref: ModelRef, *, threads: int | None = None) -> Engine:
    """Load a model in this process, on `threads` cores (all that the process may use, when None).

    Raises `UserError` when a file was altered after it was written, or the model cannot be loaded.
    """
    verify(ref)
    if ref.kind == "onnxruntime-genai":
        from phi3tune.engines.genai import GenaiEngine

        return GenaiEngine(ref.base, name=ref.label, threads=threads)
    from phi3tune.engines.torch_engine import TorchEngine

    adapters = {} if ref.adapter is None else {ref.ref: ref.adapter}
    engine = TorchEngine(ref.base, adapters, name=ref.label, threads=threads)
    return engine if ref.adapter is None else engine.with_adapter(ref.ref, label=ref.label)
