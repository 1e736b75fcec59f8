"""The loop around an engine's tokens: text, end tokens, cancellation and timings, the same for all engines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from phi3tune.engines.base import Cancelled, Chunk, FinishReason, Usage

if TYPE_CHECKING:
    from phi3tune.chat import Renderer


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


def chunks(
    tokens: Iterator[int],
    renderer: Renderer,
    *,
    prompt_tokens: int,
    cached_tokens: int,
    limit: int,
    cancelled: Cancelled,
) -> Iterator[Chunk]:
    """Chunks from `tokens`, of which each is computed when it is asked for, prefill with the first.

    `tokens` may end early when it noticed the cancellation itself.
    """
    clock, decoder = Clock(), renderer.stream_decoder()
    count = 0
    reason: FinishReason = "length"
    while count < limit:
        token = None if cancelled() else next(tokens, None)
        if token is None:
            reason = "cancelled"
            break
        clock.tick()
        if token in renderer.end_ids:
            reason = "stop"
            break
        count += 1
        yield Chunk(decoder.push(token), (token,))
    yield Chunk(decoder.flush(), (), reason, clock.usage(prompt_tokens, cached_tokens, count))
