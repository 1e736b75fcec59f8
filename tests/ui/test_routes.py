from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from phi3tune.ui import routes
from phi3tune.ui.routes import UPLOAD, Routes, is_open


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/", True),
        ("HEAD", "/config", True),
        ("GET", "/assets/index-1.js", True),
        ("GET", "/gradio_api/heartbeat/x1", True),
        ("GET", "/gradio_api/file=/tmp/gradio/ab/a.txt", True),
        ("GET", "/gradio_api/file=C:\\gradio\\a.txt", True),
        ("GET", "/gradio_api/file=https://evil.example/a", False),
        ("GET", "/gradio_api/file=a.txt", False),
        ("GET", "/gradio_api/proxy=https://x.hf.space/a", False),
        ("GET", "/gradio_api/deep_link", False),
        ("GET", "/\nconfig", False),
        ("POST", "/gradio_api/queue/join", True),
        ("POST", "/gradio_api/queue/join/", False),
        ("POST", "/gradio_api/process_recording", False),
        ("POST", "/config", False),
        ("PUT", "/gradio_api/upload", False),
        ("OPTIONS", "/", False),
    ],
)
def test_what_the_page_needs(method: str, path: str, needed: bool) -> None:
    assert is_open(method, path) == needed


async def size(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def test_bodies_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_BODY", 1000)
    paths = ("/gradio_api/queue/join", "/gradio_api/reset")
    app = Starlette(
        routes=[Route(path, size, methods=["POST"]) for path in paths],
        middleware=[Middleware(Routes, max_upload=5000)],
    )
    client = TestClient(app)
    for path in paths:
        assert client.post(path, content=b"a" * 1000).text == "1000"
        assert client.post(path, content=b"a" * 1001).status_code == 413  # told by its length
        assert client.post(path, content=iter([b"a" * 600, b"a" * 600])).status_code == 413  # counted as it comes
    told = client.post(UPLOAD, content=b"a", headers={"content-length": str(5000 + 10**6 + 1)})
    assert told.status_code == 413 and "maximum allowed size" in told.text
