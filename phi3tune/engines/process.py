"""The pool's side of one child process."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from phi3tune import system
from phi3tune.engines.base import Cancelled, Chunk, EngineError, EngineInfo, Request, never
from phi3tune.engines.child import KEY
from phi3tune.engines.models import ModelRef
from phi3tune.engines.turns import Turns
from phi3tune.errors import UserError

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.engines.classifier import Classification

State = Literal["not loaded", "loading", "ready"]
_OPENING = 0  # the number of the first message
_LOOK = 0.02  # seconds between two looks at `cancelled`
_ACCEPT_SECONDS = 0.2
_START_SECONDS = 120.0  # a cold import of torch on a busy machine takes 20


class LoadingCancelledError(Exception):
    """The request was cancelled while its model was being loaded."""


class ChildProcess:
    """A model in a process of its own, started when first asked and again when it died.

    Whoever uses it holds `turns`; only `state` and `pid` may be read, and `kill` called, without.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.turns = Turns()
        self.used = time.monotonic()
        self.device = "cpu"
        self._state: State = "not loaded"
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._log: IO[bytes] | None = None
        self._version = 0
        self._number = 0

    @property
    def state(self) -> State:
        return "not loaded" if self._state == "ready" and not self.alive() else self._state

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None else None

    def alive(self) -> bool:
        process = self._process
        return process is not None and process.poll() is None

    def current(self) -> bool:
        """Whether it runs, and holds the files that are on disk now."""
        return self.alive() and self._version == _version(self.base)

    def start(self, ref: ModelRef, cancelled: Cancelled = never) -> None:
        """Load `ref`'s base in a new process.

        Raises `UserError` when it cannot be loaded, `LoadingCancelledError` when cancelled meanwhile.
        """
        self.close()
        self._state = "loading"
        try:
            self._version = _version(self.base)
            self._launch(ref.label)
            self._send(ref.label, "open", _OPENING, ref)
            base: EngineInfo = self._receive(ref.label, _OPENING, cancelled)
            self.device = base.device
            self._state = "ready"
        except BaseException:
            self.close()
            raise

    def info(self, ref: ModelRef) -> EngineInfo:
        self._number += 1
        self._send(ref.label, "info", self._number, ref)
        info: EngineInfo = self._receive(ref.label, self._number, never)
        return info

    def classify(self, ref: ModelRef, inputs: Sequence[str | Sequence[Message]]) -> list[Classification]:
        self._number += 1
        self._send(ref.label, "classify", self._number, ref, inputs)
        found: list[Classification] = self._receive(ref.label, self._number, never)
        return found

    def stream(self, ref: ModelRef, request: Request, cancelled: Cancelled) -> Iterator[Chunk]:
        """Chunks of one answer, the last one with its finish reason."""
        self._number += 1
        self._send(ref.label, "stream", self._number, ref, request)
        chunk = None
        while chunk is None or chunk.finish_reason is None:
            chunk = self._receive(ref.label, self._number, cancelled)
            yield chunk

    def kill(self) -> None:
        """End the process under whoever uses it."""
        pid = self.pid
        if pid is not None and self.alive():
            system.kill_group(pid)

    def close(self) -> None:
        """End the process; it has nothing to save."""
        self._state = "not loaded"
        if self._process is not None:
            system.kill_group(self._process.pid)
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        if self._log is not None:
            self._log.close()
        self._process = self._connection = self._log = None

    def _launch(self, label: str) -> None:
        key = secrets.token_bytes(32)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        with tempfile.TemporaryDirectory(prefix="phi3tune-") as folder, _listener(folder) as (server, address):
            argv = [sys.executable, "-m", "phi3tune.engines.child", address]
            self._process = system.start_process(argv, output=self._log, env={KEY: key.hex()})
            deadline = time.monotonic() + _START_SECONDS
            while self._connection is None:
                try:
                    self._connection = _accept(server, key)
                except TimeoutError:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        raise self._ended(label) from None

    def _send(self, label: str, *message: Any) -> None:
        assert self._connection is not None
        try:
            self._connection.send(message)
        except OSError:
            raise self._ended(label) from None

    def _receive(self, label: str, number: int, cancelled: Cancelled) -> Any:
        """What the child says next about request `number`; it is told once when that is cancelled."""
        assert self._connection is not None
        told = False
        while True:
            if not told and cancelled():
                if number == _OPENING:
                    raise LoadingCancelledError
                self._send(label, "cancel", number)
                told = True
            try:
                if not self._connection.poll(_LOOK):
                    continue
                verb, about, *rest = self._connection.recv()
            except (EOFError, OSError):
                raise self._ended(label) from None
            if about != number:
                continue
            if verb == "error":
                mistake, text = rest
                if mistake:
                    raise UserError(text)
                raise RuntimeError(f"the engine of {label} met a fault:\n{text}")
            return rest[0]

    def _ended(self, label: str) -> EngineError:
        """Why the process is no longer there. It is cleared away, so that the next request starts a new one."""
        assert self._process is not None and self._log is not None
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            reason = "it did not answer"
        else:
            reason = f"killed by {system.signal_name(-code)}" if code < 0 else f"exit code {code}"
            if code == -9:
                reason += ", probably for want of memory"
        self._log.seek(0)
        words = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        last = f"; its last words: {words[-1].strip()[:200]}" if words else ""
        self.close()
        return EngineError(f"the engine of {label} ended ({reason}){last}; ask again to start it anew")


@contextmanager
def _listener(folder: str) -> Iterator[tuple[socket.socket, str]]:
    """A socket for one connection and its address for the command line; `folder` is only ours to read."""
    if sys.platform == "win32":
        server = socket.create_server(("127.0.0.1", 0), backlog=1)
        address = str(server.getsockname()[1])
    else:
        server = socket.socket(socket.AF_UNIX)
        address = str(Path(folder) / "engine")
        server.bind(address)
        server.listen(1)
    server.settimeout(_ACCEPT_SECONDS)
    with server:
        yield server, address


def _accept(server: socket.socket, key: bytes) -> Connection | None:
    """The connection of the child that knows `key`; None for anybody else. `TimeoutError` when none came."""
    peer, _ = server.accept()
    peer.setblocking(True)
    connection = Connection(peer.detach())
    try:
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
    except (AuthenticationError, EOFError, OSError):
        connection.close()
        return None
    return connection


def _version(base: Path) -> int:
    """Changes when a folder is written anew."""
    for name in ("genai_config.json", "config.json", "adapter_config.json"):
        if (base / name).is_file():
            return (base / name).stat().st_mtime_ns
    return 0
