"""What only a raw socket can do: malformed heads, endless bodies, slow readers, ends of the server."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from phi3tune.paths import Workspace
from phi3tune.server.running import Server
from tests.server.conftest import HELLO, running, wait_for
from tests.server.fake_pool import ANSWER, FakePool

STREAM = {**HELLO, "stream": True}


@pytest.fixture
def server(pool: FakePool, workspace: Workspace) -> Iterator[Server]:
    with running(pool, workspace, queue_size=3) as server:
        yield server


def connect(server: Server, *, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", port(server)))
    return connection


def port(server: Server) -> int:
    return int(server.url.rsplit(":", 1)[1].split("/")[0])


def head(*lines: str, path: str = "/v1/chat/completions") -> bytes:
    fixed = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json")
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def asked(body: Any) -> bytes:
    content = json.dumps(body).encode()
    return head(f"Content-Length: {len(content)}") + content


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


@pytest.mark.parametrize("second", ["5", "6"])
@pytest.mark.parametrize("earlier", [b"", asked({**HELLO, "max_tokens": 1})], ids=["first", "second request"])
def test_two_content_lengths(server: Server, second: str, earlier: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(earlier + head("Content-Length: 5", f"content-length : {second}") + b"hello")
        answer = read_all(connection)
    assert b"HTTP/1.1 400" in answer
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"


def test_a_length_and_chunks(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(head("Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close") + b"0\r\n\r\n")
        assert b" 400 " in read_all(connection).splitlines()[0]


def test_what_is_no_http(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = read_all(connection)
    assert b" 400 " in answer.splitlines()[0]
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"


def test_an_endless_body_is_refused_at_the_cap(server: Server) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    part = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    sent, answer = 0, b""
    with connect(server) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        try:
            while sent < 2 * 2**30:
                connection.sendall(part)
                sent += len(part)
        except (ConnectionError, TimeoutError):
            pass
        answer = connection.recv(65_536)
    assert b"HTTP/1.1 413" in answer
    assert sent < 2**27  # cut off long before all was sent
    assert process.memory_info().rss - before < 50e6


def test_a_client_that_leaves_frees_its_slot(server: Server, pool: FakePool) -> None:
    pool.hold.clear()
    for body in (STREAM, HELLO):
        with connect(server) as connection:
            connection.sendall(asked(body))
            wait_for(lambda: pool.active == 1)
        began = time.monotonic()
        wait_for(lambda: pool.active == 0 and server.app.state.server._line.inside == 0)
        assert time.monotonic() - began < 1
    assert pool.cancelled == 2


def test_a_client_that_leaves_while_it_waits_gives_up_its_place(server: Server, pool: FakePool) -> None:
    pool.hold.clear()
    line = server.app.state.server._line
    line._turns._value = 1  # only one at a time is given to the pool
    with connect(server) as first:
        first.sendall(asked(STREAM))
        wait_for(lambda: pool.active == 1)
        with connect(server) as second:
            second.sendall(asked(STREAM))
            wait_for(lambda: line.inside == 2)
        wait_for(lambda: line.inside == 1, 1)
        pool.hold.set()
        wait_for(lambda: line.inside == 0)
    assert len(pool.requests) == 1


def test_who_is_too_many_is_told_at_once(server: Server, pool: FakePool) -> None:
    pool.hold.clear()
    answers: list[int] = []
    url = f"{server.url}/chat/completions"
    threads = [
        threading.Thread(target=lambda: answers.append(httpx.post(url, json=HELLO, timeout=20).status_code))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: server.app.state.server._line.inside == 4)
    with httpx.Client() as client:
        client.get(f"{server.url}/models")
        began = time.perf_counter()
        refused = client.post(url, json=HELLO)
        seconds = time.perf_counter() - began
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["code"] == "busy"
    assert seconds < 1
    pool.hold.set()
    for thread in threads:
        thread.join()
    assert answers == [200] * 4


def test_a_slow_reader_holds_nobody_up(server: Server, pool: FakePool) -> None:
    pool.text = ANSWER * 14  # events of more bytes than the sockets of a slow reader take
    with connect(server, receive_buffer=1024) as slow:
        slow.sendall(asked({**STREAM, "n": 8, "logprobs": True, "top_logprobs": 20}))
        wait_for(lambda: len(pool.requests) == 8 and pool.active == 0)
        assert slow.recv(1)
        pool.text = ANSWER
        answer = httpx.post(f"{server.url}/chat/completions", json=HELLO, timeout=5)
        assert answer.status_code == 200
        assert server.app.state.server._line.inside == 0


def test_an_answer_that_takes_too_long(pool: FakePool, workspace: Workspace) -> None:
    pool.hold.clear()
    with running(pool, workspace, request_timeout=0.3) as server:
        url = f"{server.url}/chat/completions"
        answer = httpx.post(url, json=HELLO, timeout=10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        streamed = httpx.post(url, json=STREAM, timeout=10)
        assert streamed.status_code == 200
        events = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
        assert json.loads(events[-1])["error"]["code"] == "timeout"
        server.app.state.server._line._turns._value = 0
        assert httpx.post(url, json=HELLO, timeout=10).status_code == 504
        assert server.app.state.server._line.inside == 0


def test_an_end_lets_answers_end(pool: FakePool, workspace: Workspace) -> None:
    pool.hold.clear()
    with running(pool, workspace) as server, connect(server) as quick, connect(server) as idle:
        quick.sendall(asked(STREAM))
        wait_for(lambda: pool.active == 1)
        server.should_exit = True
        assert idle.recv(10) == b""  # nothing was asked on it: closed
        pool.hold.set()
        assert b"[DONE]" in read_all(quick)


def test_an_end_cuts_off_what_takes_long(pool: FakePool, workspace: Workspace) -> None:
    pool.hold.clear()
    with running(pool, workspace) as server, connect(server) as slow:
        slow.sendall(asked(STREAM))
        wait_for(lambda: pool.active == 1)
        began = time.monotonic()
        server.should_exit = True
        received = read_all(slow)
        wait_for(lambda: pool.active == 0)
        assert time.monotonic() - began < 5
    assert b"shutting_down" in received


def test_answers_are_not_held_back(server: Server) -> None:
    with connect(server):
        wait_for(lambda: server.server_state.connections)
        [connection] = server.server_state.connections
        taken = connection.transport.get_extra_info("socket")
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
