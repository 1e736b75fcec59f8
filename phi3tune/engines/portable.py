"""Portable ONNX builds on plain onnxruntime: one graph from token ids to logits, without a KV cache.

Any ONNX runtime reads such a build; every token of an answer is paid for with a pass over all tokens before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from phi3tune import system
from phi3tune.chat import Renderer
from phi3tune.engines.base import (
    Cancelled,
    Chunk,
    Completion,
    EngineInfo,
    Request,
    Scores,
    check_length,
    collect,
    never,
    room,
)
from phi3tune.engines.decoding import Answer, Context, chunks, decode, rope_switch
from phi3tune.engines.folders import read_json
from phi3tune.engines.guide import Guides
from phi3tune.errors import UserError

MODEL = "model.onnx"
PRECISIONS = ("int8", "fp32")
_ROWS = 64  # positions whose logits are handed on at once


class Graph:
    """The loaded graph of a portable build. Raises `UserError` when it cannot be loaded."""

    def __init__(self, build: Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or system.cores()
        options.log_severity_level = 3
        onnxruntime.disable_telemetry_events()
        try:
            self._session = onnxruntime.InferenceSession(
                str(build / MODEL), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises classes of its own that share no other base
            detail = " ".join(str(error).split())[:200]
            raise UserError(f"the build in {build} cannot be loaded: {detail}; build it again") from error
        self.precision = next((name for name in PRECISIONS if build.name.startswith(name)), "unknown")
        self.size_bytes = sum(path.stat().st_size for path in build.glob(f"{MODEL}*"))

    def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Logits float32 of int64 ids and mask [B, T]: [B, L] of a classifier, [B, T, V] of a chat model."""
        (logits,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return np.asarray(logits, np.float32)


def context_length(build: Path) -> int:
    """Tokens that a build's graph is right for.

    A longrope model turns to other rotary factors beyond its first context, which a graph traced on short rows
    cannot do.
    """
    config = read_json(build / "config.json")
    longest = int(config["max_position_embeddings"])
    return min(longest, rope_switch(config) or longest)


class PortableEngine:
    """A chat model's portable build on the CPU."""

    def __init__(self, build: Path, *, name: str | None = None, threads: int | None = None) -> None:
        self.renderer = Renderer.load(build)
        self._name = name or build.name
        self._context_length = context_length(build)
        self._vocab_size = int(read_json(build / "config.json")["vocab_size"])
        self._guides = Guides(build, self.renderer, self._vocab_size)
        self._graph = Graph(build, threads)

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            name=self._name,
            kind="onnxruntime",
            precision=self._graph.precision,
            device="cpu",
            context_length=self._context_length,
            vocab_size=self._vocab_size,
            size_bytes=self._graph.size_bytes,
            can=frozenset({"score", "logits", "guide", "logprobs"}),
        )

    def stream(self, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """Chunks of one answer."""
        limit = room(request, self._context_length)
        answer = Answer(request, self.renderer, limit, self._guides.start(request.sampling.guide))
        return chunks(decode(_Whole(self._graph, self._context_length), request, answer, cancelled))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers in the order of the requests, one after the other."""
        return [collect(self.stream(request)) for request in requests]

    def score(self, token_ids: Sequence[int]) -> Scores:
        """Log-probability of each next token and the likeliest one, as float32 [T-1] and int64 [T-1]."""
        logits = self._all(token_ids)[:-1]
        top = logits.max(axis=-1, initial=-np.inf)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=-1))
        targets = np.array(token_ids[1:], np.int64)
        return Scores(logits[np.arange(len(targets)), targets] - total, logits.argmax(axis=-1))

    def logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Iterator[np.ndarray]:
        """Logits after each of the ascending `positions` of a sequence of T tokens, in chunks of float32 [k, V]."""
        logits = self._all(token_ids)[np.array(positions, np.int64)]
        for start in range(0, len(logits), _ROWS):
            yield logits[start : start + _ROWS]

    def _all(self, token_ids: Sequence[int]) -> np.ndarray:
        check_length(token_ids, self._context_length)
        return _logits(self._graph, token_ids)

    def close(self) -> None:
        """Free the weights."""
        del self._graph


class _Whole(Context):
    """Nothing is kept between two tokens but the tokens themselves."""

    def __init__(self, graph: Graph, capacity: int) -> None:
        super().__init__(rope_switch=None, capacity=capacity)
        self._graph = graph

    def _append(self, ids: Sequence[int]) -> np.ndarray:
        return np.asarray(_logits(self._graph, [*self.ids, *ids])[-1])

    def _crop(self, length: int) -> None:
        """Nothing to forget: `ids` is all there is."""


def _logits(graph: Graph, token_ids: Sequence[int]) -> np.ndarray:
    """Logits float32 [T, V] of a whole sequence."""
    ids = np.array([token_ids], np.int64)
    return np.asarray(graph.run(ids, np.ones_like(ids))[0])
