"""Does an endpoint keep to OpenAI's chat completions API? Eight checks, each with what was seen.

Shapes are those of the official client's types (https://platform.openai.com/docs/api-reference/chat), validated, which
the client itself does not do. Two things are of this product and of vLLM rather than OpenAI's: `/health` beside `/v1`,
and `max_model_len` in the list of models, which saves the check of long prompts from guessing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import httpx2
    from pydantic import BaseModel

    M = TypeVar("M", bound=BaseModel)

NAMES = ("health", "plain", "stream", "stop", "usage", "system role", "long prompt", "error shape")
_QUESTION = "List the days of the week."
_TOKENS = 24
_LONG = 200  # words of a prompt that fits every model
_LARGEST = 300_000  # words that are over every context, where an endpoint does not tell its own
_CONNECT_SECONDS, _SECONDS = 10.0, 300.0
_SHOWN = 200


@dataclass(frozen=True)
class Check:
    """One check: what was seen when it passed, what was wrong when it did not; `seconds` it took."""

    name: str
    passed: bool
    detail: str
    seconds: float


class _WrongError(Exception):
    """What an endpoint did that it should not."""


def run(url: str, key: str | None = None, model: str | None = None) -> Iterator[Check]:
    """Check the endpoint at `url`, which ends in `/v1`; `model` is by default the first one that it lists.

    Every check asks at temperature 0 for a few tokens. One after the other, in the order of `NAMES`; all eight are
    given even when nothing answers. Raises `UserError` for what is no address.
    """
    import httpx2

    from phi3tune.engines import address

    given = address.parse(url)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = httpx2.Timeout(_SECONDS, connect=_CONNECT_SECONDS)
    with httpx2.Client(headers=headers, timeout=timeout) as client, httpx2.Client(timeout=timeout) as keyless:
        endpoint = _Endpoint(client, keyless if key else None, given.url.rstrip("/"), model or given.model)
        checks: tuple[Callable[[], str], ...] = (
            endpoint.health,
            endpoint.plain,
            endpoint.stream,
            endpoint.stop,
            endpoint.usage,
            endpoint.system_role,
            endpoint.long_prompt,
            endpoint.error_shape,
        )
        for name, check in zip(NAMES, checks, strict=True):
            began = time.perf_counter()
            try:
                passed, detail = True, check()
            except _WrongError as error:
                passed, detail = False, str(error)
            except httpx2.HTTPError as error:
                why = " ".join(str(error).split()) or type(error).__name__
                passed, detail = False, f"{given.url} cannot be asked: {why}"
            yield Check(name, passed, _without(key, detail), time.perf_counter() - began)


class _Endpoint:
    """One model of an endpoint, asked; each check returns what it saw or raises `_WrongError`."""

    def __init__(self, client: httpx2.Client, keyless: httpx2.Client | None, url: str, model: str | None) -> None:
        self._client, self._keyless, self._url = client, keyless, url
        self._model = model
        self._context: int | None = None

    def health(self) -> str:
        """`/health` says 200 without a key, and the list has the model."""
        response = (self._keyless or self._client).get(self._url.removesuffix("/v1") + "/health")
        _expect(response.status_code == 200, f"/health answers {response.status_code} instead of 200")
        models = _json(self._get("/models"))
        _expect(isinstance(models.get("data"), list) and models["data"], "/v1/models lists no model")
        names = [str(each.get("id")) for each in models["data"] if isinstance(each, dict)]
        self._model = self._model or names[0]
        _expect(self._model in names, f"/v1/models does not list {self._model}, but {', '.join(names)}")
        about = next(each for each in models["data"] if each.get("id") == self._model)
        length = about.get("max_model_len")
        self._context = length if isinstance(length, int) and length > 0 else None
        return f"ready; asking {self._model}" + (f", context {self._context:,} tokens" if self._context else "")

    def plain(self) -> str:
        """A chat is answered with an object of the right shape."""
        answer = self._ask(_QUESTION)
        _expect(bool(_text(answer).strip()), "the answer is empty")
        return f"answered {_text(answer)!r}"[:_SHOWN]

    def stream(self) -> str:
        """A stream has the role first, text in pieces, a finish reason and [DONE]."""
        chunks = self._stream(_QUESTION)
        choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
        _expect(bool(choices), "the stream has no choices")
        _expect(choices[0].delta.role == "assistant", "the first chunk does not say the role assistant")
        reasons = [choice.finish_reason for choice in choices if choice.finish_reason is not None]
        _expect(len(reasons) == 1, f"the stream has {len(reasons)} finish reasons instead of one")
        text = "".join(choice.delta.content or "" for choice in choices)
        _expect(bool(text.strip()), "the streamed answer is empty")
        _expect(len({chunk.id for chunk in chunks}) == 1, "the chunks have different ids")
        return f"{len(chunks)} chunks, then [DONE]; finish reason {reasons[0]}"

    def stop(self) -> str:
        """A stop text ends the answer and is not in it."""
        whole = _text(self._ask(_QUESTION))
        at = next((place for place in range(len(whole) // 2, len(whole)) if not whole[place].isspace()), None)
        _expect(at is not None, "the answer is empty, so there is nothing to stop at")
        stop = whole[at : (at or 0) + 3]
        answer = self._ask(_QUESTION, stop=[stop])
        _expect(stop not in _text(answer), f"the answer holds the stop text {stop!r}")
        expected = whole[: whole.index(stop)]
        same = _text(answer) == expected
        _expect(same, f"with the stop text {stop!r} the answer is {_text(answer)!r} instead of {expected!r}")
        _expect(answer.choices[0].finish_reason == "stop", f"its finish reason is {answer.choices[0].finish_reason}")
        return f"ended before {stop!r}"

    def usage(self) -> str:
        """Tokens are counted, and a stream counts the same when it is asked to."""
        usage = self._ask(_QUESTION).usage
        _expect(usage is not None, "a plain answer has no usage")
        _expect(usage.prompt_tokens > 0, "usage counts no prompt tokens")
        _expect(0 < usage.completion_tokens <= _TOKENS, f"{usage.completion_tokens} completion tokens of {_TOKENS}")
        _expect(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, "total_tokens is not the sum")
        last = self._stream(_QUESTION, stream_options={"include_usage": True})[-1]
        _expect(last.usage is not None and not last.choices, "the last chunk does not hold usage and no choices")
        counted = last.usage.prompt_tokens
        _expect(counted == usage.prompt_tokens, f"streamed, {counted} prompt tokens; plain, {usage.prompt_tokens}")
        return f"{usage.prompt_tokens} prompt and {usage.completion_tokens} completion tokens, streamed and plain"

    def system_role(self) -> str:
        """A system message is part of the prompt."""
        without = self._ask(_QUESTION).usage
        with_system = self._ask(_QUESTION, system="You answer in one short sentence, whatever you are asked.").usage
        _expect(without is not None and with_system is not None, "the answers have no usage to tell it by")
        more = with_system.prompt_tokens - without.prompt_tokens
        _expect(more > 0, "a system message adds no tokens to the prompt: it is ignored")
        return f"it adds {more} tokens"

    def long_prompt(self) -> str:
        """A long prompt is answered, and one over the context is refused as such."""
        words = min(_LONG, (self._context or 8 * _LONG) // 8)
        usage = self._ask(f"{_QUESTION} {'day ' * words}").usage
        _expect(usage is not None and usage.prompt_tokens >= words, f"a prompt of {words} words was cut")
        over = self._context or _LARGEST
        response = self._post(self._body(f"{_QUESTION} {'day ' * over}"))
        error = _error(response, 400, f"a prompt of {over:,} words, over the context,")
        code = error.get("code")
        _expect(
            code == "context_length_exceeded", f"over the context the code is {code!r}, not context_length_exceeded"
        )
        return f"{usage.prompt_tokens:,} tokens are answered; over the context: {code}"

    def error_shape(self) -> str:
        """Mistakes get OpenAI's error object with the right status and parameter."""
        _error(self._post(self._body(_QUESTION, model="no-such-model")), 404, "an unknown model")
        hot = _error(self._post(self._body(_QUESTION, temperature="hot")), 400, "temperature 'hot'")
        _expect(hot.get("param") == "temperature", f"for temperature 'hot' param is {hot.get('param')!r}")
        _error(self._post(self._body(_QUESTION, messages=[])), 400, "no messages")
        headers = {"Content-Type": "application/json"}
        broken = self._client.post(f"{self._url}/chat/completions", content=b'{"messages": [', headers=headers)
        _error(broken, 400, "broken JSON")
        seen = "404 and 400 with param"
        if self._keyless is not None:
            _error(self._keyless.get(f"{self._url}/models"), 401, "a request without a key")
            seen += ", 401 without a key"
        return seen

    def _body(self, question: str, *, system: str | None = None, **more: Any) -> dict[str, Any]:
        messages = [{"role": "system", "content": system}] if system is not None else []
        messages.append({"role": "user", "content": question})
        return {"model": self._model, "messages": messages, "temperature": 0, "max_tokens": _TOKENS, **more}

    def _get(self, path: str) -> httpx2.Response:
        return self._client.get(self._url + path)

    def _post(self, body: Mapping[str, Any]) -> httpx2.Response:
        return self._client.post(f"{self._url}/chat/completions", json=body)

    def _ask(self, question: str, **more: Any) -> Any:
        """The answer as OpenAI's `ChatCompletion`."""
        from openai.types.chat import ChatCompletion

        answer = _shaped(ChatCompletion, _json(self._post(self._body(question, **more))), "the answer")
        _expect(len(answer.choices) == 1, f"the answer has {len(answer.choices)} choices instead of one")
        return answer

    def _stream(self, question: str, **more: Any) -> list[Any]:
        """The chunks of a streamed answer as OpenAI's `ChatCompletionChunk`, up to [DONE]."""
        from openai.types.chat import ChatCompletionChunk

        body = self._body(question, stream=True, **more)
        with self._client.stream("POST", f"{self._url}/chat/completions", json=body) as response:
            if response.status_code != 200:
                response.read()
                _json(response)
            kind = response.headers.get("content-type", "")
            _expect(kind.startswith("text/event-stream"), f"a stream has the content type {kind!r}")
            events = [line.removeprefix("data:").strip() for line in response.iter_lines() if line.startswith("data:")]
        _expect(bool(events) and events[-1] == "[DONE]", "the stream does not end with [DONE]")
        return [_shaped(ChatCompletionChunk, _parsed(event), "a chunk") for event in events[:-1]]


def _expect(right: bool, otherwise: str) -> None:
    if not right:
        raise _WrongError(otherwise[: 2 * _SHOWN])


def _json(response: httpx2.Response) -> dict[str, Any]:
    """The object of an answer with status 200."""
    found = response.status_code
    _expect(found == 200, f"{response.request.url.path} answers {found} instead of 200: {response.text[:_SHOWN]}")
    return _parsed(response.text)


def _error(response: httpx2.Response, status: int, what: str) -> dict[str, Any]:
    """The error object of a refusal."""
    _expect(response.status_code == status, f"{what} is answered with {response.status_code} instead of {status}")
    error = _parsed(response.text).get("error")
    shape = {"message", "type", "param", "code"}
    right = isinstance(error, dict) and shape <= set(error) and isinstance(error["message"], str)
    _expect(right, f"for {what} the error is {response.text[:_SHOWN]!r}, not an object with {', '.join(sorted(shape))}")
    assert isinstance(error, dict)
    return error


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise _WrongError(f"{text[:_SHOWN]!r} is no JSON") from None
    if not isinstance(found, dict):
        raise _WrongError(f"{text[:_SHOWN]!r} is no JSON object")
    return found


def _shaped(kind: type[M], value: Mapping[str, Any], what: str) -> M:
    from pydantic import ValidationError

    try:
        return kind.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        place = ".".join(map(str, found["loc"]))
        raise _WrongError(f"{what} is not as OpenAI's: {place}: {found['msg']}") from None


def _text(answer: Any) -> str:
    return answer.choices[0].message.content or ""


def _without(key: str | None, text: str) -> str:
    """Some servers repeat the key in what they say."""
    return text.replace(key, "***") if key else text
