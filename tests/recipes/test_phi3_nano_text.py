"""The text of the phi3-nano recipe: templates, the held-out rule, and what the corpus must not contain."""

import json
import re
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from recipes.phi3_nano import sources
from recipes.phi3_nano.corpus import test_rows as held_out_rows
from recipes.phi3_nano.corpus import training_stream
from recipes.phi3_nano.grammar import expand, fill, is_question, literals, spoken
from recipes.phi3_nano.skills import SKILLS, is_held_out, plain

ROOT = Path(__file__).parents[2]
SAMPLE = 20_000
RUN = 8


@pytest.fixture(scope="module")
def corpus() -> list[list[dict[str, str]]]:
    return list(islice(training_stream(0), SAMPLE))


def test_expand_picks_every_alternative_and_tidies_spaces() -> None:
    rng = Random(0)
    texts = {expand("a [b|[c|d] e|]  f", rng) for _ in range(200)}
    assert texts == {"a b f", "a c e f", "a d e f", "a f"}


@pytest.mark.parametrize("template", ["a [b", "a b]", "[[a|b]"])
def test_unmatched_brackets_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="unmatched"):
        expand(template, Random(0))


def test_fill_and_literals() -> None:
    assert fill("{a} + {b}", {"a": "1", "b": "2"}) == "1 + 2"
    assert literals("x [y|z [v]]") == ["x ", "y", "z ", "v"]


@pytest.mark.parametrize(
    ("text", "asks"), [("what is 3 + 4", True), ("it is loud, how do I stop it", True), ("add 3 to 4", False)]
)
def test_questions_are_known_by_their_first_words(text: str, asks: bool) -> None:
    assert is_question(text) is asks


def test_verbatim_slots_keep_their_text() -> None:
    rng = Random(0)
    assert all("AbC d" in spoken("please say {x}", {"x": "AbC d"}, rng, verbatim=True) for _ in range(200))


def test_every_template_is_well_formed() -> None:
    for exchange in sources.exchanges().values():
        assert exchange.users and exchange.answers
        for template in (*exchange.users, *(said for said, _ in exchange.follow_ups)):
            expand(template, Random(0))
    assert all(intent.wordings for intent in sources.intents())


def test_skills_answer_both_sides_and_leave_no_slot_open() -> None:
    rng = Random(1)
    for skill in SKILLS:
        for held_out in (False, True):
            prompt, answer = skill.draw(rng, held_out=held_out)
            assert is_held_out(prompt) is held_out
            assert prompt and answer and "{" not in prompt + answer


def test_the_stream_is_seeded() -> None:
    assert list(islice(training_stream(3), 50)) == list(islice(training_stream(3), 50))
    assert list(islice(training_stream(3), 50)) != list(islice(training_stream(4), 50))


def test_chats_alternate_and_end_with_an_answer(corpus: list[list[dict[str, str]]]) -> None:
    for messages in corpus:
        roles = [message["role"] for message in messages]
        roles = roles[1:] if roles[0] == "system" else roles
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message["content"] == message["content"].strip() != "" for message in messages)


def test_no_held_out_prompt_is_trained_on(corpus: list[list[dict[str, str]]]) -> None:
    tested = {plain(row["messages"][0]["content"]) for row in held_out_rows(0)}
    trained = {plain(message["content"]) for messages in corpus for message in messages if message["role"] == "user"}
    assert not tested & trained


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9']+", text.lower())
    return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


def test_no_run_of_words_is_shared_with_the_bundled_datasets(corpus: list[list[dict[str, str]]]) -> None:
    forbidden: set[tuple[str, ...]] = set()
    for path in sorted((ROOT / "datasets").glob("lantern-*/*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            for message in json.loads(line)["messages"]:
                forbidden |= _runs(message["content"])
    assert forbidden, "the bundled datasets are missing"
    ours = [message["content"] for messages in corpus for message in messages]
    ours += [line for path in sorted(sources.DATA.iterdir()) for line in path.read_text("utf-8").splitlines()]
    shared = {run for text in ours for run in _runs(text) & forbidden}
    assert not shared
    assert not any("lantern" in text.lower() for text in ours)
