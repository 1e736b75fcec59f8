"""Chats that a model has read, kept so that their next turns pay only for what is new."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from phi3tune import system
from phi3tune.engines.base import Cancelled, Chunk, Request
from phi3tune.engines.decoding import Answer, Context, decode

if TYPE_CHECKING:
    from phi3tune.chat import Renderer

MOST = 8  # chats of one model
_Key = tuple[str | None, str]  # the adapter that a chat was read through, and whose it is
_SHARE = 4  # keys and values may take this part of the memory


class Kept:
    """The chats of one model, each read through one adapter (None: the base), the one used last at the end.

    Several are kept as memory allows, so that two users do not push each other's chat out. A prompt goes on with a
    chat of its owner that has the same first message, whether it adds to it, repeats it or edits it; a prompt with
    another one is a new chat, even where both begin with the same instruction.
    """

    def __init__(
        self, renderer: Renderer, make: Callable[[str | None, int], Context], *, token_bytes: int, memory: int | None
    ) -> None:
        """`make(adapter, total)` reserves a new context; `memory` is what the device has in bytes, None for a CPU."""
        self._renderer, self._make, self._token_bytes = renderer, make, token_bytes
        self._memory = memory if memory is not None else system.memory().total
        self._idle: list[tuple[_Key, Context]] = []
        self._busy: list[Context] = []

    def steps(
        self, adapter: str | None, request: Request, answer: Answer, limit: int, cancelled: Cancelled
    ) -> Iterator[Chunk | None]:
        """`decode` on a chat that is kept, or on a new one; it is free again when the last chunk is handed on."""
        last = None
        total = len(request.prompt_ids) + limit
        with self.take(adapter, request.prompt_ids, total, request.owner) as context:
            for chunk in decode(context, request, answer, cancelled):
                if chunk is not None and chunk.finish_reason is not None:
                    last = chunk
                else:
                    yield chunk
        yield last

    @contextmanager
    def take(self, adapter: str | None, prompt: Sequence[int], total: int, owner: str = "") -> Iterator[Context]:
        """A context that holds a prefix of `prompt` and has room for `total` tokens, to be used alone meanwhile."""
        key = adapter, owner
        context = self._going_on(key, prompt, total) or self._new(key, prompt, total)
        context.reserved = max(context.reserved, total)
        self._busy.append(context)
        try:
            yield context
        finally:
            self._busy.remove(context)
            if context.whole:
                self._idle.append((key, context))

    def room(self, tokens: int) -> bool:
        """Whether so many tokens more can be reserved beside the chats that are being answered now."""
        return not self._busy or (len(self._busy) < MOST and self._fits(tokens, self._busy))

    def forget(self, adapter: str | None) -> None:
        """Free what was read through an adapter, and is not being answered."""
        self._idle = [(key, context) for key, context in self._idle if key[0] != adapter]

    def clear(self) -> None:
        """Free everything."""
        self._idle.clear()

    def _going_on(self, wanted: _Key, prompt: Sequence[int], total: int) -> Context | None:
        """The idle context that shares most with a prompt, rewound to what it shares; None if that is another chat."""
        best, most = None, self._opening(prompt) - 1
        for place, (key, context) in enumerate(self._idle):
            if key == wanted and context.fits(prompt, total) and (shared := context.shared(prompt)) > most:
                best, most = place, shared
        if best is None:
            return None
        _, context = self._idle.pop(best)
        context.rewind(most)
        return context

    def _new(self, wanted: _Key, prompt: Sequence[int], total: int) -> Context:
        """A new context, for which the chats that were idle longest make room."""
        opening = self._opening(prompt)  # a context of this very chat was too small for what it has become
        self._idle = [(key, old) for key, old in self._idle if key != wanted or old.shared(prompt) < opening]
        while self._idle:
            contexts = [*self._busy, *(context for _, context in self._idle)]
            if len(contexts) < MOST and self._fits(total, contexts):
                break
            del self._idle[0]
        return self._make(wanted[0], total)

    def _fits(self, tokens: int, contexts: Sequence[Context]) -> bool:
        reserved = sum(context.reserved for context in contexts)
        return (reserved + tokens) * self._token_bytes <= self._memory // _SHARE

    def _opening(self, prompt: Sequence[int]) -> int:
        """Tokens of a prompt up to its first message's end; half of it where there is none."""
        return self._renderer.first_message(prompt) or max(1, len(prompt) // 2)
