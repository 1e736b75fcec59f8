"""Which rows stay together, and which part they go to."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from phi3tune.chat import Message
from phi3tune.config import DatasetConfig, Part
from phi3tune.data.conversation import Conversation
from phi3tune.data.division import PARTS, divide
from phi3tune.data.index import FilePart
from phi3tune.data.load import Dataset
from tests.data.audit.planting import clean_rows, near_copy, prompt_and_answer, row


def divided(found: dict[FilePart, list[Conversation]], **settings: object) -> Dataset:
    config = DatasetConfig.model_validate({"dataset": "rows.jsonl", **settings})
    dataset = Dataset("rows.jsonl", "rows", "", "messages", {}, {part: [] for part in PARTS}, config)
    divide(dataset, found)
    return dataset


def part_of(dataset: Dataset) -> dict[tuple[str, int], Part]:
    return {(c.file, c.row): part for part in PARTS for c in dataset.parts[part]}


def sizes(dataset: Dataset) -> dict[Part, int]:
    return {part: len(dataset.parts[part]) for part in PARTS}


def test_rows_that_belong_together_never_straddle() -> None:
    rng = random.Random(5)
    rows = clean_rows(200)
    pairs: list[tuple[int, int]] = []

    def add(original: Conversation, copy: Conversation) -> None:
        pairs.append((original.row, copy.row))
        rows.append(copy)

    for original in rng.sample(rows[:200], 60):
        prompt, answer = prompt_and_answer(original)
        other = prompt_and_answer(rng.choice(rows[:200]))[1]
        add(original, row(len(rows), prompt, answer))
        add(original, row(len(rows), near_copy(prompt, rng), answer))
        add(original, row(len(rows), prompt.upper(), other))
        more: tuple[Message, ...] = ({"role": "user", "content": other}, {"role": "assistant", "content": prompt})
        add(original, Conversation((*original.messages, *more), len(rows), "rows.jsonl"))
    for seed in range(5):
        parts = part_of(divided({"all": rows}, split_seed=seed))
        assert len(parts) == len(rows)
        assert all(parts["rows.jsonl", one] == parts["rows.jsonl", two] for one, two in pairs)
        assert set(parts.values()) == set(PARTS)


def test_a_declared_group_never_straddles() -> None:
    rows = [Conversation(c.messages, c.row, c.file, group=str(c.row // 10)) for c in clean_rows(100)]
    parts = part_of(divided({"all": rows}))
    assert all(len({parts["rows.jsonl", 10 * group + n] for n in range(10)}) == 1 for group in range(10))
    assert Counter(parts.values()) == {"train": 80, "validation": 10, "test": 10}


def test_one_prompt_for_all_rows_is_a_pattern_and_no_group() -> None:
    rows = [row(c.row, "Write something.", prompt_and_answer(c)[1]) for c in clean_rows(100)]
    assert sizes(divided({"all": rows})) == {"train": 80, "validation": 10, "test": 10}


def test_labels_are_in_balance() -> None:
    labels = ["often"] * 160 + ["seldom"] * 40
    rows = [row(c.row, prompt_and_answer(c)[0], label) for c, label in zip(clean_rows(200), labels, strict=True)]
    dataset = divided({"all": rows})
    counts = {part: Counter(c.reference for c in dataset.parts[part]) for part in PARTS}
    assert counts == {
        "train": {"often": 128, "seldom": 32},
        "validation": {"often": 16, "seldom": 4},
        "test": {"often": 16, "seldom": 4},
    }


def test_a_number_of_rows_wins_over_the_share() -> None:
    rows = clean_rows(100)
    assert sizes(divided({"all": rows}, test_rows=7, validation_rows=0)) == {"train": 93, "validation": 0, "test": 7}
    assert sizes(divided({"all": rows}, test_share=0.3)) == {"train": 60, "validation": 10, "test": 30}


@pytest.mark.parametrize("settings", [{"test_rows": 100}, {"test_rows": 60, "validation_rows": 40}])
def test_more_rows_than_there_are_is_a_problem(settings: dict[str, int]) -> None:
    dataset = divided({"all": clean_rows(100)}, **settings)
    assert [problem.code for problem in dataset.problems] == ["too_few_rows"]
    assert len(dataset.parts["train"]) == 100


def test_given_files_keep_their_rows_and_leaks_are_told() -> None:
    rows = clean_rows(60)
    prompt, answer = prompt_and_answer(rows[3])
    test = [
        row(0, prompt.lower(), answer, "test.jsonl"),
        row(1, "Something else entirely?", "Yes, it is so.", "test.jsonl"),
    ]
    dataset = divided({"train": rows, "test": test})
    assert dataset.parts["test"] == test
    assert sizes(dataset) == {"train": 54, "validation": 6, "test": 2}
    assert [(p.code, p.file) for p in dataset.problems] == [("leak", "test.jsonl")]


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = clean_rows(150)
    mixed = list(rows)
    random.Random(2).shuffle(mixed)
    assert part_of(divided({"all": rows})) == part_of(divided({"all": mixed}))


def test_only_the_first_rows_are_trained_on() -> None:
    dataset = divided({"all": clean_rows(100)}, max_rows=5)
    assert sizes(dataset) == {"train": 5, "validation": 10, "test": 10}
