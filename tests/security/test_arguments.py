"""Every argument of every handler, called over HTTP as no browser would: paths, files of others, absurd numbers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.security.calls import Handler, Input, Stranger
from tests.security.conftest import SECRET, Watched

PASSWORDS = "/etc/passwd"
NUMBERS = [1e308, -1, float("nan"), 10**400, float("-inf"), "1e999"]
# lm-evaluation-harness takes most of a minute to read the names of its tasks.
HARNESS = "eval-benchmarks"
Call = tuple[Handler, list[Any]]


def as_path(part: Input, path: str) -> Any:
    """`path` in the form that the component takes."""
    if part.type in ("file", "uploadbutton"):
        return {"path": path, "orig_name": "mine.jsonl", "meta": {"_type": "gradio.FileData"}}
    return [path] if part.type == "checkboxgroup" or part.props.get("multiselect") else path


def takes_any_text(part: Input) -> bool:
    """Whether Gradio hands any text on to the handler; a number or a fixed choice it refuses itself."""
    free = part.type == "dropdown" and part.props.get("allow_custom_value")
    return bool(free) or part.type in ("textbox", "file", "uploadbutton", "browserstate")


def together(handlers: Iterable[Handler], path: str) -> Iterator[Call]:
    for handler in handlers:
        yield handler, [as_path(part, path) if takes_any_text(part) else part.value for part in handler.inputs]


def one_by_one(handlers: Sequence[Handler], path: str) -> Iterator[Call]:
    """Each component alone, in the first handler that reads it: one that is refused hides no other."""
    tried = {part.id for handler in handlers for part in handler.inputs if part.elem_id == HARNESS}
    # What starts or plans a job does much work before it looks at the rest: others that read the same come first.
    for handler in sorted(handlers, key=lambda one: one.name.startswith(("start", "check"))):
        for place, part in enumerate(handler.inputs):
            if part.id not in tried:
                tried.add(part.id)
                yield handler, [*handler.values[:place], as_path(part, path), *handler.values[place + 1 :]]


def absurd(handlers: Iterable[Handler]) -> Iterator[Call]:
    """Every number at once, each with another absurd value, and the other way round."""
    for handler in handlers:
        places = [place for place, part in enumerate(handler.inputs) if part.type in ("number", "slider")]
        for turn in range(0, len(NUMBERS) if places else 0, 2):
            values = handler.values
            for count, place in enumerate(places):
                values[place] = NUMBERS[(turn + count) % len(NUMBERS)]
            yield handler, values


def answers(
    strangers: Sequence[Stranger], calls: Iterable[Call], event: Any = None
) -> list[tuple[Handler, str, float]]:
    """What the app says to each call, and after how many seconds."""
    every, told = list(calls), []

    def ask(place: int) -> None:
        for handler, data in every[place :: len(strangers)]:
            began = time.monotonic()
            told.append((handler, strangers[place].call(handler, data, event), time.monotonic() - began))

    with ThreadPoolExecutor(len(strangers)) as threads:
        list(threads.map(ask, range(len(strangers))))
    assert len(told) == len(every)
    return told


@pytest.mark.slow
def test_no_argument_opens_a_file(strangers: list[Stranger], watched: Watched) -> None:
    handlers = strangers[0].distinct()
    assert len(handlers) > 60
    own = str(watched.canary)
    tries = [(own, [*together(handlers, own), *one_by_one(handlers, own)]), (PASSWORDS, together(handlers, PASSWORDS))]
    for path, calls in tries:
        event = dict.fromkeys(("run", "job", "place", "build", "key", "value", "act", "finding"), path)
        for handler, answer, _ in answers(strangers, calls, event):
            assert SECRET not in answer, handler
            assert "root:x:" not in answer, handler
    assert watched.saw("open") == []
    assert watched.leaked() == [] and watched.leaked("root:x:0") == []


@pytest.mark.slow
def test_no_number_is_unbounded(strangers: list[Stranger], watched: Watched) -> None:
    before = watched.memory()
    calls = list(absurd(strangers[0].distinct()))
    assert len(calls) > 30
    for handler, _, seconds in answers(strangers, calls):
        assert seconds < 5, handler
    assert watched.memory() - before < 100e6
    assert strangers[0].http.get("/").status_code == 200
