"""One conversation: how an answer comes in, what a model is given, where answers part, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from phi3tune.engines.base import Chunk, Usage
from phi3tune.errors import UserError
from phi3tune.guardrails import Hit
from phi3tune.ui import pane as panes
from phi3tune.ui import render_chat
from phi3tune.ui.dialogue import Dialogue
from phi3tune.ui.pane import Pane
from phi3tune.ui.render import answer_text

USAGE = Usage(prompt_tokens=5, cached_tokens=0, completion_tokens=34, first_token_seconds=0.034, tokens_per_second=61.0)
ATTACK = "<img src='http://evil.example/x' onerror=alert(1)>"


def stream_of(*texts: str) -> panes.Stream:
    def stream(cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        for text in texts:
            if cancelled():
                yield Chunk("", (), "cancelled", USAGE)
                return
            yield Chunk(text, (1,))
        yield Chunk("", (), "stop", USAGE)

    return stream


def asked(text: str = "Hi", model: str = "lamp") -> Pane:
    pane = Pane()
    pane.ask(text, model)
    return pane


def test_answer_is_kept_exactly() -> None:
    pane = asked()
    for _ in panes.answer(pane, stream_of("  two\n", "    spaces  ")):
        pass
    turn = pane.turns[-1]
    assert (turn.text, turn.finish, turn.usage, turn.model) == ("  two\n    spaces  ", "stop", USAGE, "lamp")
    assert not pane.busy


def test_text_is_shown_in_steps_of_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(panes.time, "monotonic", lambda: now[0])

    def stream(cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        for _ in range(100):
            now[0] += panes.YIELD_SECONDS / 4
            yield Chunk("a", (1,))
        yield Chunk("", (), "stop", USAGE)

    shown = sum(1 for _ in panes.answer(asked(), stream))
    assert 20 <= shown <= 30


def test_stop_ends_the_engine_and_keeps_what_came() -> None:
    pane = asked()
    answering = panes.answer(pane, stream_of("a", "b", "c"))
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
    answering = panes.answer(pane, stream)
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
    for pane in said.open:
        pane.ask("Hi")

    def fails(cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        raise error

    left, right = said.open
    for _ in panes.answer(left, fails):
        pass
    for _ in panes.answer(right, stream_of("fine")):
        pass
    assert told in left.turns[-1].error
    assert (right.turns[-1].text, right.turns[-1].error) == ("fine", "")
    assert not said.busy
    assert told in render_chat.chat(said, "left", "")


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
    assert pane.messages("", 1) == [{"role": "user", "content": "one"}]


def test_again_replaces_the_last_answer() -> None:
    pane = asked("one")
    pane.turns[-1].text = "first"
    pane.stop()
    pane.again()
    assert pane.busy
    assert [turn.text for turn in pane.turns] == ["one", ""]


@pytest.mark.parametrize(
    ("texts", "word", "marked"),
    [
        (["a b c", "a b c"], None, []),
        (["a  b", "a b"], None, []),
        (["a b c", "a x c"], 2, ["b", "x"]),
        (["a b", "a b c"], 3, ["", "c"]),
        (["", "a"], 1, ["", "a"]),
        (["a b", "a b", "a c"], 2, ["b", "b", "c"]),
        (["aa a", "aa  b"], 2, ["a", "b"]),
    ],
)
def test_the_first_word_that_differs(texts: list[str], word: int | None, marked: list[str]) -> None:
    found = panes.first_difference(texts)
    assert (found.word if found else None) == word
    if found:
        assert [text[start:end] for text, (start, end) in zip(texts, found.places, strict=True)] == marked


def side_by_side(*texts: str, blind: bool = False) -> Dialogue:
    said = Dialogue(blind=blind)
    for side, text in zip(said.shown, texts, strict=True):
        said.panes[side].ask(ATTACK, f"{ATTACK} {side}")
        for _ in panes.answer(said.panes[side], stream_of(text)):
            pass
    return said


def test_a_pane_shows_text_as_text() -> None:
    html = render_chat.chat(side_by_side(f"see {ATTACK} ![x](http://evil.example/y.png)", ""), "left", "")
    assert "<img" not in html
    assert "![x](http://evil.example/y.png)" in html
    assert "pt-typing" not in html


def test_an_empty_pane_says_what_to_do() -> None:
    assert "choose a model" in render_chat.chat(Dialogue(), "left", "choose a model")


def test_figures_of_an_answer() -> None:
    said = side_by_side("yes", "yes")
    turn = said.panes["left"].turns[-1]
    figures = [("First token", "34 ms"), ("Speed", "61.0 tok/s"), ("Answer", "34 tokens"), ("Ended", "finished")]
    assert render_chat.stats(turn) == figures
    assert "<dt>Speed</dt><dd>61.0 tok/s</dd>" in render_chat.stats_line(said, "left")
    assert {name for name, _ in figures[:-1]} <= {name for name, _ in render_chat.WORDS}, "each is explained"
    said.panes["left"].ask("more")
    said.panes["left"].wait("loading the model", 0.25)
    line = render_chat.stats_line(said, "left")
    assert "loading the model, 25 %" in line and 'aria-valuenow="25"' in line
    assert "pt-typing" in render_chat.chat(said, "left", "")


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        ("a b", "a b", "Both gave the same answer."),
        ("a b", "a c", "from word 2 on"),
        ("a  b", "a b", "only in their spacing"),
    ],
)
def test_where_the_answers_part(left: str, right: str, text: str) -> None:
    told, differs = render_chat.parting(side_by_side(left, right))
    assert text in told and (differs is not None) == ("word" in text)


def test_the_first_other_word_is_marked_in_the_text() -> None:
    said = side_by_side("a <b> c", "a <i> c")
    _, differs = render_chat.parting(said)
    assert '<mark class="pt-differs">&lt;b&gt;</mark> c' in render_chat.chat(said, "left", "", differs)
    assert '<mark class="pt-differs">&lt;i&gt;</mark> c' in render_chat.chat(said, "right", "", differs)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("say ```py\nx = 1``` now", "say <code class='pt-code'><mark class=\"pt-differs\">x</mark> = 1</code> now"),
        ("```x y``` or", "<code class='pt-code'><mark class=\"pt-differs\">x</mark> y</code> or"),
        ("and x", 'and <mark class="pt-differs">x</mark>'),
    ],
)
def test_a_mark_stands_where_it_belongs_in_code_and_text(text: str, html: str) -> None:
    place = text.index("x")
    assert answer_text(text, (place, place + 1)) == f'<div class="pt-text">{html}</div>'
    plain = html.replace('<mark class="pt-differs">x</mark>', "x")
    assert answer_text(text) == answer_text(text, (len(text), len(text))) == f'<div class="pt-text">{plain}</div>'


def test_no_difference_is_told_of_open_failed_or_other_questions() -> None:
    said = side_by_side("a", "b")
    said.panes["left"].turns[0].text = "another question"
    assert render_chat.parting(said) == ("", None)
    said = side_by_side("a", "b")
    said.panes["right"].turns[-1].finish = "cancelled"
    assert render_chat.parting(said) == ("", None)
    said.panes["right"].ask("more")
    assert render_chat.parting(said) == ("", None)


def test_nothing_tells_who_answers_while_names_are_hidden() -> None:
    said = side_by_side("yes", "no", blind=True)
    for side in said.shown:
        html = render_chat.chat(said, side, "") + render_chat.stats_line(said, side)
        assert "tok/s" not in html and 'data-act="prompt"' not in html
        assert f"<h4>{render_chat.esc(ATTACK)}" not in html
    assert "Model A" in render_chat.chat(said, "left", "")
    said.panes["right"].busy = True
    assert "yes" not in render_chat.chat(said, "left", ""), "who answers first is the faster one"
    said.panes["right"].busy = False
    said.drawn = {"left": "lamp", "right": "base"}
    for side in said.shown:
        said.panes[side].turns[-1].model = said.drawn[side]
    assert "A is better" in render_chat.between(said, "") and "lamp" not in render_chat.between(said, "")
    said.vote("A")
    assert "A was lamp. B was base." in render_chat.between(said, "")


def test_hits_of_guards_are_told() -> None:
    said = side_by_side("yes", "no")
    said.panes["left"].turns[-1].hits = (Hit("mail", "mask", "email_address"), Hit("mail", "mask", "email_address"))
    html = render_chat.chat(said, "left", "")
    assert html.count("mail masked: email_address") == 1


def test_a_prompt_is_shown_token_by_token() -> None:
    pieces = [("<|user|>", 5, True), ("Hi\n", 6, False), ("<b>", 7, False), ("yes", 8, False)]
    html = render_chat.prompt("lamp", pieces, 1, "Settings: the defaults.")
    assert "3 tokens given, 1 answered." in html
    assert '<span class="pt-special" title="5">&lt;|user|&gt;</span>' in html
    assert '<span class="pt-learned" title="8">yes</span>' in html
    assert "<b>" not in html
