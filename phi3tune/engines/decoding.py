"""The decode loop of every engine: what is read only once, cancellation, end tokens, text and timings."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from phi3tune.engines.base import Cancelled, Chunk, FinishReason, Request, Usage
from phi3tune.engines.sampling import Sampler

if TYPE_CHECKING:
    import numpy as np

    from phi3tune.chat import Renderer

PREFILL = 512  # prompt tokens read between two looks at `cancelled`


class Context(ABC):
    """The tokens that a model has read, with their keys and values.

    A longrope model turns its keys by other factors once the sequence is longer than `rope_switch`; keys turned by
    the ones do not fit those turned by the others. `capacity` is the most tokens that it can hold.
    """

    def __init__(self, *, rope_switch: int | None, capacity: int) -> None:
        self.ids: list[int] = []
        self.capacity = capacity
        self._switch = rope_switch
        self._long = False
        self._whole = True

    @abstractmethod
    def _append(self, ids: Sequence[int]) -> np.ndarray:
        """Read tokens after the others; logits float32 [V] of what follows."""

    @abstractmethod
    def _crop(self, length: int) -> None:
        """Forget all tokens but the first `length`."""

    def resume(self, prompt: Sequence[int], total: int) -> bool:
        """Keep what is shared with a prompt, less its last token, whose logits are wanted; False if nothing can be."""
        if not self._whole or total > self.capacity or self._long != self._is_long(len(prompt)):
            return False
        shared = 0
        for old, new in zip(self.ids, prompt[:-1], strict=False):
            if old != new:
                break
            shared += 1
        self._cut(shared)
        return shared > 0

    def read(self, fresh: Sequence[int], cancelled: Cancelled) -> np.ndarray | None:
        """Read tokens; the logits float32 [V] after the last, or None when cancelled on the way.

        Where the rotary factors change, everything is read anew and at once, as `generate` of transformers does.
        """
        long = self._is_long(len(self.ids) + len(fresh))
        if long != self._long:
            fresh = [*self.ids, *fresh]
            self._cut(0)
            self._long = long
        step = len(fresh) if long else PREFILL
        logits = None
        for start in range(0, len(fresh), step):
            if start and cancelled():
                return None
            part = fresh[start : start + step]
            self._whole = False  # a pass that fails half-way leaves keys that nobody may use
            logits = self._append(part)
            self.ids += part
            self._whole = True
        return logits

    def _is_long(self, length: int) -> bool:
        return self._switch is not None and length > self._switch

    def _cut(self, length: int) -> None:
        if length < len(self.ids):
            self._crop(length)
            del self.ids[length:]


def rope_switch(config: dict[str, Any]) -> int | None:
    """The length from which a model of this config.json uses its long rotary factors; None if it has none."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if "longrope" not in (rope.get("rope_type"), rope.get("type")):
        return None
    return int(rope.get("original_max_position_embeddings") or config["original_max_position_embeddings"])


class Clock:
    """Times one answer: `tick` at every decoded token, the end token included."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._first = self._last = 0.0
        self._ticks = 0

    def tick(self) -> None:
        self._last = time.perf_counter()
        if self._ticks == 0:
            self._first = self._last
        self._ticks += 1

    def usage(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> Usage:
        decoding = self._last - self._first
        return Usage(
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            self._first - self._start if self._ticks else 0.0,
            (self._ticks - 1) / decoding if decoding > 0 else 0.0,
        )


def decode(context: Context, request: Request, renderer: Renderer, limit: int, cancelled: Cancelled) -> Iterator[Chunk]:
    """Chunks of one answer of at most `limit` tokens. What `context` holds is a prefix of the prompt."""
    prompt, cached = len(request.prompt_ids), len(context.ids)
    fresh: Sequence[int] = request.prompt_ids[cached:]
    clock, sampler, decoder = Clock(), Sampler(request.sampling), renderer.stream_decoder()
    count = 0
    reason: FinishReason = "length"
    while count < limit:
        logits = None if cancelled() else context.read(fresh, cancelled)
        if logits is None:
            reason = "cancelled"
            break
        token = sampler.draw(logits)
        clock.tick()
        if token in renderer.end_ids:
            reason = "stop"
            break
        count += 1
        fresh = [token]
        yield Chunk(decoder.push(token), (token,))
    yield Chunk(decoder.flush(), (), reason, clock.usage(prompt, cached, count))
