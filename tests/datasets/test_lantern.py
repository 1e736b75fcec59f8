"""The bundled chat datasets keep the promises their card makes."""

import json
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
SETS = ("lantern-support", "lantern-chat")
SPLITS = ("train", "test")
SPECIAL = re.compile(r"<\|[^|]*\|>|</?s>|<unk>|<pad>", re.IGNORECASE)
JACCARD_LIMIT = 0.6
RUN_LIMIT = 6


@cache
def raw(name: str, split: str) -> bytes:
    return (DATASETS / name / f"{split}.jsonl").read_bytes()


@cache
def rows(name: str, split: str) -> list[dict]:
    return [json.loads(line) for line in raw(name, split).decode("utf-8").splitlines()]


@cache
def card() -> str:
    return (DATASETS / "README.md").read_text(encoding="utf-8")


def normalise(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9 ]", " ", text.lower().replace("'", "")).split())


def user_turns(row: dict) -> list[str]:
    return [normalise(message["content"]) for message in row["messages"] if message["role"] == "user"]


def first_user_turns(name: str, split: str) -> list[str]:
    return [user_turns(row)[0] for row in rows(name, split)]


def word_runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def answers_by_intent(split: str) -> dict[str, set[str]]:
    answers = defaultdict(set)
    for row in rows("lantern-support", split):
        answers[row["intent"]].add(row["messages"][1]["content"])
    return dict(answers)


def max_jaccard(text: str, others: list[set[str]]) -> float:
    words = set(text.split())
    return max(len(words & other) / len(words | other) for other in others)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", SETS)
def test_every_line_is_a_chat(name, split):
    data = raw(name, split)
    assert data.endswith(b"}\n")
    assert b"\r" not in data
    allowed = {"messages", "intent"} if name == "lantern-support" else {"messages"}
    for row in rows(name, split):
        assert set(row) == allowed
        messages = row["messages"]
        assert all(set(message) == {"role", "content"} for message in messages)
        roles = [message["role"] for message in messages]
        turns = roles[1:] if name == "lantern-chat" else roles
        assert roles[0] == ("system" if name == "lantern-chat" else "user")
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        for message in messages:
            text = message["content"]
            assert text == text.strip() != ""
            assert text.isascii()
            assert not SPECIAL.search(text)


@pytest.mark.parametrize("split", SPLITS)
def test_support_rows_have_one_turn_and_chat_rows_two_to_five(split):
    assert {len(user_turns(row)) for row in rows("lantern-support", split)} == {1}
    assert {len(user_turns(row)) for row in rows("lantern-chat", split)} == {2, 3, 4, 5}


def test_one_answer_per_intent_and_one_intent_per_answer():
    train, test = answers_by_intent("train"), answers_by_intent("test")
    assert train == test
    assert len(train) >= 36
    assert all(len(answers) == 1 for answers in train.values())
    texts = [next(iter(answers)) for answers in train.values()]
    assert len({text.split()[0] for text in texts}) == len(texts)
    assert all(10 <= len(text.split()) <= 28 for text in texts)


def test_intents_are_balanced():
    assert set(Counter(row["intent"] for row in rows("lantern-support", "train")).values()) == {55}
    assert set(Counter(row["intent"] for row in rows("lantern-support", "test")).values()) == {4}


def test_support_questions_have_4_to_25_words():
    for split in SPLITS:
        assert all(4 <= len(text.split()) <= 25 for text in first_user_turns("lantern-support", split))


def test_no_support_question_is_repeated():
    questions = first_user_turns("lantern-support", "train") + first_user_turns("lantern-support", "test")
    assert len(set(questions)) == len(questions)


def test_support_test_questions_are_not_near_copies_of_train():
    train = first_user_turns("lantern-support", "train")
    train_words = [set(text.split()) for text in train]
    train_runs = set().union(*(word_runs(text, RUN_LIMIT) for text in train))
    worst = 0.0
    for text in first_user_turns("lantern-support", "test"):
        worst = max(worst, max_jaccard(text, train_words))
        assert not word_runs(text, RUN_LIMIT) & train_runs, text
    assert worst <= JACCARD_LIMIT
    assert f"highest is {worst:.2f}" in card()


def test_chat_test_turns_are_new():
    train_turns = {turn for row in rows("lantern-chat", "train") for turn in user_turns(row)}
    test_turns = {turn for row in rows("lantern-chat", "test") for turn in user_turns(row)}
    assert not train_turns & test_turns
    openings = first_user_turns("lantern-chat", "test")
    assert len(set(openings)) == len(openings)
    support = {*first_user_turns("lantern-support", "train"), *first_user_turns("lantern-support", "test")}
    assert not support & set(openings)


def test_no_chat_is_repeated():
    chats = [
        tuple(message["content"] for message in row["messages"][1:])
        for split in SPLITS
        for row in rows("lantern-chat", split)
    ]
    assert len(set(chats)) == len(chats)


def test_the_same_chat_history_never_has_two_answers():
    answers = defaultdict(set)
    for split in SPLITS:
        for row in rows("lantern-chat", split):
            messages = row["messages"]
            for end in range(2, len(messages), 2):
                answers[json.dumps(messages[:end])].add(messages[end]["content"])
    assert all(len(texts) == 1 for texts in answers.values())


def test_card_sizes_are_those_of_the_files():
    table = re.findall(r"^\| `(lantern-\w+)/(\w+)\.jsonl` \| ([\d,]+) \| ([\d,]+) \|", card(), re.MULTILINE)
    stated = {
        (name, split): (int(count.replace(",", "")), int(turns.replace(",", ""))) for name, split, count, turns in table
    }
    assert stated == {
        (name, split): (len(rows(name, split)), sum(len(user_turns(row)) for row in rows(name, split)))
        for name in SETS
        for split in SPLITS
    }
    systems = {row["messages"][0]["content"] for split in SPLITS for row in rows("lantern-chat", split)}
    assert f"{len(systems)} system prompts" in card()
    assert all(f"- {system}\n" in card() for system in systems)


def test_card_lists_every_intent_with_its_answer():
    table = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", card(), re.MULTILINE))
    assert table == {intent: next(iter(answers)) for intent, answers in answers_by_intent("train").items()}
    assert f"{len(table)} intents" in card()


def test_datasets_is_not_a_python_package():
    assert not list(DATASETS.rglob("*.py"))
