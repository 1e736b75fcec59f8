"""The line in front of an engine."""

from __future__ import annotations

import threading

from phi3tune.engines.turns import Turns


def test_first_come_first_served() -> None:
    turns, served = Turns(), []
    queued = threading.Semaphore(0)

    def customer(number: int) -> None:
        def cancelled() -> bool:
            queued.release()  # asked while waiting: so it stands in line
            return False

        with turns.take(cancelled) as mine:
            served.append((number, mine))

    threads = []
    with turns.take():
        for number in range(5):
            threads.append(threading.Thread(target=customer, args=(number,)))
            threads[-1].start()
            before = len(turns._line)
            assert queued.acquire(timeout=5)
            assert len(turns._line) >= before
        assert served == []
    for thread in threads:
        thread.join(timeout=5)
    assert sorted(served) == [(number, True) for number in range(5)]
    assert [number for number, _ in served] == sorted(number for number, _ in served)


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
