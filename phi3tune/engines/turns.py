"""Waiting in line: for a model's process, and for the processor."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from phi3tune.engines.base import Cancelled, never

_LOOK = 0.05  # seconds between two looks at `cancelled`


class Turns:
    """A lock that is given first come, first served, and that a waiting caller may give up."""

    def __init__(self) -> None:
        self._line: deque[object] = deque()
        self._moved = threading.Condition()

    @contextmanager
    def take(self, cancelled: Cancelled = never) -> Iterator[bool]:
        """Wait for the turn and hold it; yields False, holding nothing, when cancelled before."""
        ticket = object()
        with self._moved:
            self._line.append(ticket)
        try:
            yield self._wait(ticket, cancelled)
        finally:
            self._leave(ticket)

    @contextmanager
    def take_if_free(self) -> Iterator[bool]:
        """Hold the turn if nobody has it or waits for it; else yields False."""
        ticket = object()
        with self._moved:
            free = not self._line
            if free:
                self._line.append(ticket)
        try:
            yield free
        finally:
            self._leave(ticket)

    def _wait(self, ticket: object, cancelled: Cancelled) -> bool:
        while True:
            with self._moved:
                if self._line[0] is ticket:
                    return True
                self._moved.wait(_LOOK)
            if cancelled():
                self._leave(ticket)
                return False

    def _leave(self, ticket: object) -> None:
        with self._moved:
            if ticket in self._line:
                self._line.remove(ticket)
                self._moved.notify_all()


class Worker(Protocol):
    """A process that decodes when it is told to run, and says when it has paused."""

    @property
    def busy(self) -> bool:
        """Whether it has anything to do."""
        ...

    def run(self) -> bool:
        """Tell it to run for a while; False when it is gone."""
        ...


class Processor:
    """Lets one process at a time decode on the CPU, in turn: two at once, each with a thread for every core, would
    take far more than twice as long."""

    def __init__(self) -> None:
        self._line: deque[Worker] = deque()
        self._running: Worker | None = None
        self._lock = threading.Lock()

    def want(self, worker: Worker) -> None:
        """`worker` has something to do."""
        with self._lock:
            self._queue(worker)
            self._next()

    def paused(self, worker: Worker) -> None:
        """`worker` has paused or ended; if it has more to do it goes to the end of the line."""
        with self._lock:
            if self._running is worker:
                self._running = None
            if worker.busy:
                self._queue(worker)
            self._next()

    def _queue(self, worker: Worker) -> None:
        if worker is not self._running and worker not in self._line:
            self._line.append(worker)

    def _next(self) -> None:
        while self._running is None and self._line:
            worker = self._line.popleft()
            if worker.run():
                self._running = worker
