from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from phi3tune.ui.guard import Guard, refused


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
        ("GET", {"host": "me-phi3tune.hf.space"}, False, None),
        ("POST", {"host": "localhost:7860", "origin": "http://localhost:7860"}, True, None),
        ("POST", {"host": "localhost:7860"}, True, None),
        ("POST", {"host": "localhost:7860", "origin": "https://evil.example"}, True, 403),
        ("POST", {"host": "localhost:7860", "origin": "http://localhost:9999"}, True, 403),
        ("POST", {"host": "localhost:7860", "origin": "null"}, True, 403),
        ("POST", {"host": "10.0.0.1", "x-forwarded-host": "a.hf.space", "origin": "https://a.hf.space"}, False, None),
        ("POST", {"host": "localhost:7860", "x-forwarded-host": "evil", "origin": "https://evil"}, True, 403),
        ("DELETE", {"host": "a.hf.space", "origin": "https://evil.example"}, False, 403),
    ],
)
def test_who_may_ask(method: str, headers: dict[str, str], local: bool, status: int | None) -> None:
    refusal = refused(method, headers, local=local)
    assert (None if refusal is None else refusal[0]) == status


def test_middleware_refuses_and_sends_its_policy() -> None:
    app = Starlette(routes=[Route("/", hello, methods=["GET", "POST"])], middleware=[Middleware(Guard, local=True)])
    client = TestClient(app, base_url="http://127.0.0.1")
    page = client.get("/")
    assert page.text == "hello"
    assert "img-src 'self' data: blob:" in page.headers["content-security-policy"]
    assert client.post("/", headers={"origin": "https://evil.example"}).status_code == 403
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
