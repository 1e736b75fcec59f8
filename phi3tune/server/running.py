"""An endpoint that runs: uvicorn, in the main thread for the command line, or in one of its own for the app."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import h11
import orjson
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from phi3tune.config import ServeConfig
from phi3tune.server.endpoint import check_address
from phi3tune.server.errors import error_body

if TYPE_CHECKING:
    from fastapi import FastAPI

_DRAIN_SECONDS = 3.0  # for answers to end by themselves; the whole stop takes less than 5
_BACKLOG = 2048  # connections that wait to be taken
_CUT_SECONDS = 1.0  # for those that were cut off to tell it


class Protocol(H11Protocol):
    """HTTP/1.1 that refuses what is malformed with an error object, and two Content-Lengths even if they are equal:
    whether a proxy before this server reads the same body as it does must not be a matter of luck."""

    def handle_events(self) -> None:
        if self.conn.their_state is h11.IDLE and _lengths(bytes(self.conn.trailing_data[0])) > 1:
            self.send_400_response("more than one Content-Length")
            return
        super().handle_events()

    def send_400_response(self, msg: str) -> None:
        content = orjson.dumps(error_body(400, msg, code="bad_request"))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def _lengths(received: bytes) -> int:
    head = received.partition(b"\r\n\r\n")[0].lower()
    return sum(line.partition(b":")[0].strip() == b"content-length" for line in head.split(b"\n")[1:])


class Server(uvicorn.Server):
    """One endpoint. SIGTERM and Ctrl+C stop it: answers may end, those that take too long are cut off."""

    def __init__(self, app: FastAPI, config: ServeConfig) -> None:
        self.app = app
        self.interrupted = False
        self._socket = _listen(config.host, config.port)
        host = f"[{config.host}]" if ":" in config.host else config.host
        self.url = f"http://{host}:{self._socket.getsockname()[1]}/v1"
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="on",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=int(_DRAIN_SECONDS + _CUT_SECONDS),
            )
        )

    def serve_until_stopped(self) -> None:
        """Serve in this thread until a signal comes or `should_exit` is set."""
        self.run(sockets=[self._socket])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self.app.state.server.end_answers)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, it does not raise the signal again: what is behind the server is yet to be closed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted = self.interrupted or sig == signal.SIGINT
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections, so that a taken port is told before a model is loaded."""
    check_address(host, port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, because asyncio switches Nagle's algorithm off only then; it holds every answer up by 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(_BACKLOG)
    return listening
