"""Faults planted in generated rows: at least 95 % of each kind are found, and at most 1 % of the clean rows flagged."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from phi3tune.config import DatasetConfig
from phi3tune.data.conversation import Conversation
from phi3tune.data.index import FilePart
from phi3tune.data.problems import ProblemLog
from phi3tune.data.report import Audit
from tests.data.audit.planting import card, clean_rows, cut, joined, near_copy, prompt_and_answer, row

CLEAN, PLANTED = 1000, 60


def found(rows: Sequence[tuple[FilePart, Conversation]]) -> dict[str, set[tuple[str, int]]]:
    """The rows of each finding, as (file, row)."""
    audit = Audit(None, 1024, languages=False)
    audit.add(rows)
    given = {part for part, _ in rows}
    result: dict[str, Any] = audit.finish(
        lambda: (conversation for _, conversation in rows), DatasetConfig(dataset="rows.jsonl"), given, ProblemLog()
    )
    places: dict[str, set[tuple[str, int]]] = {}
    for finding in result["findings"]:
        places.setdefault(finding["code"], set()).update((finding["file"], number) for number in finding["rows"])
    return places


def planted_rows(kind: str) -> tuple[list[tuple[FilePart, Conversation]], set[tuple[str, int]], set[tuple[str, int]]]:
    """Rows, the places of those with the fault, and the places of those that have nothing to do with it."""
    rng = random.Random(7)
    clean = clean_rows(CLEAN)
    rows: list[tuple[FilePart, Conversation]] = [("train" if kind == "leak" else "all", each) for each in clean]
    faulty, touched = set(), set()
    for number, original in enumerate(rng.sample(clean, PLANTED), CLEAN):
        prompt, answer = prompt_and_answer(original)
        part: FilePart = "test" if kind == "leak" else "all"
        file = "test.jsonl" if kind == "leak" else "rows.jsonl"
        if kind == "near_duplicate_rows":
            prompt, answer = near_copy(prompt, rng), near_copy(answer, rng) if rng.random() < 0.5 else answer
            touched.add((original.file, original.row))
        elif kind == "leak":
            prompt = near_copy(prompt, rng) if rng.random() < 0.5 else prompt
            touched.add((original.file, original.row))
        elif kind == "contradictory_answers":
            prompt, answer = prompt.upper() if rng.random() < 0.3 else prompt, prompt_and_answer(rng.choice(clean))[1]
            touched.add((original.file, original.row))
        elif kind == "cut_words":
            answer = cut(answer, rng)
        elif kind == "joined_words":
            answer = joined(answer, rng)
        else:
            answer = f"{answer} Pay with {card(rng)}, valid until 09/27. {answer}"
        if kind in ("cut_words", "joined_words", "card_number"):
            rows[original.row] = (part, row(original.row, prompt, answer))
            place = (file, original.row)
        else:
            rows.append((part, row(number, prompt, answer, file)))
            place = (file, number)
        faulty.add(place)
    everything = {(conversation.file, conversation.row) for _, conversation in rows}
    return rows, faulty, everything - faulty - touched


@pytest.mark.parametrize(
    "kind",
    ["near_duplicate_rows", "leak", "contradictory_answers", "cut_words", "joined_words", "card_number"],
)
def test_planted_faults_are_found_and_clean_rows_left_alone(kind: str) -> None:
    rows, faulty, clean = planted_rows(kind)
    codes = found(rows)
    flagged = codes.get(kind, set()) | (codes.get("duplicate_rows", set()) if kind == "near_duplicate_rows" else set())
    # Some joints are words themselves ("inits"): they cannot all be told.
    assert len(faulty & flagged) >= (0.9 if kind == "joined_words" else 0.95) * len(faulty), sorted(faulty - flagged)
    anything = set().union(*codes.values())
    assert len(clean & anything) <= 0.01 * len(clean), sorted(clean & anything)


def test_one_answer_to_many_wordings_is_no_near_duplicate() -> None:
    rng = random.Random(3)
    rows = [
        row(n, prompt_and_answer(each)[0], "Open the app and press the button on the back of the lamp until it blinks.")
        for n, each in enumerate(clean_rows(300))
    ]
    rng.shuffle(rows)
    assert "near_duplicate_rows" not in found([("all", each) for each in rows])


def test_cases_of_one_template_are_no_near_duplicates() -> None:
    sums = [row(n, f"What is {n // 20} plus {n % 20}?", f"{n // 20 + n % 20}.") for n in range(400)]
    towns = [
        row(
            400 + n,
            f"What is the capital of the country that is called {a}, and why?",
            f"The capital of {a} is {b}, for good reasons.",
        )
        for n, (a, b) in enumerate([("Arda", "Osgil"), ("Brea", "Tolmin"), ("Cara", "Venn"), ("Dorn", "Wick")])
    ]
    assert "near_duplicate_rows" not in found([("all", each) for each in sums + towns])
