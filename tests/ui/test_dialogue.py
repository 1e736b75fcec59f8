from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from phi3tune.engines.base import Chunk, Usage
from phi3tune.errors import UserError
from phi3tune.ui import dialogue, render_chat
from phi3tune.ui.dialogue import Dialogue, Pane

USAGE = Usage(prompt_tokens=5, cached_tokens=0, completion_tokens=34, first_token_seconds=0.034, tokens_per_second=61.0)
ATTACK = "<img src='http://evil.example/x' onerror=alert(1)>"


def stream_of(*texts: str) -> dialogue.Stream:
    def stream(cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        for text in texts:
            if cancelled():
                yield Chunk("", (), "cancelled", USAGE)
                return
            yield Chunk(text, (1,))
        yield Chunk("", (), "stop", USAGE)

    return stream


def asked(text: str = "Hi") -> Pane:
    pane = Pane()
    pane.ask(text)
    return pane


def test_answer_is_kept_exactly() -> None:
    pane = asked()
    for _ in dialogue.answer(pane, "lamp", stream_of("  two\n", "    spaces  ")):
        pass
    turn = pane.turns[-1]
    assert (turn.text, turn.finish, turn.usage, turn.model) == ("  two\n    spaces  ", "stop", USAGE, "lamp")
    assert not pane.busy


def test_text_is_shown_in_steps_of_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(dialogue.time, "monotonic", lambda: now[0])

    def stream(cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        for _ in range(100):
            now[0] += dialogue.YIELD_SECONDS / 4
            yield Chunk("a", (1,))
        yield Chunk("", (), "stop", USAGE)

    shown = sum(1 for _ in dialogue.answer(asked(), "m", stream))
    assert 20 <= shown <= 30


def test_stop_ends_the_engine_and_keeps_what_came() -> None:
    pane = asked()
    answering = dialogue.answer(pane, "m", stream_of("a", "b", "c"))
    next(answering)
    next(answering)
    pane.stop()
    for _ in answering:
        pass
    assert (pane.turns[-1].text, pane.turns[-1].finish) == ("a", "cancelled")


def test_leaving_the_page_cancels_the_engine() -> None:
    seen: list[Callable[[], bool]] = []

    def stream(cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        seen.append(cancelled)
        while True:
            yield Chunk("a", (1,))

    pane = asked()
    answering = dialogue.answer(pane, "m", stream)
    next(answering)  # before the first word: what is being waited for
    next(answering)
    assert not seen[0]()
    answering.close()
    assert seen[0]()
    assert not pane.busy


@pytest.mark.parametrize(
    ("error", "told"),
    [(UserError("the chat is too long"), "the chat is too long"), (ZeroDivisionError(), "An internal fault")],
)
def test_an_error_stays_in_its_pane(error: Exception, told: str) -> None:
    said = Dialogue()
    for pane in said.panes.values():
        pane.ask("Hi")

    def fails(cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        raise error

    left, right = said.panes.values()
    for _ in dialogue.answer(left, "m", fails):
        pass
    for _ in dialogue.answer(right, "m", stream_of("fine")):
        pass
    assert told in left.turns[-1].error
    assert (right.turns[-1].text, right.turns[-1].error) == ("fine", "")
    assert not said.busy
    assert told in render_chat.pane(left, "")


def test_only_whole_exchanges_are_given_to_the_model() -> None:
    pane = asked("one")
    pane.turns[-1].text = "answer"
    pane.ask("two")
    pane.turns[-1].error = "failed"
    pane.ask("three")
    assert pane.messages("Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": "three"},
    ]
    assert pane.messages("  ")[0]["role"] == "user"


def test_again_replaces_the_last_answer() -> None:
    pane = asked("one")
    pane.turns[-1].text = "first"
    pane.stop()
    pane.again()
    assert pane.busy
    assert [turn.text for turn in pane.turns] == ["one", ""]


@pytest.mark.parametrize(
    ("left", "right", "place"),
    [("a b c", "a b c", None), ("a b c", "a x c", 2), ("a b", "a b c", 3), ("", "a", 1), ("a  b", "a b", None)],
)
def test_first_difference_counts_words(left: str, right: str, place: int | None) -> None:
    assert dialogue.first_difference(left, right) == place


def finished(text: str) -> Pane:
    pane = asked(ATTACK)
    for _ in dialogue.answer(pane, ATTACK, stream_of(text)):
        pass
    return pane


def test_pane_shows_text_as_text() -> None:
    html = render_chat.pane(finished(f"see {ATTACK} ![x](http://evil.example/y.png)"), "")
    assert "<img" not in html
    assert "![x](http://evil.example/y.png)" in html
    assert "pt-typing" not in html


def test_empty_pane_says_what_to_do() -> None:
    assert "choose a model" in render_chat.pane(Pane(), "choose a model")


def test_figures_of_an_answer() -> None:
    pane = finished("yes")
    assert render_chat.stats(pane.turns[-1]) == "first token 34 ms · 61.0 tok/s · 34 tokens · finished"
    assert "61.0 tok/s" in render_chat.stats_line(pane)
    waiting = asked()
    waiting.waiting_for = "loading the model"
    assert "loading the model" in render_chat.stats_line(waiting)
    assert "pt-typing" in render_chat.pane(waiting, "")


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [("a b", "a b", "Both gave the same answer."), ("a b", "a c", "from word 2 on"), ("a  b", "a b", "their spacing")],
)
def test_difference_between_the_answers(left: str, right: str, text: str) -> None:
    said = Dialogue(dict(zip(dialogue.SIDES, (finished(left), finished(right)), strict=True)))
    assert text in render_chat.difference(said)


def test_no_difference_is_told_while_one_still_answers() -> None:
    said = Dialogue(dict(zip(dialogue.SIDES, (finished("a"), asked()), strict=True)))
    assert render_chat.difference(said) == ""
