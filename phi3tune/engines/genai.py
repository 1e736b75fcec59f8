"""The onnxruntime-genai engine: an ONNX build, decoded through the same loop as torch.

Tokens are drawn here and appended one by one. `generate_next_token` serves only where the likeliest token is wanted:
it leaves its last token out of the cache and would step twice after a rewind, so that what it chose and has not read
is taken back before anything is appended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
from phi3tune.engines.decoding import Answer, Context, chunks, rope_switch
from phi3tune.engines.folders import ONNX_ADAPTER, read_json
from phi3tune.engines.guide import Guides
from phi3tune.engines.kept import Kept
from phi3tune.errors import UserError

_SCORE_ROWS = 64  # positions whose logits exist at once
_SMALL = 32 * 1024**2  # bytes of weights below which threads wait for each other longer than they help
_CHEAP = 8 * 1024**2  # bytes of keys and values that are reserved at once; the runtime fills them with zeros first
_PRECISIONS = ("int4", "int8", "fp16", "bf16", "fp32")


class GenaiEngine:
    """An onnxruntime-genai build on the CPU, or through `with_adapter` a view of it with an adapter.

    Raises `UserError` when it cannot be loaded.
    """

    def __init__(
        self,
        build: Path,
        adapters: Mapping[str, Path] | None = None,
        *,
        name: str | None = None,
        threads: int | None = None,
    ) -> None:
        og.disable_telemetry_events()
        self.renderer = Renderer.load(build)
        description = read_json(build / "genai_config.json")["model"]
        self._context_length = int(description["context_length"])
        self._vocab_size = int(description["vocab_size"])
        self._switch = rope_switch(read_json(build / "config.json")) if (build / "config.json").is_file() else None
        self._name, self._build = name or build.name, build
        # Left alone, the runtime takes half of the cores that a container may use; one too many halves it again.
        self._size = sum(path.stat().st_size for path in build.glob("*.onnx*"))
        cores = system.cores() if self._size > _SMALL else 1
        session = {"intra_op_num_threads": threads or cores}
        try:
            config = og.Config(str(build))
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
            self._model: Any = og.Model(config)
        except RuntimeError as error:
            raise UserError(f"the build in {build} cannot be loaded: {_brief(error)}; build it again") from error
        self._guides = Guides(build, self.renderer, self._vocab_size)
        self._loaded: Any = og.Adapters(self._model)
        self._adapters: dict[str, Path] = {}
        self._adapter: str | None = None
        self._token_bytes = _token_bytes(description["decoder"])
        self.kept = Kept(self.renderer, self._reserve, token_bytes=self._token_bytes, memory=None)
        for adapter, folder in (adapters or {}).items():
            self.attach(adapter, folder)

    @property
    def adapters(self) -> list[str]:
        """Names of the attached adapters, oldest first."""
        return list(self._adapters)

    def attach(self, name: str, folder: Path) -> None:
        """Load an adapter, so that `with_adapter(name)` answers through it. `UserError` when it does not fit."""
        try:
            self._loaded.load(str(folder / ONNX_ADAPTER), name)
        except RuntimeError as error:
            raise UserError(f"the adapter in {folder} cannot be loaded: {_brief(error)}; build it again") from error
        self._adapters[name] = folder

    def detach(self, name: str) -> None:
        """Free an adapter and the chats kept for it; views of it can no longer be used."""
        self.kept.forget(name)
        del self._adapters[name]
        self._loaded.unload(name)

    def with_adapter(self, name: str | None, *, label: str | None = None) -> GenaiEngine:
        """A view on the same weights that answers through one adapter, or with None as the base."""
        if name is not None and name not in self._adapters:
            raise KeyError(f"adapter {name!r} is not attached")
        view = object.__new__(GenaiEngine)
        view.__dict__.update(self.__dict__)
        view._adapter = name
        view._name = label or name or self._name
        return view

    @property
    def info(self) -> EngineInfo:
        precision = self._build.name.split("-")[0]
        folder = self._adapters[self._adapter] if self._adapter is not None else None
        return EngineInfo(
            name=self._name,
            kind="onnxruntime-genai",
            precision=precision if precision in _PRECISIONS else "unknown",
            device="cpu",
            context_length=self._context_length,
            vocab_size=self._vocab_size,
            size_bytes=self._size + (0 if folder is None else (folder / ONNX_ADAPTER).stat().st_size),
            can=frozenset({"score", "logits", "adapters", "guide", "logprobs"}),
        )

    def stream(self, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """Chunks of one answer; prompt tokens shared with a chat that is kept are not read again.

        Raises `UserError` when the prompt is too long or the guide is no good.
        """
        return chunks(self.steps(request, cancelled))

    def steps(self, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk | None]:
        """`stream`, with None wherever another answer on the same thread may have its turn, too."""
        limit = room(request, self._context_length)
        answer = Answer(request, self.renderer, limit, self._guides.start(request.sampling.guide))
        return self.kept.steps(self._adapter, request, answer, limit, cancelled)

    def _reserve(self, adapter: str | None, total: int) -> _GenaiContext:
        """A context with room for twice what is asked for, so that the next turns fit as well."""
        capacity = min(max(2 * total, _CHEAP // self._token_bytes), self._context_length)
        return _GenaiContext(self._generator(adapter, capacity), self._switch, capacity)

    def _generator(self, adapter: str | None, max_length: int) -> Any:
        params = og.GeneratorParams(self._model)
        params.set_search_options(do_sample=False, max_length=max_length)
        generator = og.Generator(self._model, params)
        if adapter is not None:
            generator.set_active_adapter(self._loaded, adapter)
        return generator

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
        generator = self._generator(self._adapter, len(token_ids))
        long = self._switch is not None and len(token_ids) > self._switch
        step = len(token_ids) if long else _SCORE_ROWS
        for start in range(0, len(token_ids), step):
            generator.append_tokens(np.array(token_ids[start : start + step], np.int32))
            yield start, np.asarray(generator.get_output("logits"), np.float32)[0]

    def close(self) -> None:
        """Free the weights, for all views."""
        self.kept.clear()
        del self._loaded, self._model


class _GenaiContext(Context):
    """What the build has read. The runtime reserves the whole capacity at once."""

    def __init__(self, generator: Any, switch: int | None, capacity: int) -> None:
        super().__init__(rope_switch=switch, capacity=capacity)
        self._generator = generator
        self._ahead: int | None = None  # chosen by the runtime, and not read yet
        self.reserved = capacity

    def after(self, token: int) -> int | None:
        if self._is_long(len(self.ids) + 1) != self._long:
            return None
        if self._ahead is None:
            self._choose()  # from the logits of what was read last
        if self._ahead != token:
            return None
        self.whole = False
        following = self._choose()
        self.ids.append(token)
        self.whole = True
        return following

    def _choose(self) -> int:
        self._generator.generate_next_token()
        self._ahead = int(self._generator.get_next_tokens()[0])
        return self._ahead

    def _append(self, ids: Sequence[int]) -> np.ndarray:
        if self._ahead is not None:
            self._crop(len(self.ids))
        self._generator.append_tokens(np.array(ids, np.int32))
        logits: np.ndarray = np.asarray(self._generator.get_logits(), np.float32)[0, 0]
        return logits

    def _crop(self, length: int) -> None:
        self._generator.rewind_to(length)
        self._ahead = None


def _token_bytes(decoder: dict[str, Any]) -> int:
    """Bytes of one token's keys and values, in fp32 as builds for the CPU have them."""
    return int(2 * decoder["num_hidden_layers"] * decoder["num_key_value_heads"] * decoder["head_size"] * 4)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
