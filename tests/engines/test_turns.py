"""The line in front of an engine."""

from __future__ import annotations

import threading

from phi3tune.engines.turns import Processor, Turns


def test_first_come_first_served() -> None:
    turns = Turns()
    served: list[tuple[int, bool]] = []

    def customer(number: int, in_line: threading.Event) -> None:
        def cancelled() -> bool:  # asked while waiting
            in_line.set()
            return False

        with turns.take(cancelled) as mine:
            served.append((number, mine))

    threads = []
    with turns.take():
        for number in range(5):
            in_line = threading.Event()
            threads.append(threading.Thread(target=customer, args=(number, in_line)))
            threads[-1].start()
            assert in_line.wait(timeout=20)
        assert served == []
    for thread in threads:
        thread.join(timeout=20)
    assert served == [(number, True) for number in range(5)]


def test_giving_up_the_place() -> None:
    turns = Turns()
    with turns.take() as first:
        assert first
        with turns.take(lambda: True) as second:
            assert not second
        with turns.take_if_free() as third:
            assert not third
    with turns.take_if_free() as free:
        assert free
        with turns.take_if_free() as taken:
            assert not taken


def test_an_error_frees_the_turn() -> None:
    turns = Turns()
    try:
        with turns.take():
            raise KeyError
    except KeyError:
        pass
    with turns.take_if_free() as free:
        assert free


class FakeWorker:
    def __init__(self, ran: list[FakeWorker], *, alive: bool = True) -> None:
        self.busy, self._ran, self._alive = True, ran, alive

    def run(self) -> bool:
        if self._alive:
            self._ran.append(self)
        return self._alive


def test_one_worker_runs_at_a_time() -> None:
    ran: list[FakeWorker] = []
    first, second, gone = FakeWorker(ran), FakeWorker(ran), FakeWorker(ran, alive=False)
    processor = Processor()
    for worker in (first, first, gone, second, second):
        processor.want(worker)
    assert ran == [first]
    processor.paused(first)
    processor.paused(second)
    assert ran == [first, second, first]
    second.busy = False
    processor.paused(first)  # `second` is in line, and says at once that it has nothing to do
    assert ran[-1] is second
    processor.paused(second)
    first.busy = False
    processor.paused(first)
    assert ran == [first, second, first, second, first]
    processor.want(second)
    assert ran[-1] is second
