"""Waiting in line."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

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
