"""Skills on single words: opposites, other words, plurals, past tense, letters, spelling."""

from itertools import pairwise
from random import Random

from ..sources import pairs, things
from .base import Fact, Skill, Slots, Task, from_table

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")

_SHORT_WORDS = tuple(sorted({
    word for words in things().values() for word in words if word.isalpha() and 3 <= len(word) <= 5
} | {word for word in (*pairs("opposites"), *pairs("past")) if word.isalpha() and 3 <= len(word) <= 5}))  # fmt: skip


def _both_ways(table: dict[str, str]) -> dict[str, str]:
    """The table with its mirror image; a word keeps its first partner."""
    merged = dict(table)
    for left, right in table.items():
        merged.setdefault(right, left)
    return merged


def _chain(items: tuple[str, ...], step: int) -> dict[str, str]:
    ring = (*items, items[0])
    return dict(pairwise(ring)) if step > 0 else {b: a for a, b in pairwise(ring)}


def _plural(word: str) -> str:
    return word + ("es" if word.endswith(("s", "sh", "ch", "x")) else "s")


def _plurals() -> dict[str, str]:
    kinds = ("animal", "tool", "furniture", "building", "instrument")
    regular = [word for kind in kinds for word in things()[kind]]
    table = {word: _plural(word) for word in regular if word[-1] not in "sy" and " " not in word}
    more = {"key": "keys", "toy": "toys", "book": "books", "friend": "friends", "game": "games"}
    return table | more | pairs("plurals")


def _letter_at(position: int) -> Fact:
    def fact(rng: Random) -> tuple[Slots, str]:
        word = rng.choice(_SHORT_WORDS)
        return {"x": word}, word[position]

    return fact


_spelling = from_table({word: "-".join(word) for word in _SHORT_WORDS})


def _neighbours(what: str, items: tuple[str, ...]) -> tuple[Task, Task]:
    return (
        Task.worded(f"{what} after", from_table(_chain(items, 1))),
        Task.worded(f"{what} before", from_table(_chain(items, -1))),
    )


def _one(title: str, fact: Fact) -> tuple[Task]:
    return (Task.worded(title, fact),)


_COMMON_PAIRS = dict(tuple(pairs("opposites").items())[:60])
_COMMON_VERBS = dict(tuple(pairs("past").items())[:100])

SKILLS = (
    Skill("days", "says which day comes after or before another", _neighbours("day", _DAYS), 0.7, 0.8),
    Skill("months", "says which month comes after or before another", _neighbours("month", _MONTHS), 0.9, 1.2),
    Skill("alphabet", "says which letter comes after or before another", _neighbours("letter", _LETTERS), 1.0, 1.6),
    Skill(
        "rarer opposites",
        "gives the opposite of a word",
        _one("opposites", from_table(_both_ways(pairs("opposites")))),
        1.6,
        0,
        False,
    ),
    Skill(
        "other words",
        "gives another word with the same meaning",
        _one("other words", from_table(pairs("synonyms"))),
        1.4,
        0.5,
        False,
    ),
    Skill("plurals", "gives the plural of a noun", _one("plurals", from_table(_plurals())), 1.5, 2.0),
    Skill(
        "rarer past tense",
        "gives the simple past of a verb",
        _one("past tense", from_table(pairs("past"))),
        1.5,
        0,
        False,
    ),
    Skill("spelling", "spells a short common word letter by letter", _one("spelling", _spelling), 2.0, 0, False),
    Skill(
        "letters of a word",
        "gives the first or the last letter of a short common word",
        (Task.worded("first letter", _letter_at(0)), Task.worded("last letter", _letter_at(-1))),
        1.4,
        0,
        False,
    ),
    Skill(
        "opposites",
        "gives the opposite of a common word",
        _one("opposites", from_table(_both_ways(_COMMON_PAIRS))),
        0,
        2.0,
    ),
    Skill(
        "past tense", "gives the simple past of a common verb", _one("past tense", from_table(_COMMON_VERBS)), 0, 1.8
    ),
)
