"""Pages of other sites, and names rebound to this machine: what they may ask of the app. Every route is tried."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from phi3tune.ui.routes import is_open
from tests.security.conftest import Watched

FOREIGN = [
    "https://evil.example",
    "HTTPS://EVIL.EXAMPLE",
    "null",
    "",
    "http://127.0.0.1:{port}.evil.example",
    "http://127.0.0.1.evil.example:{port}",
    "http://127.0.0.1:1",
    "http://localhost:{port}",  # another name of the same machine is another site
    "http://evil@127.0.0.1:{port}",
    "http://[",
]
REBOUND = [
    "evil.example",
    "evil.example:{port}",
    "EVIL.EXAMPLE",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "localhost.evil.example",
    "10.0.0.1",
    "0.0.0.0:{port}",
    "[",
    "[::1",
    "",
]
FILE = {"files": ("evil.jsonl", b"planted-by-evil")}


def _walk(routes: Any) -> Iterator[tuple[str, str]]:
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _walk(route.original_router.routes)
        else:
            yield from ((method, re.sub(r"{[^}]*}", "x", route.path)) for method in sorted(route.methods))


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, str]]:
    """Method and path of every route that Gradio gives an app."""
    import gradio as gr
    from gradio.routes import App as GradioApp

    found = list(_walk(GradioApp.create_app(gr.Blocks(analytics_enabled=False)).routes))
    assert len(found) > 80
    return found


@pytest.fixture
def http(watched: Watched) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=watched.url, timeout=10) as client:
        yield client


def test_another_site_writes_nothing(watched: Watched, routes: list[tuple[str, str]], http: httpx.Client) -> None:
    writes = [path for method, path in routes if method not in ("GET", "HEAD")]
    assert "/gradio_api/upload" in writes and len(writes) > 20
    for path in writes:
        for origin in FOREIGN:
            answer = http.post(path, files=FILE, headers={"origin": origin.format(port=watched.port)})
            assert answer.status_code == 403, (path, origin)
    assert watched.leaked("planted-by-evil") == []


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
def test_a_browser_that_names_no_origin_says_where_it_comes_from(
    watched: Watched, http: httpx.Client, site: str
) -> None:
    answer = http.post("/gradio_api/upload", files=FILE, headers={"sec-fetch-site": site})
    assert answer.status_code == 403
    assert watched.leaked("planted-by-evil") == []


def test_another_site_reads_nothing(watched: Watched, http: httpx.Client) -> None:
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=x"):
        answer = http.get(path, headers={"origin": "https://evil.example"})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_a_name_that_was_rebound_is_refused(
    watched: Watched, routes: list[tuple[str, str]], http: httpx.Client
) -> None:
    for method, path in routes:
        answer = http.request(method, path, headers={"host": "evil.example"})
        assert answer.status_code == 400, (method, path)
    for host in REBOUND:
        for method, path in (("GET", "/"), ("POST", "/gradio_api/upload")):
            answer = http.request(method, path, headers={"host": host.format(port=watched.port)})
            assert answer.status_code == 400, (method, host)


def test_a_second_host_or_origin_does_not_hide_the_first(watched: Watched) -> None:
    own, evil = f"127.0.0.1:{watched.port}", "evil.example"
    pairs = [("Host", own, "Host", evil), ("Host", evil, "Host", own)]
    pairs += [
        ("Origin", f"http://{own}", "Origin", f"http://{evil}"),
        ("Origin", f"http://{evil}", "Origin", f"http://{own}"),
    ]
    for one, first, two, second in pairs:
        host = "" if one == "Host" else f"Host: {own}\r\n"
        with socket.create_connection(("127.0.0.1", watched.port), timeout=10) as connection:
            head = (
                f"POST /gradio_api/reset HTTP/1.1\r\n{host}{one}: {first}\r\n{two}: {second}\r\nConnection: close\r\n"
            )
            connection.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
            assert int(connection.recv(1000).split()[1]) in (400, 403), (one, first)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}"])
def test_the_page_itself_may_write(watched: Watched, http: httpx.Client, host: str) -> None:
    named = host.format(port=watched.port)
    headers = {"host": named, "origin": f"http://{named}", "sec-fetch-site": "same-origin"}
    answer = http.post("/gradio_api/upload", files={"files": ("mine.txt", b"mine")}, headers=headers)
    assert answer.status_code == 200
    assert answer.json()[0].startswith(str(watched.cache))


def test_what_the_page_does_not_need_is_not_there(routes: list[tuple[str, str]], http: httpx.Client) -> None:
    shut = [(method, path) for method, path in routes if not is_open(method, path)]
    assert len(shut) > 50
    assert not {path for _, path in shut} & {"/", "/config", "/gradio_api/queue/join", "/gradio_api/upload"}
    for method, path in shut:
        assert http.request(method, path).status_code == 404, (method, path)
