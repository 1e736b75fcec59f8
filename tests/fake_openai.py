"""An OpenAI-compatible endpoint on this machine: it answers as the test says, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.fake_server import running

Reply = Callable[[dict[str, Any]], "str | Fault | Answer"]


@dataclass(frozen=True)
class Fault:
    """Answer with an HTTP error; `location` makes a redirect of it."""

    status: int
    message: str = "it went wrong"
    location: str | None = None


@dataclass(frozen=True)
class Answer:
    """A text whose finish reason is not `stop`, or whose usage is left out."""

    text: str
    finish_reason: str = "stop"
    usage: bool = True


class FakeOpenAI:
    """`reply(body)` gives the answer to a chat request, called in the server's threads.

    requests  bodies of the chat requests so far, in the order they came
    headers   their headers, names in lower case
    """

    def __init__(self, address: str, models: list[str], reply: Reply) -> None:
        self.address = address
        self.models = models
        self.reply = reply
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()


def last_words(body: dict[str, Any]) -> str:
    """The usual reply: the last message, said back."""
    return f"You said: {body['messages'][-1]['content']}"


@contextmanager
def fake_openai(reply: Reply = last_words, models: tuple[str, ...] = ("fake-model",)) -> Iterator[FakeOpenAI]:
    """A running endpoint; its `address` ends in /v1."""
    with running(_Handler) as server:
        fake = FakeOpenAI(f"http://127.0.0.1:{server.server_address[1]}/v1", list(models), reply)
        server.fake = fake  # type: ignore[attr-defined]
        yield fake


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        fake: FakeOpenAI = self.server.fake  # type: ignore[attr-defined]
        if self.path != "/v1/models":
            self._fault(Fault(404, "no such page"))
            return
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "test"} for name in fake.models]
        self._json(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        fake: FakeOpenAI = self.server.fake  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self._fault(Fault(404, "no such page"))
            return
        with fake.lock:
            fake.requests.append(body)
            fake.headers.append({name.lower(): value for name, value in self.headers.items()})
        answer = fake.reply(body)
        if isinstance(answer, Fault):
            self._fault(answer)
        else:
            answer = Answer(answer) if isinstance(answer, str) else answer
            (self._stream if body.get("stream") else self._whole)(body, answer)

    def _whole(self, body: dict[str, Any], answer: Answer) -> None:
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
        usage = {"usage": _usage(body, answer)} if answer.usage else {}
        self._json(200, {**_head(body, "chat.completion"), "choices": [choice], **usage})

    def _stream(self, body: dict[str, Any], answer: Answer) -> None:
        head = _head(body, "chat.completion.chunk")
        events: list[dict[str, Any]] = [
            {**head, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
            for piece in answer.text.splitlines(keepends=True)
        ]
        events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": answer.finish_reason}]})
        if answer.usage and (body.get("stream_options") or {}).get("include_usage"):
            events.append({**head, "choices": [], "usage": _usage(body, answer)})
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self._send(200, text.encode(), "text/event-stream")

    def _fault(self, fault: Fault) -> None:
        error = {"error": {"message": fault.message, "type": "fake", "code": None, "param": None}}
        self._json(fault.status, error, {"Location": fault.location} if fault.location else {})

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", headers)

    def _send(self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chat-1", "object": kind, "created": 0, "model": body["model"]}


def _usage(body: dict[str, Any], answer: Answer) -> dict[str, int]:
    """Tokens are words here."""
    prompt = sum(len(message["content"].split()) for message in body["messages"])
    words = len(answer.text.split())
    return {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words}
