from __future__ import annotations

import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from phi3tune import api
from phi3tune.chat import Message
from phi3tune.engines import open_engine
from phi3tune.engines.address import Address, parse
from phi3tune.engines.base import EngineError, Request, Sampling, chat_request, collect
from phi3tune.engines.models import ModelRef, resolve
from phi3tune.engines.remote import RemoteEngine
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from tests.fake_openai import Answer, FakeOpenAI, Fault, fake_openai

KEY = "sk-canary-5f1c"


def chat(text: str) -> list[Message]:
    return [{"role": "system", "content": "Be short."}, {"role": "user", "content": text}]


def request(text: str, tokens: int = 16) -> Request:
    return Request((), Sampling(max_new_tokens=tokens), chat(text))


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's retries without their waiting."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.001)


def engine_of(fake: FakeOpenAI, name: str = "") -> RemoteEngine:
    return RemoteEngine(parse(fake.address + name))


@pytest.mark.parametrize(
    ("text", "address", "label"),
    [
        ("http://localhost:8000/v1", Address("http://localhost:8000/v1", None), "localhost:8000/v1"),
        (" https://host.example/v1/#org/name ", Address("https://host.example/v1", "org/name"), "org/name"),
    ],
)
def test_addresses(text: str, address: Address, label: str) -> None:
    assert parse(text) == address
    assert address.label == label
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ftp://host/v1", "not accepted"),
        ("file:///etc/passwd", "not accepted"),
        ("http:///v1", "not accepted"),
        ("http://host/v1#a b", "not accepted"),
        ("http://host:99999/v1", "malformed"),
        ("http://user:secret@host/v1", "must not hold a user"),
        ("http://host/v1?key=secret", "query"),
    ],
)
def test_addresses_that_are_refused(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(text)


def test_model_reference(workspace: Workspace) -> None:
    ref = resolve("http://localhost:8000/v1/#lamp", workspace)
    assert ref == ModelRef("http://localhost:8000/v1#lamp", "lamp", "remote", None)
    assert resolve(ref.ref, workspace) == ref
    with pytest.raises(UserError, match="is an endpoint"):
        _ = ref.tokenizer


def test_answers_come_in_order_and_carry_what_was_asked() -> None:
    with fake_openai() as fake:
        engine = open_engine(resolve(f"{fake.address}#fake-model", Workspace.current()))
        texts = [f"question {number}" for number in range(9)]
        answers = engine.generate([chat_request(engine, chat(text), Sampling(max_new_tokens=16)) for text in texts])
        assert [answer.text for answer in answers] == [f"You said: {text}" for text in texts]
        assert {answer.finish_reason for answer in answers} == {"stop"}
        assert [(answer.usage.prompt_tokens, answer.usage.completion_tokens) for answer in answers] == [(4, 4)] * 9
        assert all(answer.usage.first_token_seconds > 0 for answer in answers)
        asked = next(body for body in fake.requests if body["messages"][-1]["content"] == "question 3")
        assert asked["model"] == "fake-model"
        assert asked["messages"] == chat("question 3")
        assert (asked["max_tokens"], asked["temperature"]) == (16, 0)
        engine.close()


def test_chat_from_python() -> None:
    with fake_openai() as fake, api.load(fake.address) as model:
        assert model.answer(chat("Hello"), max_new_tokens=5) == "You said: Hello"


def test_several_requests_are_under_way_at_once() -> None:
    together = threading.Barrier(4, timeout=10)

    def reply(body: dict[str, Any]) -> str:
        together.wait()
        return "yes"

    with fake_openai(reply) as fake:
        answers = engine_of(fake).generate([request(str(number)) for number in range(8)])
    assert [answer.text for answer in answers] == ["yes"] * 8


def test_stream_gives_pieces_and_can_be_cancelled() -> None:
    with fake_openai(lambda body: "one\ntwo\nthree") as fake:
        engine = engine_of(fake)
        assert [chunk.text for chunk in engine.stream(request("Count."))] == ["one\n", "two\n", "three", ""]
        cut = collect(engine.stream(request("Count."), lambda: True))
    assert (cut.text, cut.finish_reason) == ("one\n", "cancelled")


def test_cut_answer_and_missing_usage() -> None:
    with fake_openai(lambda body: Answer("Once upon", "length", usage=False)) as fake:
        (answer,) = engine_of(fake).generate([request("Tell.")])
    assert (answer.text, answer.finish_reason, answer.usage.completion_tokens) == ("Once upon", "length", 0)


def test_newer_name_of_the_longest_answer() -> None:
    """OpenAI's newer models refuse `max_tokens`; after the first refusal it is not sent again."""

    def reply(body: dict[str, Any]) -> str | Fault:
        refusal = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        return "yes" if "max_completion_tokens" in body else Fault(400, refusal)

    with fake_openai(reply) as fake:
        engine = engine_of(fake)
        assert [collect(engine.stream(request("Hi", 5))).text for _ in range(2)] == ["yes", "yes"]
        assert [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in fake.requests] == [
            (5, None),
            (None, 5),
            (None, 5),
        ]


def test_without_a_name_the_first_model_is_taken() -> None:
    with fake_openai(models=("first", "second")) as fake:
        assert (engine_of(fake).model, engine_of(fake, "#second").model) == ("first", "second")
        fake.models.clear()
        with pytest.raises(EngineError, match="offers no model"):
            engine_of(fake)


def test_what_an_endpoint_cannot_do_is_said() -> None:
    with fake_openai() as fake:
        engine = engine_of(fake)
        assert not {"score", "logits"} & engine.info.can
        for attempt in (lambda: engine.score([1, 2]), lambda: engine.logits([1], [0]), lambda: engine.renderer):
            with pytest.raises(EngineError, match=fake.address):
                attempt()


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize(
    ("fault", "told", "tries"),
    [
        (Fault(401, f"Incorrect API key: {KEY}"), "status 401.*environment variable MY_KEY", 1),
        (Fault(404), "status 404.*ends in /v1", 1),
        (Fault(400, f"bad chat {KEY}"), r"status 400: .*bad chat \*\*\*", 1),
        (Fault(429), "status 429.*too much to do", 3),
        (Fault(500, "broken"), "status 500: .*broken", 3),
        (Fault(307, location="ftp://elsewhere/v1"), "status 307.*redirects", 1),
        (Fault(302, location="https://elsewhere/v1"), "status 302.*redirects", 1),
    ],
)
def test_faults_name_the_endpoint_and_never_the_key(
    fault: Fault, told: str, tries: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with fake_openai(lambda body: fault) as fake:
        engine = RemoteEngine(parse(fake.address), key_variable="MY_KEY")
        with pytest.raises(EngineError, match=told) as raised:
            engine.generate([request("Hi")])
        assert fake.address in str(raised.value)
        assert fake.headers[0]["authorization"] == f"Bearer {KEY}"
        assert len(fake.requests) == tries
    assert KEY not in str(raised.value) + caplog.text


def test_key_is_a_placeholder_when_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_openai() as fake:
        engine_of(fake).generate([request("Hi")])
        assert fake.headers[0]["authorization"] == "Bearer none"


@pytest.mark.usefixtures("quick_retries")
def test_nobody_listens() -> None:
    with fake_openai() as fake:
        address = fake.address
    with pytest.raises(EngineError, match=f"{address} cannot be reached"):
        RemoteEngine(parse(address))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html>Welcome</html>"),
        ("application/json", b"[]"),
        ("application/json", b'{"data": 3}'),
        ("application/json", b""),
        ("text/event-stream", b"data: {nonsense\n\n"),
        ("text/event-stream", b'data: {"a": 1}\n\n'),
        ("text/event-stream", b'data: {"error": {"message": "out of memory"}}\n\n'),
    ],
)
def test_something_else_listens(kind: str, body: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        address = parse(f"http://127.0.0.1:{server.server_address[1]}/v1")
        try:
            with pytest.raises(EngineError, match=f"{address} does not answer as OpenAI's API does"):
                RemoteEngine(address)
            with pytest.raises(EngineError, match=f"{address}#m (does not answer|did not finish)"):
                RemoteEngine(Address(address.url, "m")).generate([request("Hi")])
        finally:
            server.shutdown()


def test_wrong_path() -> None:
    with fake_openai() as fake, pytest.raises(EngineError, match="status 404"):
        RemoteEngine(parse(fake.address.removesuffix("/v1")))
