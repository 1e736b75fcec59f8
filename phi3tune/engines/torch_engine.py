"""The torch engine: own decode loop over `Phi3ForCausalLM` with a KV cache that outlives the turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

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
from phi3tune.engines.decoding import Answer, Clock, chunks
from phi3tune.engines.guide import Guides
from phi3tune.engines.kept import Kept
from phi3tune.engines.kv_cache import TorchContext, new_cache
from phi3tune.engines.torch_model import PRECISIONS, TorchModel, choose_device, choose_dtype, weights_bytes

__all__ = ["TorchEngine", "choose_device", "choose_dtype"]

_HEAD_ROWS = 64  # positions whose logits exist at once: 64 x 32,064 in float32 is 8 MB
_BATCH_ROWS = {"cpu": 16, "cuda": 64}


class TorchEngine:
    """The base of a checkpoint, or through `with_adapter` a view of it with an adapter; all share one set of weights.

    Raises `UserError` when the weights or an adapter cannot be loaded.
    """

    def __init__(
        self,
        base: Path,
        adapters: Mapping[str, Path] | None = None,
        *,
        name: str | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        threads: int | None = None,
    ) -> None:
        self.renderer = Renderer.load(base)
        self._model = TorchModel(base, device=device, dtype=dtype, threads=threads)
        self._guides = Guides(base, self.renderer, self._model.config.vocab_size)
        self.kept = self._new_kept()
        self._adapters: dict[str, Path] = {}
        self._adapter: str | None = None
        self._name = name or base.name
        for adapter, path in (adapters or {}).items():
            self.attach(adapter, path)

    def _new_kept(self) -> Kept:
        def make(adapter: str | None, _: int) -> TorchContext:
            return TorchContext(self._model, adapter)

        return Kept(self.renderer, make, token_bytes=self._model.kv_bytes, memory=self._model.total_memory)

    @property
    def adapters(self) -> list[str]:
        """Names of the attached adapters, oldest first."""
        return list(self._adapters)

    def attach(self, name: str, folder: Path) -> None:
        """Load an adapter, so that `with_adapter(name)` answers through it."""
        self._model.attach(name, folder)
        self._adapters[name] = folder

    def detach(self, name: str) -> None:
        """Free an adapter and the chats kept for it; views of it can no longer be used."""
        self.kept.forget(name)
        del self._adapters[name]
        self._model.detach(name)

    def with_adapter(self, name: str | None, *, label: str | None = None) -> TorchEngine:
        """A view on the same weights that answers through one adapter, or with None as the base."""
        if name is not None and name not in self._adapters:
            raise KeyError(f"adapter {name!r} is not attached")
        view = object.__new__(TorchEngine)
        view.__dict__.update(self.__dict__)
        view._adapter = name
        view._name = label or name or self._name
        return view

    @property
    def info(self) -> EngineInfo:
        model = self._model
        folders = [model.folder] + ([self._adapters[self._adapter]] if self._adapter is not None else [])
        return EngineInfo(
            name=self._name,
            kind="torch",
            precision=PRECISIONS[model.dtype],
            device=model.device.type,
            context_length=model.config.max_position_embeddings,
            vocab_size=model.config.vocab_size,
            size_bytes=sum(weights_bytes(folder) for folder in folders),
            can=frozenset({"score", "logits", "batch", "adapters", "guide", "logprobs"}),
        )

    def stream(self, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """Chunks of one answer; prompt tokens shared with a chat that is kept are not read again.

        Raises `UserError` when the prompt is too long or the guide is no good.
        """
        return chunks(self.steps(request, cancelled))

    def steps(self, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk | None]:
        """`stream`, with None wherever another answer on the same thread may have its turn, too."""
        limit = room(request, self.info.context_length)
        answer = self._answer(request, limit)
        return self.kept.steps(self._adapter, request, answer, limit, cancelled)

    def _answer(self, request: Request, limit: int) -> Answer:
        return Answer(request, self.renderer, limit, self._guides.start(request.sampling.guide))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers in the order of the requests, decoded in batches; kept chats are left alone."""
        limits = [room(request, self.info.context_length) for request in requests]
        lengths = [len(request.prompt_ids) + limit for request, limit in zip(requests, limits, strict=True)]
        switch = self._model.rope_switch
        if switch is not None and max(lengths, default=0) > switch:  # the factors would be those of the longest row
            return [collect(self.stream(request)) for request in requests]
        answers: dict[int, Completion] = {}
        order = sorted(range(len(requests)), key=lambda index: -lengths[index])
        while order:
            tokens = self._model.free_memory() // 4 // self._model.kv_bytes
            rows = max(1, min(tokens // lengths[order[0]], _BATCH_ROWS[self._model.device.type]))
            batch, order = order[:rows], order[rows:]
            done = self._batch([requests[index] for index in batch], [limits[index] for index in batch])
            answers.update(zip(batch, done, strict=True))
        return [answers[index] for index in range(len(requests))]

    @torch.inference_mode()
    def _batch(self, requests: Sequence[Request], limits: Sequence[int]) -> list[Completion]:
        """Left-padded decoding; a row leaves the batch when it is finished."""
        model, clock = self._model, Clock()
        model.select(self._adapter)
        width = max(len(request.prompt_ids) for request in requests)
        ids = torch.zeros(len(requests), width, dtype=torch.long)
        mask = torch.ones(len(requests), width + max(limits), dtype=torch.bool)
        for row, request in enumerate(requests):
            padding = width - len(request.prompt_ids)
            ids[row, padding:] = torch.tensor(list(request.prompt_ids))
            mask[row, :padding] = False
        ids, mask = ids.to(model.device), mask.to(model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        answers = [self._answer(request, limit) for request, limit in zip(requests, limits, strict=True)]
        said: list[list[Chunk]] = [[] for _ in requests]
        rows, cache, read = list(range(len(requests))), new_cache(), 0
        while rows:
            hidden = model.hidden(
                ids,
                attention_mask=mask[:, : read + ids.shape[1]],
                position_ids=positions[:, read : read + ids.shape[1]],
                past_key_values=cache,
                use_cache=True,
            )
            read += ids.shape[1]
            logits = model.head(hidden[:, -1]).cpu().numpy()
            tokens = [answers[row].sampler.draw(row_logits) for row, row_logits in zip(rows, logits, strict=True)]
            clock.tick()
            going = []
            for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
                answer = answers[row]
                if (chunk := answer.add(token, logits[place])) is not None:
                    said[row].append(chunk)
                if answer.reason is None:
                    going.append(place)
                else:
                    said[row].append(answer.last(clock.usage(len(requests[row].prompt_ids), 0, answer.count)))
            if len(going) < len(rows):
                chosen = torch.tensor(going, dtype=torch.long, device=model.device)
                rows = [rows[place] for place in going]
                mask, positions = mask[chosen], positions[chosen]
                cache.batch_select_indices(chosen)
            ids = torch.tensor([[tokens[place]] for place in going], device=model.device)
        return [collect(each) for each in said]

    @torch.inference_mode()
    def score(self, token_ids: Sequence[int]) -> Scores:
        """Log-probability of each next token and the likeliest one, as float32 [T-1] and int64 [T-1]."""
        logprobs, argmax = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
        hidden = self._hidden(token_ids)
        targets = self._model.ids(token_ids)[0, 1:]
        for start in range(0, len(targets), _HEAD_ROWS):
            wanted = targets[start : start + _HEAD_ROWS]
            logits = self._model.head(hidden[start : start + len(wanted)])
            chosen = logits.gather(-1, wanted[:, None])[:, 0] - logits.logsumexp(-1)
            logprobs.append(chosen.cpu().numpy())
            argmax.append(logits.argmax(-1).cpu().numpy())
        return Scores(np.concatenate(logprobs), np.concatenate(argmax))

    def logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Iterator[np.ndarray]:
        """Logits after each of `positions` of a sequence of T tokens, in chunks of float32 [k, V]."""
        with torch.inference_mode():
            hidden = self._hidden(token_ids)[torch.tensor(list(positions), dtype=torch.long, device=self._model.device)]
        for start in range(0, len(hidden), _HEAD_ROWS):
            with torch.inference_mode():
                part = self._model.head(hidden[start : start + _HEAD_ROWS]).cpu().numpy()
            yield part

    def _hidden(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Hidden states [T, H] of a whole sequence."""
        check_length(token_ids, self.info.context_length)
        self._model.select(self._adapter)
        return self._model.hidden(self._model.ids(token_ids), use_cache=False)[0]

    def close(self) -> None:
        """Free the weights, for all views."""
        self.kept.clear()
        self._model.close()
