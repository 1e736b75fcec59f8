"""Work that takes longer than a person likes to wait: done in a thread, told meanwhile, given up on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

R = TypeVar("R")
SECONDS = 0.5

Report = Callable[[Any], None]


class GivenUpError(Exception):
    """Raised in work that nobody waits for any more, the next time that it reports."""


class Turn:
    """What a person asked for last, in a `gr.State`: a handler that answers an earlier ask sees that it is not waited
    for any more. (Gradio's own `cancels` complains in the console when there is nothing to cancel.)"""

    def __init__(self) -> None:
        self.number = 0
        self.stopped = False

    def begin(self) -> int:
        """Another ask begins; its number."""
        self.number, self.stopped = self.number + 1, False
        return self.number

    def stop(self) -> None:
        """Nothing is asked for any more."""
        self.number, self.stopped = self.number + 1, True

    def over(self, number: int) -> bool:
        """Whether the ask of that number is not waited for any more."""
        return self.number != number


class Work(Generic[R]):
    """`work(report)`, begun at once in a thread of its own.

    Iterating gives `(seconds so far, what was reported last)` about every `SECONDS` until it has ended; then `result`
    returns what it returned or raises what it raised. Leaving the iteration before the end gives the work up. The
    thread knows no request: what it is given has to be resolved before.
    """

    def __init__(self, work: Callable[[Report], R]) -> None:
        self._ended: Future[R] = Future()
        self._given_up = threading.Event()
        self._reported: Any = None
        threading.Thread(target=self._run, args=[work], daemon=True).start()

    def _run(self, work: Callable[[Report], R]) -> None:
        try:
            self._ended.set_result(work(self._report))
        except BaseException as error:  # whoever waits gets it from `result`
            self._ended.set_exception(error)

    def _report(self, what: Any) -> None:
        if self._given_up.is_set():
            raise GivenUpError
        self._reported = what

    def __iter__(self) -> Generator[tuple[float, Any], None, None]:
        begun = time.monotonic()
        try:
            while not wait([self._ended], timeout=SECONDS).done:
                yield time.monotonic() - begun, self._reported
        finally:
            self._given_up.set()

    @property
    def result(self) -> R:
        return self._ended.result()
