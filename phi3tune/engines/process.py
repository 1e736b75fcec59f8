"""The pool's side of one child process."""

from __future__ import annotations

import queue
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from phi3tune import system
from phi3tune.engines.base import Cancelled, EngineError, EngineInfo, never
from phi3tune.engines.child import KEY
from phi3tune.engines.models import ModelRef
from phi3tune.errors import UserError

_OPENING = 0  # the number of the first message
_LOOK = 0.05  # seconds between two looks at `cancelled`
_ACCEPT_SECONDS = 0.2
_START_SECONDS = 120.0  # a cold import of torch on a busy machine takes 20


class LoadingCancelledError(Exception):
    """The request was cancelled while its model was being loaded."""


class Asked:
    """Something that a child was asked, and what it has said to it so far; for one reader."""

    def __init__(self, number: int, label: str, cancelled: Cancelled, cancel: Callable[[int], None]) -> None:
        self.number, self.label = number, label
        self._cancelled, self._cancel = cancelled, cancel
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._left = False

    def say(self, what: Any) -> None:
        """Called when the child has said something: a result, or the error to raise."""
        self._said.put(what)
        self.look()

    def next(self, meanwhile: Callable[[], None] | None = None) -> Any:
        """What the child says next. Raises what went wrong. `meanwhile` is called while it says nothing."""
        while True:
            try:
                said = self._said.get(timeout=_LOOK)
            except queue.Empty:
                (meanwhile or self.look)()
                continue
            if isinstance(said, BaseException):
                raise said
            return said

    def look(self) -> None:
        """Tell the child, once, when this was cancelled."""
        if not self._left and self._cancelled():
            self.leave()

    def leave(self) -> None:
        """Nobody wants the rest."""
        if not self._left:
            self._left = True
            self._cancel(self.number)


class ChildProcess:
    """One life of a model's process, which begins here. Any thread may ask it anything at any time.

    `paused` is called with it, on a thread of its own, whenever it has stopped decoding.
    """

    def __init__(self, ref: ModelRef, paused: Callable[[ChildProcess], None]) -> None:
        self.version = version(ref.loaded)
        self.device = "cpu"
        self._paused = paused
        self._asked: dict[int, Asked] = {}
        self._number = _OPENING
        self._lock = threading.Lock()
        self._reason = ""  # why it ended
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._connection: Connection | None = None
        self._process = self._launch(ref.label)
        self._listener = threading.Thread(target=self._listen, daemon=True, name=f"engine {ref.label}")
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return system.process_memory(self.pid)

    @property
    def busy(self) -> bool:
        """Whether an answer is under way or waits."""
        return bool(self._asked)

    @property
    def asked(self) -> int:
        """Answers under way or waiting."""
        return len(self._asked)

    def alive(self) -> bool:
        return not self._reason and self._process.poll() is None

    def open(self, ref: ModelRef, cancelled: Cancelled) -> EngineInfo:
        """Load `ref`'s base. `UserError` when it cannot be loaded, `LoadingCancelledError` when cancelled meanwhile."""

        def look() -> None:
            if cancelled():
                raise LoadingCancelledError

        info: EngineInfo = self._ask(Asked(_OPENING, ref.label, never, self._cancel), "open", ref).next(look)
        self.device = info.device
        return info

    def ask(self, verb: str, ref: ModelRef, *rest: Any, cancelled: Cancelled = never) -> Asked:
        """Ask something of the model; `next` of the answer tells what it says. `EngineError` when it has ended."""
        with self._lock:
            self._number += 1
            number = self._number
        return self._ask(Asked(number, ref.label, cancelled, self._cancel), verb, ref, *rest)

    def run(self) -> bool:
        """Tell it to decode until it has paused; False when it is gone."""
        return self._send("run", _OPENING)

    def kill(self) -> None:
        """End the process under whoever uses it."""
        if self._process.poll() is None:
            system.kill_group(self.pid)

    def close(self) -> None:
        """End the process, which has nothing to save, and wait until it is gone."""
        self.kill()
        self._listener.join()

    def _ask(self, asked: Asked, verb: str, *rest: Any) -> Asked:
        self._asked[asked.number] = asked
        if not self._send(verb, asked.number, *rest):
            self._asked.pop(asked.number, None)
            self._listener.join()
            raise self._error(asked.label)
        return asked

    def _cancel(self, number: int) -> None:
        if number in self._asked:
            self._send("cancel", number)

    def _send(self, *message: Any) -> bool:
        assert self._connection is not None
        try:
            with self._lock:
                self._connection.send(message)
        except OSError:
            return False
        return True

    def _launch(self, label: str) -> subprocess.Popen[bytes]:
        key = secrets.token_bytes(32)
        with tempfile.TemporaryDirectory(prefix="phi3tune-") as folder, _listening(folder) as (server, address):
            argv = [sys.executable, "-m", "phi3tune.engines.child", address]
            process = system.start_process(argv, output=self._log, env={KEY: key.hex()})
            deadline = time.monotonic() + _START_SECONDS
            while self._connection is None:
                try:
                    self._connection = _accept(server, key)
                except TimeoutError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        system.kill_group(process.pid)
                        self._end(process)
                        raise self._error(label) from None
        return process

    def _listen(self) -> None:
        """Hand on what the child says, until it has ended."""
        assert self._connection is not None
        while True:
            try:
                verb, number, *rest = self._connection.recv()
            except (EOFError, OSError):
                break
            if verb == "paused":
                self._paused(self)
                continue
            asked = self._asked.get(number)
            if asked is None:
                continue
            if verb != "chunk" or rest[0].finish_reason is not None:
                del self._asked[number]
            asked.say(self._failure(asked.label, *rest) if verb == "error" else rest[0])
        self._end(self._process)
        while self._asked:
            _, asked = self._asked.popitem()
            asked.say(self._error(asked.label))
        self._paused(self)

    def _failure(self, label: str, mistake: bool, text: str) -> Exception:
        return UserError(text) if mistake else RuntimeError(f"the engine of {label} met a fault:\n{text}")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Note why the process is no longer there, and clear it away."""
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            reason = "it did not answer"
            system.kill_group(process.pid)
            process.wait()
        else:
            reason = f"killed by {system.signal_name(-code)}" if code < 0 else f"exit code {code}"
            if code == -9:
                reason += ", probably for want of memory"
        self._log.seek(0)
        words = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        last = f"; its last words: {words[-1].strip()[:200]}" if words else ""
        self._log.close()
        if self._connection is not None:
            self._connection.close()
        self._reason = f"ended ({reason}){last}"

    def _error(self, label: str) -> EngineError:
        return EngineError(f"the engine of {label} {self._reason}; ask again to start it anew")


@contextmanager
def _listening(folder: str) -> Iterator[tuple[socket.socket, str]]:
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


def version(base: Path) -> int:
    """Changes when a folder is written anew."""
    for name in ("genai_config.json", "config.json", "adapter_config.json"):
        if (base / name).is_file():
            return (base / name).stat().st_mtime_ns
    return 0
