"""Models that answer and score: torch, onnxruntime-genai, onnxruntime and remote endpoints behind one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phi3tune.engines.models import ModelRef, verify

if TYPE_CHECKING:
    from phi3tune.engines.base import Engine


def open_engine(ref: ModelRef, *, threads: int | None = None, key_variable: str = "OPENAI_API_KEY") -> Engine:
    """Load a model in this process, on `threads` cores (all that the process may use, when None).

    A classifier answers with its likeliest label. An endpoint gets the key in the environment variable
    `key_variable`. Raises `UserError` when a file was altered
    after it was written, or the model cannot be loaded or reached.
    """
    if ref.kind == "remote":
        from phi3tune.engines.address import parse
        from phi3tune.engines.remote import RemoteEngine

        return RemoteEngine(parse(ref.ref), name=ref.label, key_variable=key_variable)
    if ref.task == "classification":
        from phi3tune.engines.classifier import open_classifier

        return open_classifier(ref, threads=threads)
    verify(ref)
    adapters = {} if ref.adapter is None else {ref.ref: ref.adapter}
    if ref.kind == "onnxruntime":
        from phi3tune.engines.portable import PortableEngine

        return PortableEngine(ref.base, name=ref.label, threads=threads)
    if ref.kind == "onnxruntime-genai":
        from phi3tune.engines.genai import GenaiEngine

        build = GenaiEngine(ref.base, adapters, name=ref.label, threads=threads)
        return build if ref.adapter is None else build.with_adapter(ref.ref, label=ref.label)
    from phi3tune.engines.torch_engine import TorchEngine

    engine = TorchEngine(ref.base, adapters, name=ref.label, threads=threads)
    return engine if ref.adapter is None else engine.with_adapter(ref.ref, label=ref.label)
