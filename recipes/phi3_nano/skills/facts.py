"""Skills on everyday knowledge: capitals, colours, animals, kinds of things and what they are for."""

from random import Random

from ..sources import pairs, things, uses
from .base import Fact, Skill, Slots, Task, from_table, with_article

_NO_ARTICLE = {"drink", "food", "metal", "weather", "colour", "sport", "country"}
_KINDS = tuple((word, kind) for kind, words in things().items() for word in words)
_COMMON_KINDS = (
    "animal",
    "bird",
    "fish",
    "fruit",
    "vegetable",
    "tool",
    "vehicle",
    "furniture",
    "clothing",
    "sport",
    "job",
)
_COMMON = tuple((word, kind) for kind in _COMMON_KINDS for word in things()[kind][:12])
_ANIMATE = ("animal", "bird", "fish", "insect")


def _named(word: str, kind: str) -> str:
    """The word as a question has it: with an article unless it has no plural."""
    return word if kind in _NO_ARTICLE or word.endswith(("trousers", "pliers")) else with_article(word)


def _kind(table: tuple[tuple[str, str], ...]) -> Fact:
    def fact(rng: Random) -> tuple[Slots, str]:
        word, kind = rng.choice(table)
        return {"x": _named(word, kind), "bare": word}, kind

    return fact


def _is_a(table: tuple[tuple[str, str], ...]) -> Fact:
    def fact(rng: Random) -> tuple[Slots, str]:
        word, kind = rng.choice(table)
        asked = kind
        if rng.random() < 0.5:
            unlike = [other for other in things() if other != kind and not (kind in _ANIMATE and other in _ANIMATE)]
            near = {"fruit": "vegetable", "vegetable": "fruit", "tool": "device", "drink": "food", "flower": "tree"}
            asked = near[kind] if kind in near and rng.random() < 0.25 else rng.choice(unlike)
        return {"x": _named(word, kind), "kind": with_article(asked) if asked != "weather" else "a kind of weather"}, (
            "Yes" if asked == kind else "No"
        )

    return fact


def _purpose(rng: Random) -> tuple[Slots, str]:
    use = rng.choice(uses())
    return {"x": use.subject}, use.purpose


def _meaning(rng: Random) -> tuple[Slots, str]:
    use = rng.choice(uses())
    return {"x": use.subject}, use.sentence


def _tool(rng: Random) -> tuple[Slots, str]:
    use = rng.choice([use for use in uses() if use.purpose not in {"telling the time", "giving light", "cutting"}])
    return {"x": use.purpose}, use.subject


SKILLS = (
    Skill(
        "capital cities",
        "names the capital of a country, or the country of a capital",
        (
            Task.worded("capital of a country", from_table(pairs("capitals"))),
            Task.worded("country of a capital", from_table({city: land for land, city in pairs("capitals").items()})),
        ),
        1.7,
        2.4,
    ),
    Skill(
        "colours",
        "says what colour a thing usually has",
        (Task.worded("colours", from_table(pairs("colours"))),),
        1.0,
        1.2,
    ),
    Skill(
        "animal sounds",
        "says what sound an animal makes",
        (Task.worded("animal sounds", from_table(pairs("sounds"))),),
        0.8,
        0.9,
    ),
    Skill(
        "young animals",
        "names the young of an animal",
        (Task.worded("young animals", from_table(pairs("young"))),),
        0.8,
        0.9,
    ),
    Skill(
        "rarer kinds",
        "says what kind of thing something is",
        (Task.worded("kinds of things", _kind(_KINDS)),),
        2.2,
        0.4,
        False,
    ),
    Skill(
        "rarer yes or no",
        "answers whether something is a kind of thing",
        (Task.worded("yes or no", _is_a(_KINDS)),),
        2.4,
        0.4,
        False,
    ),
    Skill(
        "what it is for",
        "says what a common thing is used for, or which thing is used for something",
        (Task.worded("use of a thing", _purpose), Task.worded("thing for a use", _tool)),
        1.5,
        0,
        False,
    ),
    Skill(
        "meanings",
        "explains in one sentence what a common thing is",
        (Task.worded("meanings", _meaning),),
        1.5,
        1.8,
    ),
    Skill(
        "kinds of things",
        "says what kind of thing something is: " + ", ".join(_COMMON_KINDS),
        (Task.worded("kinds of things", _kind(_COMMON)),),
        0,
        2.0,
    ),
    Skill(
        "yes or no",
        "answers whether something is a kind of thing, such as: is a carrot a vegetable?",
        (Task.worded("yes or no", _is_a(_COMMON)),),
        0,
        2.4,
    ),
)
