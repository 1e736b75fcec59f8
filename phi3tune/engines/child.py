"""`python -m phi3tune.engines.child ADDRESS`: one loaded model, answering several requests of its pool in turn.

What goes over the connection, as tuples:
    pool to child    ("open", 0, ref), then ("stream", id, ref, request), ("classify", id, ref, inputs),
                     ("info", id, ref), ("cancel", id), ("run", 0)
    child to pool    ("ready", 0, info of the base), then ("chunk", id, chunk), ("labels", id, classifications),
                     ("info", id, info) or ("error", id, whether it is the user's mistake, text), ("paused", 0)
On a CPU it decodes only after "run", for a slice of time or until nothing is left to do, and then says "paused".
The child ends when the other side is gone.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Client, Connection
from typing import Any

from phi3tune.engines.base import Chunk, Request, TokenLogprob, Usage
from phi3tune.engines.loaded import SLOTS, Loaded
from phi3tune.engines.models import ModelRef
from phi3tune.errors import UserError

KEY = "PHI3TUNE_ENGINE_KEY"
SLICE = 0.2  # seconds of decoding before another process has its turn
_TOGETHER = 0.02  # seconds of one answer's turn, whose tokens are sent together


def main(argv: Sequence[str] | None = None) -> int:
    address = (sys.argv[1:] if argv is None else argv)[0]
    key = bytes.fromhex(os.environ.pop(KEY))
    target: Any = ("127.0.0.1", int(address)) if address.isdigit() else address
    with Client(target, authkey=key) as connection:
        try:
            _serve(connection)
        except (EOFError, ConnectionError):  # the pool is gone
            return 0
    return 0


def _serve(connection: Connection) -> None:
    _, _, ref = connection.recv()
    try:
        model = Loaded(ref)
    except Exception as error:
        connection.send(_error(0, error))
        return
    connection.send(("ready", 0, model.base))
    _Server(connection, model).serve()


class _Job:
    """An answer under way, a token for each step; tokens wait here for a moment to be sent together."""

    def __init__(self, number: int, ref: ModelRef, steps: Iterator[Chunk | None]) -> None:
        self.number, self.ref = number, ref
        self._steps = steps
        self._texts: list[str] = []
        self._ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._begun = False  # the first token is sent at once

    def step(self) -> Chunk | None:
        """Work on it a little; what is to be sent by now."""
        chunk = next(self._steps)
        if chunk is None:
            return None
        self._texts.append(chunk.text)
        self._ids.extend(chunk.token_ids)
        self._logprobs.extend(chunk.logprobs)
        if chunk.finish_reason is not None:
            next(self._steps, None)  # lets go of what it held
            rest = self.rest() or chunk
            return replace(rest, finish_reason=chunk.finish_reason, usage=chunk.usage)
        if self._begun:
            return None
        self._begun = True
        return self.rest()

    def rest(self) -> Chunk | None:
        """What was not sent yet."""
        if not self._ids and not any(self._texts):
            return None
        chunk = Chunk("".join(self._texts), tuple(self._ids), logprobs=tuple(self._logprobs))
        self._texts, self._ids, self._logprobs = [], [], []
        return chunk


class _Server:
    """Answers what the pool asks; every answer under way goes on by a few tokens in turn."""

    def __init__(self, connection: Connection, model: Loaded) -> None:
        self._connection, self._model = connection, model
        self._said: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._jobs: deque[_Job] = deque()
        self._cancelled: set[int] = set()
        self._shares = model.base.device == "cpu"
        self._runs = not self._shares

    def serve(self) -> None:
        """Until the pool is gone."""
        threading.Thread(target=self._listen, daemon=True, name="pool").start()
        while True:
            self._hear(wait=not (self._runs and (self._jobs or self._waiting)))
            if self._runs:
                self._slice()
            if self._shares and self._runs:
                self._runs = False
                self._connection.send(("paused", 0))

    def _listen(self) -> None:
        try:
            while True:
                self._said.put(self._connection.recv())
        except (EOFError, OSError):
            self._said.put(None)

    def _hear(self, *, wait: bool = False) -> None:
        """Take in what the pool has said; `wait` for it if it has said nothing."""
        while wait or not self._said.empty():
            message = self._said.get()
            if message is None:
                raise EOFError
            verb, number, *rest = message
            wait = False
            if verb == "run":
                self._runs = True
            elif verb == "cancel":
                self._cancel(number)
            elif verb == "info":
                self._answer(number, "info", self._model.info, *rest)
            else:
                self._waiting.append(message)

    def _cancel(self, number: int) -> None:
        for message in self._waiting:
            if message[1] == number:
                self._waiting.remove(message)
                request = message[3]
                nothing = Usage(len(request.prompt_ids) if isinstance(request, Request) else 0, 0, 0, 0.0, 0.0)
                self._connection.send(("chunk", number, Chunk("", (), "cancelled", nothing)))
                return
        if any(job.number == number for job in self._jobs):
            self._cancelled.add(number)

    def _slice(self) -> None:
        """Work until the slice is over or nothing is left to do."""
        until = time.monotonic() + SLICE
        while (self._jobs or self._waiting) and time.monotonic() < until:
            if self._waiting and self._begin():
                job = self._jobs[-1]
            elif self._jobs:
                job = self._jobs[0]
                self._jobs.rotate(-1)
            else:
                continue
            self._turn(job)

    def _turn(self, job: _Job) -> None:
        """Let one answer go on by the tokens that are sent together: by one where tokens are slow, and by several
        where a message for each would cost more than the token."""
        until = time.monotonic() + _TOGETHER
        while job in self._jobs and time.monotonic() < until:
            self._step(job)
            self._hear()
        self._send(job, job.rest())

    def _begin(self) -> bool:
        """Take on the request that waits longest, if there is room; whether it became a job."""
        verb, number, ref, what = self._waiting[0]
        if verb == "classify":
            self._waiting.popleft()
            self._answer(number, "labels", self._model.classify, ref, what)
            return False
        if self._jobs and (len(self._jobs) >= SLOTS or not self._model.room(ref, what)):
            return False
        self._waiting.popleft()
        try:
            in_use = {job.ref.adapter for job in self._jobs}
            steps = self._model.steps(ref, what, lambda: number in self._cancelled, in_use)
        except Exception as error:
            self._connection.send(_error(number, error))
            return False
        self._jobs.append(_Job(number, ref, steps))
        return True

    def _step(self, job: _Job) -> None:
        try:
            chunk = job.step()
        except Exception as error:
            self._end(job)
            self._connection.send(_error(job.number, error))
            return
        if chunk is not None and chunk.finish_reason is not None:
            self._end(job)
        self._send(job, chunk)

    def _end(self, job: _Job) -> None:
        self._jobs.remove(job)
        self._cancelled.discard(job.number)

    def _send(self, job: _Job, chunk: Chunk | None) -> None:
        if chunk is not None:
            self._connection.send(("chunk", job.number, chunk))

    def _answer(self, number: int, verb: str, work: Callable[..., Any], *what: Any) -> None:
        try:
            self._connection.send((verb, number, work(*what)))
        except ConnectionError:
            raise
        except Exception as error:
            self._connection.send(_error(number, error))


def _error(number: int, error: Exception) -> tuple[Any, ...]:
    if isinstance(error, UserError):
        return ("error", number, True, str(error))
    return ("error", number, False, traceback.format_exc())


if __name__ == "__main__":
    sys.exit(main())
