"""Scores of one answer against its reference. Every score is between 0 and 1."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson
import sacrebleu

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# A sign, a currency sign, and digits with commas between thousands; what follows a letter or a digit is no sign.
_NUMBER = re.compile(
    r"(?:(?<![\w.)])([-+−]))?(?:[$€£¥₹]\s?)?"
    r"((?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
)
_MARK = "####"
_CHRF = sacrebleu.CHRF()
_BLEU = sacrebleu.BLEU()


def exact_match(answer: str, reference: str) -> bool:
    """Equal text, apart from white space at either end."""
    return answer.strip() == reference.strip()


def exact_match_normalised(answer: str, reference: str) -> bool:
    """Equal words: without case, punctuation (every Unicode category P) and the amount of white space."""
    given, wanted = _normalised(answer), _normalised(reference)
    return given == wanted if wanted else exact_match(answer, reference)


def _normalised(text: str) -> str:
    return " ".join("".join(c for c in text.casefold() if not unicodedata.category(c).startswith("P")).split())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words, as the SQuAD v1.1 evaluation script defines it.

    Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250: lower case, no punctuation, no articles.
    Where either side has no word left, the score is 1 if both have none and else 0 (as SQuAD v2.0).
    """
    given, wanted = _words(answer), _words(reference)
    if not given or not wanted:
        return float(given == wanted)
    common = (Counter(given) & Counter(wanted)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def rouge_l(answer: str, reference: str) -> float:
    """F-measure of the longest common subsequence of words: rouge-score's rougeL, which reads Latin letters only."""
    return float(_rouge().score(reference, answer)["rougeL"].fmeasure)


@lru_cache(maxsize=1)
def _rouge() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer  # half a second, most of it nltk

    return RougeScorer(["rougeL"])


def chrf_counts(answer: str, reference: str) -> list[int]:
    """What sacrebleu adds up for chrF: for n-grams of 1 to 6 characters, those of answer, reference and both."""
    return list(_CHRF._extract_corpus_statistics([answer], [[reference]])[0])


def bleu_counts(answer: str, reference: str) -> list[int]:
    """What sacrebleu adds up for BLEU: length of answer and reference, then right and all n-grams of 1 to 4 words."""
    return list(_BLEU._extract_corpus_statistics([answer], [[reference]])[0])


def number(text: str) -> Decimal | None:
    """The number that a text ends in: behind the last `####` as in GSM8K, else its last number at all.

    GSM8K: Cobbe et al. 2021, https://arxiv.org/abs/2110.14168. Commas, currency signs and a trailing .0 do not count.
    """
    _, mark, marked = text.rpartition(_MARK)
    found = _NUMBER.search(marked) if mark else None
    if found is None:
        found = next(reversed(list(_NUMBER.finditer(text))), None)
    if found is None:
        return None
    value = Decimal(found[2].replace(",", ""))
    return -value if found[1] in ("-", "−") else value


def has_marked_number(text: str) -> bool:
    """Whether a number stands behind `####`."""
    _, mark, marked = text.rpartition(_MARK)
    return bool(mark) and _NUMBER.search(marked) is not None


def numeric_match(answer: str, reference: str) -> bool:
    """The same number at the end of both; wrong where the reference has none."""
    wanted = number(reference)
    return wanted is not None and number(answer) == wanted


def pattern_match(answer: str, reference: str, pattern: re.Pattern[str]) -> bool:
    """The pattern is found in the answer and, when it has a group, that matched the same text as in the reference."""
    given = pattern.search(answer)
    if given is None or pattern.groups == 0:
        return given is not None
    wanted = pattern.search(reference)
    return wanted is not None and given[1] == wanted[1]


def parse_json(text: str) -> tuple[bool, Any]:
    """Whether a text is one JSON value (RFC 8259, nothing around it), and the value."""
    try:
        return True, orjson.loads(text.strip())
    except orjson.JSONDecodeError:
        return False, None


def is_json_document(text: str) -> bool:
    """Whether a text is a JSON object or array: `42` and `"yes"` are JSON, too, but nobody means it."""
    valid, value = parse_json(text)
    return valid and isinstance(value, dict | list)
