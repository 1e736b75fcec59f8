"""Who waits, and who is turned away."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from phi3tune.server.errors import ApiError

AT_ONCE = 8  # requests that the pool is given at the same time; it lets them take turns, so the others cost no thread
_LONGEST_ADVICE = 60  # seconds; the openai client ignores longer advice
_WEIGHT = 0.2  # of the newest request in the moving average


class Line:
    """One request is answered while `waiting` others wait; whoever comes then is turned away at once.

    Used from one event loop.
    """

    def __init__(self, waiting: int) -> None:
        self._places = waiting + 1
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._seconds = 1.0
        self.inside = 0
        self.running = 0

    def enter(self) -> None:
        """Take a place, which `leave` gives back. Raises `ApiError` 429 when all are taken."""
        if self.inside >= self._places:
            advice = min(_LONGEST_ADVICE, max(1, math.ceil(self._seconds * self.inside)))
            raise ApiError(
                429,
                f"{self.inside} requests are being answered or wait, which is as many as this endpoint takes; "
                f"try again in {advice} s",
                code="busy",
                headers={"Retry-After": str(advice)},
            )
        self.inside += 1

    def leave(self) -> None:
        self.inside -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until the pool may be given this request, first come, first served."""
        async with self._turns:
            self.running += 1
            began = asyncio.get_running_loop().time()
            try:
                yield
            finally:
                spent = (asyncio.get_running_loop().time() - began) / self.running
                self._seconds += _WEIGHT * (spent - self._seconds)
                self.running -= 1
