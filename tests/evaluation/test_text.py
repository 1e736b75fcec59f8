from __future__ import annotations

import random
import re
from decimal import Decimal

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from phi3tune.evaluation import corpus, text

WORDS = ["the", "lamp", "is", "on", "red", "blue", "a", "very", "green", "house", "runs", "fast", ".", "Tür", "猫"]


def pairs(seed: int, count: int) -> tuple[list[str], list[str]]:
    """Answers and references that share words, some of them equal and some answers empty."""
    chance = random.Random(seed)
    references = [" ".join(chance.choices(WORDS, k=chance.randint(1, 12))) for _ in range(count)]
    answers = [
        reference if chance.random() < 0.3 else " ".join(chance.choices(WORDS, k=chance.randint(0, 12)))
        for reference in references
    ]
    return answers, references


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The lamp is red.", "a red lamp", 2 * (2 / 3) * 1 / (2 / 3 + 1)),  # lamp is red | red lamp
        ("blue", "red", 0.0),
        ("Red! Red!", "red", 2 * (1 / 2) * 1 / (1 / 2 + 1)),  # a word counts as often as the reference has it
        ("the lamp", "lamp.", 1.0),
        ("", "", 1.0),
        ("The.", "an", 1.0),  # no word left on either side
        ("", "red", 0.0),
        ("theory and another", "theory and another", 1.0),  # articles inside words stay
    ],
)
def test_token_f1_against_hand_computed_values(answer: str, reference: str, expected: float) -> None:
    assert text.token_f1(answer, reference) == pytest.approx(expected)


def test_exact_match_is_raw_text() -> None:
    assert text.exact_match(" Red.\n", "Red.")
    assert not text.exact_match("red.", "Red.")
    assert not text.exact_match("Red", "Red.")


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("  RED,  lamp ", "Red lamp.", True),
        ("«Straße»", "STRASSE", True),
        ("redlamp", "red lamp", False),
        ("the red lamp", "red lamp", False),
        ("?", "!", False),  # nothing but punctuation is compared as it is
        ("!", "!", True),
        ("", "Red", False),
    ],
)
def test_normalised_match(answer: str, reference: str, same: bool) -> None:
    assert text.exact_match_normalised(answer, reference) is same


def test_rouge_l_is_that_of_rouge_score() -> None:
    scorer = RougeScorer(["rougeL"])
    for answer, reference in zip(*pairs(1, 100), strict=True):
        assert text.rouge_l(answer, reference) == scorer.score(reference, answer)["rougeL"].fmeasure


def test_chrf_of_a_row_is_that_of_sacrebleu() -> None:
    for answer, reference in zip(*pairs(2, 200), strict=True):
        ours = float(corpus.chrf(np.array(text.chrf_counts(answer, reference), float)))
        assert 100 * ours == pytest.approx(sacrebleu.sentence_chrf(answer, [reference]).score, abs=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_corpus_chrf_and_bleu_are_those_of_sacrebleu(seed: int) -> None:
    """From one row to eight, some without a 4-gram, some without a match."""
    answers, references = pairs(seed, 1 + seed % 8)
    chrf = np.array([text.chrf_counts(a, r) for a, r in zip(answers, references, strict=True)], float).sum(0)
    bleu = np.array([text.bleu_counts(a, r) for a, r in zip(answers, references, strict=True)], float).sum(0)
    assert 100 * corpus.chrf(chrf) == pytest.approx(sacrebleu.corpus_chrf(answers, [references]).score, abs=1e-9)
    assert 100 * corpus.bleu(bleu) == pytest.approx(sacrebleu.corpus_bleu(answers, [references]).score, abs=1e-9)


def test_corpus_scores_take_many_sums_at_once() -> None:
    answers, references = pairs(3, 30)
    chrf = np.array([text.chrf_counts(a, r) for a, r in zip(answers, references, strict=True)], float)
    bleu = np.array([text.bleu_counts(a, r) for a, r in zip(answers, references, strict=True)], float)
    assert corpus.chrf(chrf).tolist() == [float(corpus.chrf(row)) for row in chrf]
    assert corpus.bleu(bleu).tolist() == [float(corpus.bleu(row)) for row in bleu]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("So 3 + 4 = 7.\n#### 7", "7"),
        ("#### $1,234.50 dollars, not 9", "1234.50"),
        ("#### -8", "-8"),
        ("first 3, then 12.", "12"),
        ("-$5.00", "-5"),
        ("10-5", "5"),
        ("10 - 5", "5"),
        ("minus \u22127", "-7"),
        ("about .5", "0.5"),
        ("1,23", "23"),  # no commas between thousands
        ("#### none, so 4", "4"),
        ("model v2", "2"),
    ],
)
def test_number_of_an_answer(words: str, value: str) -> None:
    assert text.number(words) == Decimal(value)


def test_numeric_match() -> None:
    assert text.numeric_match("That makes 1000.0", "It is a thousand.\n#### 1,000")
    assert text.numeric_match("€ 42", "#### 42")
    assert not text.numeric_match("#### 41", "41 + 1\n#### 42")
    assert not text.numeric_match("forty-two", "#### 42")
    assert not text.numeric_match("none", "none")
    assert text.has_marked_number("a\n#### 4")
    assert not text.has_marked_number("4 #### four")


def test_pattern_match() -> None:
    sign = re.compile(r"^(?:yes|no)\b", re.IGNORECASE)
    assert text.pattern_match("Yes, it is.", "No.", sign)
    assert not text.pattern_match("It is, yes.", "No.", sign)
    number = re.compile(r"order (\d+)")
    assert text.pattern_match("see order 17 there", "order 17", number)
    assert not text.pattern_match("see order 18 there", "order 17", number)
    assert not text.pattern_match("see order 18 there", "none", number)


@pytest.mark.parametrize(
    ("words", "valid", "document"),
    [
        ('{"a": [1, 2]}', True, True),
        (" [] \n", True, True),
        ("42", True, False),
        ('```json\n{"a": 1}\n```', False, False),
        ('{"a": NaN}', False, False),
        ('{"a": 1} and more', False, False),
        ("[" * 100_000, False, False),
        ("", False, False),
    ],
)
def test_json(words: str, valid: bool, document: bool) -> None:
    assert text.parse_json(words)[0] is valid
    assert text.is_json_document(words) is document
