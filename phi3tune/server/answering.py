"""One request on its way: from a checked body to the pool's requests, through the line, to chunks in the event loop."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from phi3tune.chat import Message, Renderer
from phi3tune.config import ServeConfig
from phi3tune.engines.base import Chunk, EngineInfo, Guide, Request, Sampling, Usage
from phi3tune.errors import UserError
from phi3tune.server.errors import ApiError, unsupported
from phi3tune.server.line import Line
from phi3tune.server.schema import ChatRequest, CompletionRequest, Drawing

if TYPE_CHECKING:
    from phi3tune.engines.models import ModelRef
    from phi3tune.engines.pool import Pool
    from phi3tune.guardrails import Guards, Hit

_ANSWER_OF_A_COMPLETION = 16  # tokens, when none are asked for: OpenAI's own default
_SEEDS = 2**31


@dataclass(frozen=True)
class Served:
    """A model of the endpoint, loaded once. `fingerprint` changes when the same seed may give another answer."""

    name: str
    ref: ModelRef
    info: EngineInfo
    renderer: Renderer
    fingerprint: str


@dataclass(frozen=True)
class Asked:
    """What the pool is asked for one HTTP request: a request for each answer, in the order of their indexes."""

    served: Served
    requests: tuple[Request, ...]
    prompts: int  # how many of the answers have a prompt of their own
    hits: tuple[Hit, ...] = ()


@dataclass(frozen=True)
class Said:
    """A chunk of answer number `index`. `blocked` tells that a guard ended the answer here."""

    index: int
    chunk: Chunk
    hits: tuple[Hit, ...] = ()
    blocked: bool = False


def ask_chat(body: ChatRequest, served: Served, config: ServeConfig, guards: Guards | None) -> Asked:
    """The pool's requests for a chat. Raises `ApiError` for what this model cannot do. Call it in a thread."""
    messages = [
        Message(role="system" if message.role == "developer" else message.role, content=message.text())
        for message in body.messages
    ]
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs to be true", code="invalid_value", param="top_logprobs")
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    sampling = _sampling(
        body,
        served,
        config,
        limit=_limit(getattr(body, name), name, served, config, config.max_new_tokens),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        guide=_guide(body, served),
        guards=guards,
    )
    messages, hits = _let_in(messages, guards)
    ids = served.renderer.prompt(messages)
    return Asked(served, _each([_fitting(ids, served, "messages")], body.n or 1, sampling, messages), 1, hits)


def ask_completion(body: CompletionRequest, served: Served, config: ServeConfig, guards: Guards | None) -> Asked:
    """The pool's requests for plain text that is to go on. Raises `ApiError` for what this model cannot do."""
    sampling = _sampling(
        body,
        served,
        config,
        limit=_limit(body.max_tokens, "max_tokens", served, config, _ANSWER_OF_A_COMPLETION),
        logprobs=body.logprobs,
        guide=None,
        guards=guards,
    )
    hits: tuple[Hit, ...] = ()
    prompts = []
    given = body.prompt if isinstance(body.prompt, list) and not isinstance(body.prompt[0], int) else [body.prompt]
    for prompt in given:
        if isinstance(prompt, str):
            [message], found = _let_in([Message(role="user", content=prompt)], guards)
            hits += found
            ids = served.renderer.encode(message["content"])
        else:
            ids = [int(token) for token in prompt]
            if max(ids) >= served.info.vocab_size:
                raise ApiError(
                    400,
                    f"token {max(ids)} is not in the vocabulary of {served.info.vocab_size}",
                    code="invalid_value",
                    param="prompt",
                )
        prompts.append(_fitting(ids, served, "prompt"))
    return Asked(served, _each(prompts, body.n or 1, sampling, None), len(prompts), hits)


def _sampling(
    body: Drawing,
    served: Served,
    config: ServeConfig,
    *,
    limit: int,
    logprobs: int | None,
    guide: Guide | None,
    guards: Guards | None,
) -> Sampling:
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "stream_options needs stream to be true", code="invalid_value", param="stream_options")
    if logprobs is not None and "logprobs" not in served.info.can:
        raise unsupported("logprobs", f"the log-probabilities of {served.info.kind}")
    if logprobs is not None and guards is not None and guards.of("output"):
        raise unsupported("logprobs", "telling tokens that the guards of this endpoint may hide")
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    temperature = 1.0 if body.temperature is None else body.temperature
    return Sampling(
        max_new_tokens=limit,
        temperature=temperature,
        top_p=1.0 if body.top_p is None else max(body.top_p, 1e-6),
        seed=secrets.randbelow(_SEEDS) if body.seed is None else body.seed % _SEEDS,
        top_k=body.top_k or 0,
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=_bias(body.logit_bias or {}, served),
        stop=tuple(stops),
        logprobs=logprobs,
        guide=guide,
    )


def _limit(wanted: int | None, param: str, served: Served, config: ServeConfig, default: int) -> int:
    """Longest answer in tokens. What does not fit behind the prompt is cut by the engine, as OpenAI does."""
    most = min(config.max_new_tokens, served.info.context_length)
    if wanted is None:
        return min(default, most)
    if wanted > most:
        raise ApiError(400, f"{param} is {wanted:,}; at most {most:,} is accepted", code="invalid_value", param=param)
    return wanted


def _bias(given: dict[str, float], served: Served) -> dict[int, float]:
    size = served.info.vocab_size
    for key in given:
        if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < size):
            raise ApiError(
                400,
                f"logit_bias names {key[:40]!r}; token ids from 0 to {size - 1} are accepted",
                code="invalid_value",
                param="logit_bias",
            )
    return {int(key): value for key, value in given.items()}


def _guide(body: ChatRequest, served: Served) -> Guide | None:
    from phi3tune.engines.guide import check as check_guide

    form = body.response_format
    if form is None or form.type == "text":
        return None
    if "guide" not in served.info.can:
        raise unsupported("response_format", f"{form.type} with {served.info.kind}")
    if form.type == "json_object":
        return Guide("json_schema", '{"type": "object"}')
    if form.type == "json_schema":
        guide = Guide("json_schema", json.dumps(form.json_schema.schema_))
    elif form.type == "regex":
        guide = Guide("regex", form.regex)
    else:
        guide = Guide("grammar", form.grammar)
    try:
        check_guide(guide)
    except UserError as error:
        raise ApiError(400, str(error), code="invalid_value", param="response_format") from None
    return guide


def _let_in(messages: list[Message], guards: Guards | None) -> tuple[list[Message], tuple[Hit, ...]]:
    """The messages as the input guards leave them. Raises `ApiError` when one of them blocks."""
    if guards is None:
        return messages, ()
    verdict = guards.check_input(messages)
    if verdict.blocked:
        raise ApiError(400, verdict.reason, code="content_filter", param="messages", hits=verdict.hits)
    return list(verdict.messages), verdict.hits


def _fitting(ids: list[int], served: Served, param: str) -> list[int]:
    most = served.info.context_length
    if not 0 < len(ids) < most:
        raise ApiError(
            400,
            f"{param} has {len(ids):,} tokens and the context of {served.name} is {most:,}, answer included",
            code="context_length_exceeded",
            param=param,
        )
    return ids


def _each(
    prompts: Sequence[list[int]], answers: int, sampling: Sampling, messages: Sequence[Message] | None
) -> tuple[Request, ...]:
    """`answers` requests for each prompt, each with a seed of its own."""
    return tuple(
        Request(ids, replace(sampling, seed=(sampling.seed + number) % _SEEDS), messages)
        for ids in prompts
        for number in range(answers)
    )


class Flow:
    """The answers to one HTTP request, made by a thread and read in the event loop.

    A reader that is slow or gone holds nobody up: what was said waits here, and is bounded by the longest answer. Enter
    the line before. `live` wakes the reader at every chunk, else it is woken once, by the end.
    """

    def __init__(
        self,
        asked: Asked,
        pool: Pool,
        guards: Guards | None,
        line: Line,
        threads: ThreadPoolExecutor,
        *,
        live: bool,
        seconds: float,
    ) -> None:
        self._asked, self._pool, self._guards, self._line, self._threads = asked, pool, guards, line, threads
        self._live, self._seconds = live, seconds
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._deadline = self._began + seconds
        self._said: deque[Said | BaseException | None] = deque()
        self._woken = asyncio.Event()
        self._waking = False
        self._gone = False
        self._ending = ""
        self.queue_seconds: float | None = None
        self._task = self._loop.create_task(self._run())

    async def batches(self) -> AsyncIterator[list[Said]]:
        """What was said since the last time, until all answers have ended. Raises what the pool raises, `ApiError`
        for an answer that took too long or that the end of the server cut off."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            self._waking = False
            batch: list[Said] = []
            end: BaseException | None = None
            while self._said and end is None:
                item = self._said.popleft()
                if isinstance(item, Said):
                    batch.append(item)
                elif item is None:
                    if batch:
                        yield batch
                    return
                else:
                    end = item
            if batch:
                yield batch
            if end is not None:
                raise end

    def leave(self) -> None:
        """The reader is gone: stop within a token, or give up the place in the line."""
        self._gone = True
        if self.queue_seconds is None:
            self._task.cancel()

    def end(self, reason: str) -> None:
        """Cut the answers off, because the server ends."""
        self._ending = reason
        if self.queue_seconds is None:
            self._task.cancel()

    async def _run(self) -> None:
        end: BaseException | None
        try:
            async with asyncio.timeout_at(self._loop.time() + self._seconds) as limit, self._line.turn():
                limit.reschedule(None)  # from here on the engine asks for the time itself
                self.queue_seconds = time.monotonic() - self._began
                end = await self._loop.run_in_executor(self._threads, self._work)
        except (TimeoutError, asyncio.CancelledError):
            end = self._cut()
        finally:
            self._line.leave()
        self._say(end)  # behind the end of its turn, so that whoever reads it and asks again finds a free place

    def _work(self) -> BaseException | None:
        """In a thread: all answers, one after the other, so that they share what is read of the prompt. Returns what
        ended them early."""
        try:
            for index, request in enumerate(self._asked.requests):
                for said in self._answer(index, request):
                    if said.chunk.finish_reason == "cancelled":
                        return self._cut()
                    self._say(said)
        except BaseException as error:
            return error
        return None

    def _answer(self, index: int, request: Request) -> Iterator[Said]:
        chunks = self._pool.stream(self._asked.served.ref, request, self._cancelled)
        if self._guards is None or not self._guards.of("output"):
            return (Said(index, chunk) for chunk in chunks)
        return self._guarded(index, request, chunks)

    def _guarded(self, index: int, request: Request, chunks: Iterator[Chunk]) -> Iterator[Said]:
        from phi3tune.guardrails import OutputFilter

        assert self._guards is not None
        output = OutputFilter(self._guards)
        tokens = 0
        for chunk in chunks:
            tokens += len(chunk.token_ids)
            piece = output.feed(chunk.text)
            if chunk.finish_reason is not None and not piece.blocked:
                last = output.finish()
                piece = type(piece)(piece.text + last.text, (*piece.hits, *last.hits))
            if piece.blocked:
                usage = chunk.usage or Usage(len(request.prompt_ids), 0, tokens, 0.0, 0.0)
                yield Said(index, Chunk("", chunk.token_ids, "stop", usage), piece.hits, blocked=True)
                return  # the pool stops when its chunks are no longer read
            yield Said(index, replace(chunk, text=piece.text), piece.hits)

    def _cancelled(self) -> bool:
        return self._gone or bool(self._ending) or time.monotonic() > self._deadline

    def _cut(self) -> ApiError:
        if self._gone:
            return ApiError(499, "whoever asked is gone", code="client_gone")
        if self._ending:
            return ApiError(503, self._ending, code="shutting_down", headers={"Retry-After": "5"})
        return ApiError(504, f"the answer took longer than {self._seconds:g} s, waiting included", code="timeout")

    def _say(self, item: Said | BaseException | None) -> None:
        self._said.append(item)
        if (self._live or not isinstance(item, Said)) and not self._waking:
            self._waking = True
            self._loop.call_soon_threadsafe(self._woken.set)
