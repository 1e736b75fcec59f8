"""The decode loop of every engine: what is read only once, cancellation, end tokens, text and timings."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from phi3tune.engines.base import Cancelled, Chunk, FinishReason, Request, Usage
from phi3tune.engines.sampling import Sampler, logprob

if TYPE_CHECKING:
    import numpy as np

    from phi3tune.chat import Renderer
    from phi3tune.engines.guide import Matcher

PREFILL = 64  # prompt tokens read before others have a turn; on a CPU more at once are no faster
_TIMED = 5  # fewer tokens than this tell no rate


class Context(ABC):
    """The tokens that a model has read, with their keys and values.

    A longrope model turns its keys by other factors once the sequence is longer than `rope_switch`; keys turned by
    the ones do not fit those turned by the others. `capacity` is the most tokens that it can hold.
    """

    def __init__(self, *, rope_switch: int | None, capacity: int) -> None:
        self.ids: list[int] = []
        self.capacity = capacity
        self.part = PREFILL
        self.reserved = 0  # tokens that memory is set aside for
        self.whole = True  # False after a pass that failed half-way: its keys may not be used
        self._switch = rope_switch
        self._long = False

    @abstractmethod
    def _append(self, ids: Sequence[int]) -> np.ndarray:
        """Read tokens after the others; logits float32 [V] of what follows."""

    @abstractmethod
    def _crop(self, length: int) -> None:
        """Free what is behind the first `length` tokens."""

    def fits(self, prompt: Sequence[int], total: int) -> bool:
        """Whether a prompt can go on with this, up to `total` tokens in all."""
        return total <= self.capacity and self._long == self._is_long(len(prompt))

    def shared(self, prompt: Sequence[int]) -> int:
        """How many of its tokens a prompt begins with, less the prompt's last one, whose logits are wanted."""
        both = min(len(self.ids), len(prompt) - 1)
        if self.ids[:both] == list(prompt[:both]):
            return both
        return next(place for place in range(both) if self.ids[place] != prompt[place])

    def rewind(self, length: int) -> None:
        """Forget all tokens but the first `length`."""
        if length < len(self.ids):
            self._crop(length)
            del self.ids[length:]

    def after(self, token: int) -> int | None:
        """Read one token and tell the likeliest one that follows, where there is a shorter way than by the logits.

        None, with nothing read, where there is none.
        """
        return None

    def read(self, fresh: Sequence[int], cancelled: Cancelled) -> Generator[None, None, np.ndarray | None]:
        """Read tokens, yielding between two parts; returns the logits float32 [V] after the last, or None when
        cancelled on the way.

        Where the rotary factors change, everything is read anew and at once, as `generate` of transformers does.
        """
        long = self._is_long(len(self.ids) + len(fresh))
        if long != self._long:
            fresh = [*self.ids, *fresh]
            self.rewind(0)
            self._long = long
        step = len(fresh) if long else self.part
        logits = None
        for start in range(0, len(fresh), step):
            if start:
                yield
                if cancelled():
                    return None
            part = fresh[start : start + step]
            self.whole = False
            logits = self._append(part)
            self.ids += part
            self.whole = True
        return logits

    def _is_long(self, length: int) -> bool:
        return self._switch is not None and length > self._switch


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
        """Counts and timings; no rate for an answer that is too short to tell one."""
        rate = (self._ticks - 1) / (self._last - self._first) if self._ticks >= _TIMED else 0.0
        first = self._first - self._start if self._ticks else 0.0
        return Usage(prompt_tokens, cached_tokens, completion_tokens, first, rate)


class Answer:
    """One answer as it grows. `reason` says why it ended, and is None until then."""

    def __init__(self, request: Request, renderer: Renderer, limit: int, matcher: Matcher | None = None) -> None:
        self.count = 0
        self.reason: FinishReason | None = None if limit else "length"
        self.sampler = Sampler(request.sampling, request.prompt_ids, matcher)
        self._ends, self._limit, self._matcher = renderer.end_ids, limit, matcher
        self._decoder = renderer.stream_decoder()
        stops = [text for text in request.sampling.stop if text]
        self._stops = _Stops(stops) if stops else None
        self._logprobs = request.sampling.logprobs

    @property
    def likeliest(self) -> bool:
        """Whether it always goes on by the likeliest token, and nobody wants to know how likely that was."""
        return self.sampler.likeliest and self._logprobs is None

    def add(self, token: int, logits: np.ndarray | None) -> Chunk | None:
        """Go on by a token that was drawn from `logits`; None for an end token, which is no part of the answer."""
        if token in self._ends:
            self.reason = "stop"
            return None
        self.count += 1
        text = self._decoder.push(token)
        if self._stops is not None:
            text = self._stops.push(text)
        if (self._stops is not None and self._stops.met) or (self._matcher is not None and self._matcher.complete):
            self.reason = "stop"
        elif self.count == self._limit:
            self.reason = "length"
        if self._logprobs is None or logits is None:
            return Chunk(text, (token,))
        return Chunk(text, (token,), logprobs=(logprob(logits, token, self._logprobs),))

    def last(self, usage: Usage) -> Chunk:
        """What was held back, why it ended, and what it cost."""
        assert self.reason is not None
        text = self._decoder.flush()
        if self._stops is not None:
            text = self._stops.push(text) + self._stops.rest()
            self.reason = "stop" if self._stops.met else self.reason
        return Chunk(text, (), self.reason, usage)


class _Stops:
    """Lets text through up to the first of some texts, and holds back what may be the beginning of one."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.met = False
        self._texts = texts
        self._held = ""

    def push(self, text: str) -> str:
        if self.met or not text:
            return ""
        whole = self._held + text
        places = [place for stop in self._texts if (place := whole.find(stop)) >= 0]
        if places:
            self.met, self._held = True, ""
            return whole[: min(places)]
        held = max(_overlap(whole, stop) for stop in self._texts)
        self._held = whole[len(whole) - held :]
        return whole[: len(whole) - held]

    def rest(self) -> str:
        """What is held back when no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` that `stop` begins with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


def decode(context: Context, request: Request, answer: Answer, cancelled: Cancelled) -> Iterator[Chunk | None]:
    """Chunks of one answer, one for each token and a last one, and None between two parts of a long prompt.

    What `context` holds is a prefix of the prompt.
    """
    prompt, cached = len(request.prompt_ids), len(context.ids)
    fresh: Sequence[int] = request.prompt_ids[cached:]
    clock = Clock()
    while answer.reason is None:
        if cancelled():
            answer.reason = "cancelled"
            break
        logits = None
        token = context.after(fresh[0]) if answer.count and answer.likeliest else None
        if token is None:
            logits = yield from context.read(fresh, cancelled)
            if logits is None:
                answer.reason = "cancelled"
                break
            token = answer.sampler.draw(logits)
        clock.tick()
        chunk = answer.add(token, logits)
        if chunk is not None:
            yield chunk
        fresh = [token]
    yield answer.last(clock.usage(prompt, cached, answer.count))


def chunks(steps: Iterable[Chunk | None]) -> Iterator[Chunk]:
    """What an answer is made of, without the pauses."""
    return (chunk for chunk in steps if chunk is not None)
