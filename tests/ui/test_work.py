"""Work in a thread: told while it is under way, given up on demand."""

from __future__ import annotations

import threading

import pytest

from phi3tune.errors import UserError
from phi3tune.ui import work
from phi3tune.ui.work import GivenUpError, Report, Work


def test_quick_work_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SECONDS", 30.0)
    quick = Work(lambda report: 3)
    assert list(quick) == []
    assert quick.result == 3


def test_what_is_reported_last_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SECONDS", 0.01)
    told = threading.Event()

    def count(report: Report) -> str:
        report(7)
        assert told.wait(30)
        return "done"

    counting = Work(count)
    for seconds, rows in counting:
        assert seconds >= 0.0
        if rows == 7:
            told.set()
    assert counting.result == "done"


def test_leaving_gives_the_work_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SECONDS", 0.01)
    left, ended = threading.Event(), threading.Event()

    def endless(report: Report) -> None:
        assert left.wait(30)
        try:
            report(1)
        except GivenUpError:
            ended.set()
            raise

    lines = iter(Work(endless))
    next(lines)
    lines.close()
    left.set()
    assert ended.wait(30)


def test_a_mistake_reaches_whoever_waits() -> None:
    def wrong(report: Report) -> None:
        raise UserError("no")

    failing = Work(wrong)
    assert list(failing) == []
    with pytest.raises(UserError, match="no"):
        _ = failing.result
