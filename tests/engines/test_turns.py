"""The line in front of an engine."""

from __future__ import annotations

import threading

from phi3tune.engines.turns import Turns


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
