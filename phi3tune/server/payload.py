"""What the pool said, as OpenAI's objects (https://platform.openai.com/docs/api-reference/chat, .../completions)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import orjson

from phi3tune.chat import Renderer
from phi3tune.engines.base import TokenLogprob, Usage
from phi3tune.server.answering import Asked, Said

Kind = Literal["chat", "completion"]
_UNLIKELY = -9999.0  # OpenAI's figure for a token that has no share at all; JSON has no infinity
DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


@dataclass
class Choice:
    """One answer as far as it was said."""

    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None


class Payload:
    """Objects of one HTTP request: events of a stream, or the whole answer; and the counts of both."""

    def __init__(self, asked: Asked, kind: Kind, identity: str, *, usage_events: bool) -> None:
        self._asked = asked
        self._kind: Kind = kind
        self._usage_events = usage_events
        self._head = {
            "id": identity,
            "created": int(time.time()),
            "model": asked.served.name,
            "system_fingerprint": asked.served.fingerprint,
        }
        self._with_logprobs = asked.requests[0].sampling.logprobs is not None
        self.choices = [Choice() for _ in asked.requests]
        self._begun: set[int] = set()

    def take(self, batch: Iterable[Said]) -> None:
        """Keep what was said."""
        for said in batch:
            choice = self.choices[said.index]
            choice.text.append(said.chunk.text)
            choice.logprobs += said.chunk.logprobs
            if said.chunk.finish_reason is not None:
                choice.finish_reason = "content_filter" if said.blocked else said.chunk.finish_reason
                choice.usage = said.chunk.usage

    def events(self, batch: Iterable[Said]) -> Iterable[bytes]:
        """The events of what was said; call `take` before."""
        for said in batch:
            if self._kind == "chat" and said.index not in self._begun:
                self._begun.add(said.index)
                yield self._event(said.index, {"role": "assistant", "content": ""})
            if said.chunk.text or said.chunk.logprobs:
                yield self._event(said.index, {"content": said.chunk.text}, logprobs=said.chunk.logprobs)
            if said.chunk.finish_reason is not None:
                yield self._event(said.index, {}, reason=self.choices[said.index].finish_reason)

    def last_events(self) -> Iterable[bytes]:
        """What ends a stream that went well."""
        if self._usage_events:
            yield event({**self._head, "object": self._object(stream=True), "choices": [], "usage": self.usage()})
        yield DONE

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        choices = [self._choice(index, choice) for index, choice in enumerate(self.choices)]
        return {**self._head, "object": self._object(stream=False), "choices": choices, "usage": self.usage()}

    def usage(self) -> dict[str, Any]:
        """Tokens of all answers; a prompt counts once, however many answers it has."""
        counted = [choice.usage for choice in self.choices if choice.usage is not None]
        each = len(self.choices) // self._asked.prompts
        prompt = sum(len(request.prompt_ids) for request in self._asked.requests[::each])
        completion = sum(usage.completion_tokens for usage in counted)
        cached = sum(choice.usage.cached_tokens for choice in self.choices[::each] if choice.usage is not None)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def _event(
        self, index: int, delta: dict[str, Any], *, logprobs: Iterable[TokenLogprob] = (), reason: str | None = None
    ) -> bytes:
        told = self._logprobs(list(logprobs)) if self._with_logprobs and delta.get("content") is not None else None
        said: dict[str, Any] = {"delta": delta} if self._kind == "chat" else {"text": delta.get("content", "")}
        choice = {"index": index, **said, "logprobs": told, "finish_reason": reason}
        usage = {"usage": None} if self._usage_events else {}
        return event({**self._head, "object": self._object(stream=True), "choices": [choice], **usage})

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        text = "".join(choice.text)
        said: dict[str, Any] = {"text": text}
        if self._kind == "chat":
            said = {"message": {"role": "assistant", "content": text, "refusal": None}}
        told = self._logprobs(choice.logprobs) if self._with_logprobs else None
        return {"index": index, **said, "logprobs": told, "finish_reason": choice.finish_reason}

    def _object(self, *, stream: bool) -> str:
        if self._kind == "completion":
            return "text_completion"
        return "chat.completion.chunk" if stream else "chat.completion"

    def _logprobs(self, tokens: list[TokenLogprob]) -> dict[str, Any]:
        renderer = self._asked.served.renderer
        if self._kind == "chat":
            return {"content": [_told(renderer, token) for token in tokens], "refusal": None}
        texts = renderer.pieces(token.token_id for token in tokens)
        offsets = [0]
        for text in texts[:-1]:
            offsets.append(offsets[-1] + len(text))
        return {
            "tokens": texts,
            "token_logprobs": [max(token.logprob, _UNLIKELY) for token in tokens],
            "top_logprobs": [
                {_text(renderer, other)[0]: max(share, _UNLIKELY) for other, share in token.top} for token in tokens
            ],
            "text_offset": offsets[: len(texts)],
        }


def _told(renderer: Renderer, token: TokenLogprob) -> dict[str, Any]:
    return {
        **_named(renderer, token.token_id, token.logprob),
        "top_logprobs": [_named(renderer, other, share) for other, share in token.top],
    }


def _named(renderer: Renderer, token_id: int, share: float) -> dict[str, Any]:
    text, parts = _text(renderer, token_id)
    return {"token": text, "logprob": max(share, _UNLIKELY), "bytes": parts}


@lru_cache(maxsize=8192)
def _text(renderer: Renderer, token_id: int) -> tuple[str, list[int] | None]:
    """A token as text and as bytes; no bytes where it is a part of a character, or no text at all."""
    [text] = renderer.pieces([token_id])
    part = token_id in renderer.special_ids or "\ufffd" in renderer.decode([token_id])
    return text, None if part else list(text.encode())
