"""An OpenAI-compatible endpoint as an engine: it answers chats; probabilities of given text cannot be had from it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import httpx2
import openai

from phi3tune.engines.address import Address
from phi3tune.engines.base import (
    Cancelled,
    Chunk,
    Completion,
    EngineError,
    EngineInfo,
    FinishReason,
    Request,
    Scores,
    Usage,
    collect,
    never,
)

if TYPE_CHECKING:
    import numpy as np
    from openai.types.chat import ChatCompletionChunk

    from phi3tune.chat import Renderer

KEY_VARIABLE = "OPENAI_API_KEY"
_AT_ONCE = 4
_LIMIT, _NEWER_LIMIT = "max_tokens", "max_completion_tokens"  # OpenAI's newer models refuse the first, by naming it
_NO_KEY = "none"  # servers of one's own take any key, and the client wants one
_TIMEOUT = openai.Timeout(300.0, connect=10.0)  # seconds without a byte: a slow server may queue a request that long


class RemoteEngine:
    """One model of an endpoint. Safe to use from several threads.

    The key is `key` or, where that is None, comes from the environment variable `key_variable`; it is kept nowhere
    else. Redirects are not followed: they would take the key and the chats to another place. Raises `EngineError`
    when the endpoint cannot be used.
    """

    def __init__(
        self, address: Address, *, name: str | None = None, key_variable: str = KEY_VARIABLE, key: str | None = None
    ) -> None:
        self.address = address
        self._key_variable = key_variable
        self._limit = _LIMIT
        self._client = openai.OpenAI(
            base_url=address.url,
            api_key=(os.environ.get(key_variable) if key is None else key) or _NO_KEY,
            http_client=openai.DefaultHttpxClient(follow_redirects=False, timeout=_TIMEOUT),
        )
        try:
            self._model = address.model or self._first_model()
        except EngineError:
            self.close()
            raise
        self._name = name or self._model

    @property
    def info(self) -> EngineInfo:
        """Facts about the endpoint; lengths and sizes are 0, because it does not tell them."""
        return EngineInfo(
            name=self._name,
            kind="remote",
            precision="unknown",
            device="endpoint",
            context_length=0,
            vocab_size=0,
            size_bytes=0,
            can=frozenset({"messages", "batch"}),
        )

    @property
    def model(self) -> str:
        """The model's name at the endpoint."""
        return self._model

    @property
    def renderer(self) -> Renderer:
        self._cannot("renders chats by itself; send it messages")

    def stream(self, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        """Chunks of the answer to `request.messages`. Token ids are unknown; usage is what the endpoint counts.

        Raises `EngineError` when the endpoint fails.
        """
        if request.messages is None:
            raise ValueError("an endpoint needs the messages of a chat")
        start = time.perf_counter()
        first: float | None = None
        reason: FinishReason | None = None
        counted = None
        with self._told(), self._ask(request) as stream:
            for event in stream:
                counted = event.usage or counted
                for choice in (event.choices or [])[:1]:
                    if choice.delta.content:
                        first = first or time.perf_counter()
                        # Half a surrogate pair is no character, and no file could hold it.
                        yield Chunk(choice.delta.content.encode("utf-8", "replace").decode(), ())
                    if choice.finish_reason is not None:
                        reason = "length" if choice.finish_reason == "length" else "stop"
                if cancelled():
                    reason = "cancelled"
                    break
        if reason is None:
            raise EngineError(
                f"the endpoint {self.address} did not finish its answer; try again, and see that the address is "
                "that of OpenAI's API, which usually ends in /v1"
            )
        decoding = time.perf_counter() - first if first is not None else 0.0
        tokens = counted.completion_tokens if counted is not None else 0
        usage = Usage(
            prompt_tokens=counted.prompt_tokens if counted is not None else 0,
            cached_tokens=0,
            completion_tokens=tokens,
            first_token_seconds=(first or time.perf_counter()) - start,
            tokens_per_second=tokens / decoding if decoding > 0 else 0.0,
        )
        yield Chunk("", (), reason, usage)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers in the order of the requests, a few asked for at a time."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            answers = [threads.submit(lambda request: collect(self.stream(request)), each) for each in requests]
            try:
                return [answer.result() for answer in answers]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def score(self, token_ids: Sequence[int]) -> Scores:
        self._cannot("gives no probabilities of given text")

    def logits(self, token_ids: Sequence[int], positions: Sequence[int]) -> Iterator[np.ndarray]:
        self._cannot("gives no logits")

    def close(self) -> None:
        self._client.close()

    def _ask(self, request: Request) -> openai.Stream[ChatCompletionChunk]:
        sampling = request.sampling
        asked: dict[str, Any] = {"temperature": sampling.temperature, self._limit: sampling.max_new_tokens}
        if sampling.temperature > 0:
            asked |= {"seed": sampling.seed, "top_p": sampling.top_p}
        if sampling.stop:
            asked["stop"] = list(sampling.stop)
        messages: Any = [{"role": message["role"], "content": message["content"]} for message in request.messages or ()]
        try:
            stream: openai.Stream[ChatCompletionChunk] = self._client.chat.completions.create(
                model=self._model, messages=messages, stream=True, stream_options={"include_usage": True}, **asked
            )
            return stream
        except openai.BadRequestError as error:
            if self._limit == _LIMIT and _NEWER_LIMIT in error.message:
                self._limit = _NEWER_LIMIT
                return self._ask(request)
            raise

    def _first_model(self) -> str:
        with self._told():
            # As plain JSON: the client makes its objects of anything, and what else listens there may answer anything.
            answer = self._client.models.with_raw_response.list().http_response.json()
            try:
                names = [str(model["id"]) for model in answer["data"]]
            except (KeyError, TypeError):
                raise ValueError("its list of models is none") from None
        if not names:
            raise EngineError(f"the endpoint {self.address} offers no model; name one, as {self.address}#NAME")
        return names[0]

    def _cannot(self, what: str) -> NoReturn:
        raise EngineError(f"the endpoint {self.address} {what}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the client raises, after its own retries, into an `EngineError` that names the endpoint."""
        try:
            yield
        except openai.APIStatusError as error:
            raise EngineError(
                f"the endpoint {self.address} answered with status {error.status_code}: {self._advice(error)}"
            ) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            why = self._shown(error.__cause__ or error)
            raise EngineError(f"the endpoint {self.address} cannot be reached: {why}") from None
        except (openai.OpenAIError, ValueError) as error:
            raise EngineError(
                f"the endpoint {self.address} does not answer as OpenAI's API does: {self._shown(error)}"
            ) from None

    def _advice(self, error: openai.APIStatusError) -> str:
        if error.status_code in (401, 403):
            return f"it does not accept the key; put a valid one into the environment variable {self._key_variable}"
        if error.status_code == 404:
            return "check the address, which usually ends in /v1, and the model's name"
        if error.status_code == 429:
            return "it has too much to do or its quota is used up; try again later"
        if 300 <= error.status_code < 400:
            return "it redirects to another address, which is not followed; give that address"
        return self._shown(error.message)

    def _shown(self, error: object) -> str:
        """One line, without the key: some servers repeat it."""
        text = " ".join(str(error).split())[:300] or type(error).__name__
        return text.replace(self._client.api_key, "***") if self._client.api_key != _NO_KEY else text
