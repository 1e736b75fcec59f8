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
    return {a: b for a, b in pairwise(ring)} if step > 0 else {b: a for a, b in pairwise(ring)}


def _plural(word: str) -> str:
    return word + ("es" if word.endswith(("s", "sh", "ch", "x")) else "s")


def _plurals() -> dict[str, str]:
    regular = (*things()["animal"], *things()["tool"], *things()["furniture"], *things()["building"], *things()["instrument"])
    table = {word: _plural(word) for word in regular if word[-1] not in "sy" and " " not in word}
    return table | {"key": "keys", "toy": "toys", "book": "books", "friend": "friends", "game": "games"} | pairs("plurals")


def _letter_at(position: int) -> Fact:
    def fact(rng: Random) -> tuple[Slots, str]:
        word = rng.choice(_SHORT_WORDS)
        return {"x": word}, word[position]

    return fact


_spelling = from_table({word: "-".join(word) for word in _SHORT_WORDS})
_AFTER = ("what [day|] [comes|is] [right|] after {x}", "which day [comes|is] [right|] after {x}", "what is the [next day|day] after {x}",
          "[tell me|name|say|give me] the day after {x}", "which day follows {x}", "what follows {x}", "what comes after {x}", "the day after {x}",
          "today is {x}, what day is tomorrow", "if today is {x}, what is tomorrow", "what comes next after {x}")  # fmt: skip
_BEFORE = ("what [day|] [comes|is] [right|just|] before {x}", "which day [comes|is] [right|just|] before {x}", "what is the day before {x}",
           "[tell me|name|say|give me] the day before {x}", "what comes before {x}", "the day before {x}",
           "today is {x}, what day was yesterday", "if today is {x}, what was yesterday")  # fmt: skip
_ABOUT = ("and {x}", "what about {x}", "and of {x}", "how about {x}", "and for {x}")


def _no_tomorrow(wordings: tuple[str, ...], unit: str) -> tuple[str, ...]:
    return tuple(w.replace("day", unit) for w in wordings if "today" not in w)


SKILLS = (
    Skill("days", "says which day comes after or before another", (
        Task(_AFTER, from_table(_chain(_DAYS, 1)), ("and after {x}", "and what comes after {x}")),
        Task(_BEFORE, from_table(_chain(_DAYS, -1)), ("and before {x}", "and what comes before {x}")),
    ), 0.7),
    Skill("months", "says which month comes after or before another", (
        Task(_no_tomorrow(_AFTER, "month"), from_table(_chain(_MONTHS, 1)), ("and after {x}", "and what comes after {x}")),
        Task(_no_tomorrow(_BEFORE, "month"), from_table(_chain(_MONTHS, -1)), ("and before {x}", "and what comes before {x}")),
    ), 0.9),
    Skill("alphabet", "says which letter comes after or before another", (
        Task((*_no_tomorrow(_AFTER, "letter"), "what letter comes after the letter {x}"), from_table(_chain(_LETTERS, 1)),
             ("and after {x}", "and what comes after {x}")),
        Task((*_no_tomorrow(_BEFORE, "letter"), "what letter comes before the letter {x}"), from_table(_chain(_LETTERS, -1)),
             ("and before {x}", "and what comes before {x}")),
    ), 1.0),
    Skill("opposites", "gives the opposite of a common word", (
        Task(("[what is|what's|tell me|say|give me|name|whats] the opposite of {x}", "opposite of {x}", "what is the opposite of the word {x}",
              "[which|what] word means the opposite of {x}", "the opposite of {x} is", "{x}: [what is the opposite|opposite]", "{x} and its opposite",
              "what is [not|the contrary of] {x}", "what word is the opposite of {x}", "do you know the opposite of {x}", "what would be the opposite of {x}"),
             from_table(_both_ways(pairs("opposites"))), _ABOUT),
    ), 1.6),
    Skill("other words", "gives another word with the same meaning", (
        Task(("[what is|give me|tell me|find|say|name|do you know] [another word|a synonym|a different word] for {x}", "another word for {x}",
              "[which|what] word means the same as {x}", "a word with the same meaning as {x}", "synonym for {x}", "synonym of {x}", "{x}: another word",
              "how else can [I|you] say {x}", "what is another way to say {x}", "say {x} [in another word|in a different way]", "what means the same as {x}"),
             from_table(pairs("synonyms")), _ABOUT),
    ), 1.4),
    Skill("plurals", "gives the plural of a noun", (
        Task(("[what is|what's|tell me|say|give me|write] the plural of {x}", "plural of {x}", "what is the plural form of {x}", "make {x} plural",
              "what is more than one {x} called", "one {x}, two what", "how do you say more than one {x}", "the plural of {x} is", "put {x} in the plural",
              "I have one {x}, you have two", "{x}: plural", "what do you call two of {x}", "turn {x} into the plural"), from_table(_plurals()), _ABOUT),
    ), 1.5),
    Skill("past tense", "gives the simple past of a verb", (
        Task(("[what is|what's|tell me|say|give me|write] the past [tense|form|] of {x}", "past tense of {x}", "put {x} [in|into] the past [tense|]",
              "what is the simple past of {x}", "past tense: {x}", "{x} in the past [tense|]", "today I {x}, yesterday I",
              "how do you say {x} in the past", "what is {x} in the past tense", "turn {x} into the past tense", "the past of {x} is"), from_table(pairs("past")), _ABOUT),
    ), 1.5),
    Skill("spelling", "spells a short common word letter by letter", (
        Task(("[spell|please spell|can you spell] [the word|] {x}", "how do you spell {x}", "how is {x} spelled", "spell {x} for me", "what is the spelling of {x}",
              "spell out {x}", "[write|say] {x} letter by letter", "give me the letters of {x}", "which letters are in {x}"), _spelling, ("and {x}", "what about {x}", "now {x}")),
    ), 2.0),
    Skill("letters of a word", "gives the first or the last letter of a short common word", (
        Task(("[what is|what's|tell me|name|say|give me] the first letter [of|in] [the word|] {x}", "which letter does {x} [start|begin] with", "first letter of {x}",
              "what letter does [the word|] {x} [start|begin] with", "{x} starts with which letter", "with which letter does {x} begin"), _letter_at(0), ("and of {x}", "and {x}", "what about {x}")),
        Task(("[what is|what's|tell me|name|say|give me] the last letter [of|in] [the word|] {x}", "which letter does {x} end with", "last letter of {x}",
              "what letter does [the word|] {x} end [with|in]", "{x} ends with which letter", "with which letter does {x} end"), _letter_at(-1), ("and of {x}", "and {x}", "what about {x}")),
    ), 1.4),
)  # fmt: skip
