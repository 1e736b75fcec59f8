from __future__ import annotations

from unittest.mock import ANY

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from phi3tune.ui.guard import HOSTS, Guard, refused


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


@pytest.mark.parametrize(
    ("method", "headers", "local", "status"),
    [
        ("GET", {"host": "127.0.0.1:7860"}, True, None),
        ("GET", {"host": "[::1]:7860"}, True, None),
        ("GET", {"host": "evil.example"}, True, 400),
        ("GET", {"host": "evil.example:7860"}, True, 400),
        ("GET", {"host": "127.0.0.1.evil.example"}, True, 400),
        ("GET", {}, True, 400),
        ("GET", {"host": "LOCALHOST:7860"}, True, None),
        ("GET", {"host": "localhost."}, True, 400),
        ("GET", {"host": "evil@localhost"}, True, 400),
        ("GET", {"host": "[::1"}, True, 400),
        ("GET", {"host": "evil.example"}, False, 400),
        ("GET", {"host": "10.0.0.7:7860"}, False, None),
        ("GET", {"host": "localhost:7860", "origin": "https://evil.example"}, True, 403),
        ("OPTIONS", {"host": "localhost:7860", "origin": "https://evil.example"}, True, None),
        ("POST", {"host": "localhost:7860", "sec-fetch-site": "cross-site"}, True, 403),
        ("POST", {"host": "localhost:7860", "sec-fetch-site": "same-site"}, True, 403),
        ("GET", {"host": "localhost:7860", "sec-fetch-site": "cross-site"}, True, None),
        ("POST", {"host": "localhost:7860", "origin": "http://localhost:7860"}, True, None),
        ("POST", {"host": "localhost:7860"}, True, None),
        ("POST", {"host": "localhost:7860", "origin": "https://evil.example"}, True, 403),
        ("POST", {"host": "localhost:7860", "origin": "http://localhost:9999"}, True, 403),
        ("POST", {"host": "localhost:7860", "origin": "null"}, True, 403),
        ("POST", {"host": "localhost:7860", "x-forwarded-host": "evil", "origin": "https://evil"}, True, 403),
        ("POST", {"host": "10.0.0.1", "x-forwarded-host": "evil", "origin": "https://evil"}, False, 403),
        ("DELETE", {"host": "10.0.0.1", "origin": "https://evil.example"}, False, 403),
    ],
)
def test_who_may_ask(method: str, headers: dict[str, str], local: bool, status: int | None) -> None:
    refusal = refused(method, headers, local=local)
    assert (None if refusal is None else refusal[0]) == status


def test_names_of_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOSTS, "phi.example.org, Lab")
    for host in ("phi.example.org", "PHI.example.org:443", "lab:7860"):
        assert refused("GET", {"host": host}, local=False) is None
        assert refused("GET", {"host": host}, local=True) is not None
    told = refused("GET", {"host": "other.example.org"}, local=False)
    assert told is not None and HOSTS in told[1]


def test_a_space_has_the_names_that_its_platform_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "me/phi3tune")
    assert refused("GET", {"host": "me-phi3tune.hf.space"}, local=False) is None
    own = {"host": "10.0.0.1", "x-forwarded-host": "me.hf.space"}
    assert refused("POST", {**own, "origin": "https://me.hf.space"}, local=False) is None
    assert refused("POST", {**own, "origin": "https://evil.example"}, local=False) == (403, ANY)


def test_middleware_refuses_and_sends_its_policy() -> None:
    app = Starlette(routes=[Route("/", hello, methods=["GET", "POST"])], middleware=[Middleware(Guard, local=True)])
    client = TestClient(app, base_url="http://127.0.0.1")
    page = client.get("/")
    assert page.text == "hello"
    assert "default-src 'self' data: blob:" in page.headers["content-security-policy"]
    assert (page.headers["x-content-type-options"], page.headers["referrer-policy"]) == ("nosniff", "same-origin")
    twice = [("host", "127.0.0.1"), ("host", "evil.example")]
    assert client.get("/", headers=twice).status_code == 400
    assert client.post("/", headers={"origin": "https://evil.example"}).status_code == 403
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
