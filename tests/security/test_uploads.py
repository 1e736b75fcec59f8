"""Floods: bodies without end, files over the cap, uploads that break off."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

from tests.security.conftest import Watched

GIB = 2**30
MEMORY = 60e6  # bytes that the app may grow by
BOUNDARY = "----phi3tune"
PART = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="flood.jsonl"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()


def connect(watched: Watched, path: str, *headers: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", watched.port), timeout=20)
    head = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{watched.port}", *headers, "", ""]
    connection.sendall("\r\n".join(head).encode())
    return connection


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def files(watched: Watched) -> list[Path]:
    return [path for path in watched.cache.rglob("*") if path.is_file()]


def until(condition: object, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def flood(watched: Watched, path: str, kind: str, *, first: bytes = b"") -> tuple[bytes, int]:
    """Send 2 GiB in chunks until the app answers; the answer, and the bytes that had been sent."""
    part, sent = chunk(b"a" * 2**18), 0
    with connect(watched, path, f"Content-Type: {kind}", "Transfer-Encoding: chunked") as connection:
        connection.sendall(chunk(first or b"["))
        connection.setblocking(False)
        end = time.monotonic() + 60
        waiting = memoryview(part)
        while sent < 2 * GIB and time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                answer = connection.recv(65_536)
                connection.settimeout(10)
                if answer.endswith(b"\r\n\r\n"):  # the head alone
                    answer += connection.recv(65_536)
                return answer, sent
            with contextlib.suppress(BlockingIOError):
                done = connection.send(waiting)
                sent += done
                waiting = waiting[done:] or memoryview(part)
    raise AssertionError(f"no answer after {sent:,} bytes")


def test_a_body_without_end_is_refused_at_the_cap(watched: Watched) -> None:
    before = watched.memory()
    for path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
        answer, sent = flood(watched, path, "application/json")
        assert b" 413 " in answer.splitlines()[0]
        assert b"16 MB" in answer
        assert sent < 64e6
    assert watched.memory() - before < MEMORY


def test_a_file_that_says_that_it_is_too_large_is_not_read(watched: Watched) -> None:
    for length in (2 * GIB, 10**30):
        kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
        with connect(watched, "/gradio_api/upload", kind, f"Content-Length: {length}") as connection:
            assert int(connection.recv(1000).split()[1]) in (400, 413)


def test_an_upload_that_breaks_off_leaves_nothing(watched: Watched) -> None:
    before = files(watched)
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    with connect(watched, "/gradio_api/upload", kind, "Transfer-Encoding: chunked") as connection:
        connection.sendall(chunk(PART) + chunk(b"a" * 2**20))
        until(lambda: len(files(watched)) > len(before))
    until(lambda: files(watched) == before)
