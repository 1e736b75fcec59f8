"""A pool whose answers the test decides: no process, no weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from phi3tune.chat import Renderer
from phi3tune.engines.base import Cancelled, Chunk, EngineInfo, Request, TokenLogprob, Usage, never
from phi3tune.engines.models import ModelRef
from phi3tune.paths import NANO

ANSWER = "It is a lamp."
CONTEXT = 256
CAN = frozenset({"score", "logits", "guide", "logprobs"})
LOOK = 0.01


class FakePool:
    """Says `text`, token by token. While `hold` is cleared, it stops behind the first token until it is set.

    requests  what it was asked, in order
    active    how many answers are being made
    """

    def __init__(self, text: str = ANSWER) -> None:
        self.text = text
        self.can = CAN
        self.hold = threading.Event()
        self.hold.set()
        self.requests: list[Request] = []
        self.active = 0
        self.cancelled = 0
        self.fault: Callable[[Request], BaseException | None] = lambda request: None
        self.loading: Callable[[ModelRef], None] = lambda ref: None
        self.labels = ("good", "bad")
        self._renderer = Renderer.load(NANO)
        self._lock = threading.Lock()

    def info(self, ref: ModelRef) -> EngineInfo:
        self.loading(ref)
        return EngineInfo(ref.label, "torch", "fp32", "cpu", CONTEXT, self._renderer.vocab_size, 0, self.can)

    def classify(self, ref: ModelRef, inputs: Sequence[str]) -> list[dict[str, Any]]:
        return [{"label": "good", "score": 0.75, "scores": {"good": 0.75, "bad": 0.25}, "truncated": False}] * len(
            inputs
        )

    def stream(self, ref: ModelRef, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        with self._lock:
            self.requests.append(request)
            self.active += 1
        try:
            yield from self._chunks(request, cancelled)
        finally:
            with self._lock:
                self.active -= 1

    def _chunks(self, request: Request, cancelled: Cancelled) -> Iterator[Chunk]:
        ids = self._renderer.encode(self.text)[: request.sampling.max_new_tokens]
        pieces = self._renderer.decode(ids)
        told = request.sampling.logprobs
        done = 0
        for number, token in enumerate(ids):
            while number == 1 and not self.hold.wait(LOOK) and not cancelled():
                pass
            if cancelled():
                self.cancelled += 1
                yield Chunk("", (), "cancelled", self._usage(request, number))
                return
            text = self._renderer.decode(ids[: number + 1])[done:]
            done += len(text)
            logprob = TokenLogprob(token, -0.5, tuple((token + n, -0.5 - n) for n in range(told or 0)))
            yield Chunk(text, (token,), logprobs=(logprob,) if told is not None else ())
            if number == 1 and (fault := self.fault(request)) is not None:
                raise fault
        assert done == len(pieces)
        whole = len(self._renderer.encode(self.text)) == len(ids)
        yield Chunk("", (), "stop" if whole else "length", self._usage(request, len(ids)))

    def _usage(self, request: Request, tokens: int) -> Usage:
        return Usage(len(request.prompt_ids), 0, tokens, 0.01, 100.0)

    def close(self) -> None:
        self.hold.set()
