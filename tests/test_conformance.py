"""The conformance test itself: green on our endpoint, red on one that breaks one rule."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest

from phi3tune import conformance, keys
from phi3tune.cli import main
from phi3tune.engines.base import Cancelled, Chunk, Request, never
from phi3tune.engines.models import ModelRef
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.server.running import Server
from tests.fake_server import running as running_handler
from tests.server.conftest import running
from tests.server.fake_pool import FakePool

DAYS = "Monday, Tuesday, Wednesday."


class StoppingPool(FakePool):
    """Keeps to stop texts, as engines do."""

    def stream(self, ref: ModelRef, request: Request, cancelled: Cancelled = never) -> Iterator[Chunk]:
        ends = [self.text.find(stop) for stop in request.sampling.stop if stop in self.text]
        return FakePool(self.text[: min(ends, default=len(self.text))]).stream(ref, request, cancelled)


@pytest.fixture(scope="module")
def workspace_of_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def endpoint(workspace_of_endpoint: Workspace) -> Iterator[Server]:
    with running(StoppingPool(DAYS), workspace_of_endpoint) as server:
        yield server


def test_our_endpoint_passes(endpoint: Server) -> None:
    checks = list(conformance.run(endpoint.url))
    assert [check.name for check in checks] == list(conformance.NAMES)
    assert all(check.passed for check in checks), checks
    assert all(check.detail and check.seconds > 0 for check in checks)


def test_a_key_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path)
    key = keys.make("team", workspace)
    (tmp_path / "key").write_text(f"{key}\n")
    with running(StoppingPool(DAYS), workspace) as server:
        assert main(["conformance", server.url, "--key-file", str(tmp_path / "key"), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["passed"], told["of"]) == (8, 8)
        assert "401 without a key" in told["checks"][-1]["detail"]
        assert main(["conformance", server.url]) == 1
        assert "FAILED  plain" in capsys.readouterr().out


def test_nothing_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "http://127.0.0.1:9/v1", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], len(told["checks"])) == (0, 8)
    assert "cannot be asked" in told["checks"][0]["detail"]
    with pytest.raises(UserError):
        list(conformance.run("ftp://example.com"))


Body = dict[str, Any]
Ask = Callable[[Body], Body]
Say = Callable[[str, int, str], tuple[int, str]]


def unchanged(body: Body) -> Body:
    return body


def as_it_is(path: str, status: int, text: str) -> tuple[int, str]:
    return status, text


def without(*names: str) -> Ask:
    return lambda body: {name: value for name, value in body.items() if name not in names}


def only_user(body: Body) -> Body:
    return {**body, "messages": [message for message in body["messages"] if message["role"] != "system"]}


def cut_prompt(body: Body) -> Body:
    return {**body, "messages": [{**message, "content": message["content"][:60]} for message in body["messages"]]}


def replacing(pattern: str, by: str) -> Say:
    return lambda path, status, text: (status, re.sub(pattern, by, text))


def no_health(path: str, status: int, text: str) -> tuple[int, str]:
    return (404, "{}") if path == "/health" else (status, text)


def plain_errors(path: str, status: int, text: str) -> tuple[int, str]:
    return (status, json.dumps({"detail": "wrong"})) if status >= 400 else (status, text)


def all_is_well(path: str, status: int, text: str) -> tuple[int, str]:
    return (200, text) if status == 404 else (status, text)


# Where the shape is wrong, every check that looks at a whole answer is red.
ANSWERS = {"plain", "stop", "usage", "system role", "long prompt"}
FLAWS: dict[str, tuple[Ask, Say, set[str]]] = {
    "none": (unchanged, as_it_is, set()),
    "no health": (unchanged, no_health, {"health"}),
    "a foreign role": (unchanged, replacing('"role":"assistant","content":"M', '"role":"bot","content":"M'), ANSWERS),
    "an empty answer": (unchanged, replacing(r'"content":"[^"]*"', '"content":""'), {"plain", "stream", "stop"}),
    "no end": (unchanged, replacing(r"data: \[DONE\]", ""), {"stream", "usage"}),
    "no role": (unchanged, replacing('{"role":"assistant","content":""}', '{"content":""}'), {"stream"}),
    "no finish reason": (unchanged, replacing('"finish_reason":"stop"', '"finish_reason":null'), ANSWERS | {"stream"}),
    "deaf to stop": (without("stop"), as_it_is, {"stop"}),
    "no usage": (unchanged, replacing('"usage":{.*?}}', '"usage":null'), {"usage", "system role", "long prompt"}),
    "usage only when plain": (without("stream_options"), as_it_is, {"usage"}),
    "a wrong sum": (unchanged, replacing('"total_tokens":', '"total_tokens":1'), {"usage"}),
    "deaf to the system": (only_user, as_it_is, {"system role"}),
    "a prompt that is cut": (cut_prompt, as_it_is, {"long prompt"}),
    "an unknown code": (unchanged, replacing("context_length_exceeded", "too_long"), {"long prompt"}),
    "plain errors": (unchanged, plain_errors, {"long prompt", "error shape"}),
    "any model": (unchanged, all_is_well, {"error shape"}),
    "no param": (unchanged, replacing('"param":"temperature"', '"param":null'), {"error shape"}),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_what_is_wrong_is_red(endpoint: Server, flaw: str) -> None:
    ask, say, expected = FLAWS[flaw]
    with flawed(endpoint, ask, say) as url:
        failed = {check.name: check.detail for check in conformance.run(url) if not check.passed}
    assert set(failed) == expected, failed


@contextmanager
def flawed(endpoint: Server, ask: Ask, say: Say) -> Iterator[str]:
    """A proxy that changes what is asked and what is said."""
    with running_handler(_Proxy) as server:
        server.behind, server.ask, server.say = endpoint.url.removesuffix("/v1"), ask, say  # type: ignore[attr-defined]
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"


class _Proxy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._pass_on(None)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        with suppress(ValueError):  # broken JSON goes on as it is
            data = json.dumps(self.server.ask(json.loads(data))).encode()  # type: ignore[attr-defined]
        self._pass_on(data)

    def _pass_on(self, data: bytes | None) -> None:
        address = self.server.behind + self.path  # type: ignore[attr-defined]
        try:
            with urlopen(HttpRequest(address, data, {"Content-Type": "application/json"})) as response:
                status, text, kind = response.status, response.read().decode(), response.headers["Content-Type"]
        except HTTPError as error:
            status, text, kind = error.code, error.read().decode(), "application/json"
        status, text = self.server.say(self.path, status, text)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass
