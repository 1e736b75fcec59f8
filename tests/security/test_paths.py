"""Ways out of the folders: Gradio's file routes, names of runs and files, links."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from phi3tune.errors import UserError
from phi3tune.paths import Workspace, check_name
from tests.security.conftest import SECRET, Watched

ROUTES = (
    "/gradio_api/file={}",
    "/gradio_api/file/{}",
    "/gradio_api/proxy={}",
    "/gradio_api/stream/{}/x/1/playlist-file",
    "/gradio_api/custom_component/1/client/component/{}",
    "/static/{}",
    "/assets/{}",
    "/svelte/{}",
    "/{}",
)


def ways_to(canary: Path, inside: Path) -> list[str]:
    """Spellings of a path outside: as it is, by steps up from a folder that may be read, encoded once and twice."""
    up = os.path.relpath(canary, inside)
    steps = "../" * 12 + str(canary).lstrip("/")
    plain = [str(canary), f"/{canary}", f"{inside}/{up}", steps, steps.replace("/", "\\"), f"file://{canary}"]
    plain += [f"....//....//{canary}", f"{canary}\x00.png", f"{inside}/./{up}", f"//127.0.0.1/{canary}"]
    once = [quote(way, safe="") for way in plain]
    return [*map(quote, plain), *once, *(quote(way, safe="") for way in once), *(w.replace(".", "%2e") for w in once)]


def raw(watched: Watched, target: str) -> bytes:
    """The answer to a request line exactly as written: a client would tidy the path up first."""
    with socket.create_connection(("127.0.0.1", watched.port), timeout=10) as connection:
        head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{watched.port}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        received = b""
        while part := connection.recv(65_536):
            received += part
    return received


def test_no_route_reads_outside_of_the_cache(watched: Watched) -> None:
    uploaded = Path(httpx.post(f"{watched.url}/gradio_api/upload", files={"files": ("a.txt", b"mine")}).json()[0])
    assert b"mine" in raw(watched, f"/gradio_api/file={uploaded}")
    link = uploaded.with_name("link.txt")
    link.symlink_to(watched.canary)
    tried = [*ways_to(watched.canary, uploaded.parent), quote(str(link))]
    tried += [quote(str(path)) for path in (watched.workspace.database, watched.workspace.runs / "lamp" / "run.yaml")]
    for route in ROUTES:
        for way in tried:
            answer = raw(watched, route.format(way))
            assert int(answer.split()[1]) in (307, 400, 403, 404), (route, way)
            assert SECRET.encode() not in answer and b"SQLite format" not in answer, (route, way)
    assert watched.saw("open") == []


def test_the_server_fetches_nothing_for_anybody(watched: Watched) -> None:
    told = watched.saw("socket.getaddrinfo", "socket.connect")
    for address in ("http://evil.example/x", "https://evil.example/x", "http:/evil.example/x", "//evil.example/x"):
        for route in ("/gradio_api/file={}", "/gradio_api/proxy={}", "/gradio_api/file=/{}"):
            for way in (address, quote(address, safe="")):
                assert int(raw(watched, route.format(way)).split()[1]) in (400, 403, 404)
    assert watched.saw("socket.getaddrinfo", "socket.connect") == told


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../x",
        "..\\x",
        "/etc",
        "C:\\x",
        "x/../../y",
        "x;touch p",
        "$(touch p)",
        "`touch p`",
        "x\ny",
        "-rf",
        "~",
        "a b",
    ],
)
def test_names_that_are_paths_or_commands_are_none(name: str, workspace: Workspace) -> None:
    with pytest.raises(UserError, match="not accepted"):
        check_name(name)
    with pytest.raises(UserError):
        workspace.run(name)
