"""The onnxruntime-genai engine: an ONNX build, decoded through the same loop as torch.

Tokens are drawn here and appended one by one, never by `generate_next_token`: it would bind the sampling to the
generator and its cache, leave the end token out of the cache, and step twice after a rewind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og

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
from phi3tune.engines.decoding import Context, decode, rope_switch
from phi3tune.engines.folders import read_json
from phi3tune.errors import UserError

_SCORE_ROWS = 64  # positions whose logits exist at once
_PRECISIONS = ("int4", "int8", "fp16", "bf16", "fp32")


class GenaiEngine:
    """An onnxruntime-genai build on the CPU. Raises `UserError` when it cannot be loaded."""

    def __init__(self, build: Path, *, name: str | None = None, threads: int | None = None) -> None:
        og.disable_telemetry_events()
        self.renderer = Renderer.load(build)
        description = read_json(build / "genai_config.json")["model"]
        self._context_length = int(description["context_length"])
        self._vocab_size = int(description["vocab_size"])
        self._switch = rope_switch(read_json(build / "config.json")) if (build / "config.json").is_file() else None
        self._name, self._build = name or build.name, build
        # Left alone, the runtime takes half of the cores that a container may use; one too many halves it again.
        session = {"intra_op_num_threads": threads or system.cores()}
        try:
            config = og.Config(str(build))
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
            self._model: Any = og.Model(config)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:200]
            raise UserError(f"the build in {build} cannot be loaded: {detail}; build it again") from error
        self._kept: _GenaiContext | None = None

    @property
    def info(self) -> EngineInfo:
        precision = self._build.name.split("-")[0]
        return EngineInfo(
            name=self._name,
            kind="onnxruntime-genai",
            precision=precision if precision in _PRECISIONS else "unknown",
            device="cpu",
            context_length=self._context_length,
            vocab_size=self._vocab_size,
            size_bytes=sum(path.stat().st_size for path in self._build.glob("*.onnx*")),
            can=frozenset({"score", "logits"}),
        )

    def stream(self, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """Chunks of one answer; prompt tokens shared with the last chat are not read again."""
        limit = room(request, self._context_length)
        total = len(request.prompt_ids) + limit
        if self._kept is None or not self._kept.resume(request.prompt_ids, total):
            self._kept = None  # its keys and values are freed before the new ones are reserved
            self._kept = _GenaiContext(self._model, self._switch, min(2 * total, self._context_length))
        return decode(self._kept, request, self.renderer, limit, cancelled)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers in the order of the requests, one after the other."""
        return [collect(self.stream(request)) for request in requests]

    def score(self, token_ids: Sequence[int]) -> Scores:
        """Log-probability of each next token and the likeliest one, as float32 [T-1] and int64 [T-1]."""
        logprobs, argmax = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
        for start, logits in self._parts(token_ids):
            targets = np.array(token_ids[start + 1 : start + 1 + len(logits)], np.int64)
            logits = logits[: len(targets)]  # nothing follows the last token
            top = logits.max(axis=-1, initial=-np.inf)
            total = top + np.log(np.exp(logits - top[:, None]).sum(axis=-1))
            logprobs.append(logits[np.arange(len(targets)), targets] - total)
            argmax.append(logits.argmax(axis=-1))
        return Scores(np.concatenate(logprobs), np.concatenate(argmax))

    def logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Iterator[np.ndarray]:
        """Logits after each of the ascending `positions` of a sequence of T tokens, in chunks of float32 [k, V]."""
        wanted = np.array(positions, np.int64)
        for start, logits in self._parts(token_ids):
            here = wanted[(wanted >= start) & (wanted < start + len(logits))]
            if len(here):
                yield logits[here - start]

    def _parts(self, token_ids: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Start and logits float32 [k, V] of consecutive parts of a sequence."""
        check_length(token_ids, self._context_length)
        generator = _generator(self._model, len(token_ids))
        long = self._switch is not None and len(token_ids) > self._switch
        step = len(token_ids) if long else _SCORE_ROWS
        for start in range(0, len(token_ids), step):
            generator.append_tokens(np.array(token_ids[start : start + step], np.int32))
            yield start, np.asarray(generator.get_output("logits"), np.float32)[0]

    def close(self) -> None:
        """Free the weights."""
        self._kept = None
        del self._model


class _GenaiContext(Context):
    """What the build has read. The runtime reserves the whole capacity at once."""

    def __init__(self, model: Any, switch: int | None, capacity: int) -> None:
        super().__init__(rope_switch=switch, capacity=capacity)
        self._generator = _generator(model, capacity)

    def _append(self, ids: Sequence[int]) -> np.ndarray:
        self._generator.append_tokens(np.array(ids, np.int32))
        logits: np.ndarray = np.asarray(self._generator.get_logits(), np.float32)[0, 0]
        return logits

    def _crop(self, length: int) -> None:
        self._generator.rewind_to(length)


def _generator(model: Any, max_length: int) -> Any:
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=max_length)
    return og.Generator(model, params)
