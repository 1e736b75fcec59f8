"""Skills on a list of words given in the prompt: picking, counting, repeating, the odd one out."""

from random import Random

from ..sources import names, things
from .base import Fact, Skill, Slots, Task

_WORDS = tuple(dict.fromkeys(word for words in things().values() for word in words if word.isalpha()))
_ITEMS = (*_WORDS, *names("people"))
_PLACES = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
_SYLLABLES = names("syllables")
_CLEAR_KINDS = [kind for kind in things() if kind not in {"gem", "device", "room", "shape"}]
_ALIKE: tuple[set[str], ...] = (
    {"animal", "bird", "fish", "insect"},
    {"food", "drink"},
    {"food", "fruit"},
    {"food", "vegetable"},
    {"fruit", "vegetable"},
    {"tree", "fruit"},
    {"tree", "flower"},
)
_JOINTS = (", ", ", ", ", ", " ")


def _list(rng: Random, low: int, high: int) -> list[str]:
    return rng.sample(_ITEMS, rng.randint(low, high))


def _joined(items: list[str], rng: Random) -> str:
    if len(items) > 1 and rng.random() < 0.3:
        return ", ".join(items[:-1]) + " and " + items[-1]
    return rng.choice(_JOINTS).join(items)


def _item(place: str) -> Fact:
    index = _PLACES[place]

    def fact(rng: Random) -> tuple[Slots, str]:
        items = _list(rng, max(2, index + 1), 6)
        return {"list": _joined(items, rng), "place": place}, items[index]

    return fact


def _count(rng: Random) -> tuple[Slots, str]:
    items = _list(rng, 1, 7)
    return {"list": _joined(items, rng)}, str(len(items))


def _odd_one(rng: Random) -> tuple[Slots, str]:
    common, other = rng.sample(_CLEAR_KINDS, 2)
    while any({common, other} <= alike for alike in _ALIKE):
        common, other = rng.sample(_CLEAR_KINDS, 2)
    odd = rng.choice(things()[other])
    items = [*rng.sample(things()[common], 3), odd]
    rng.shuffle(items)
    return {"list": ", ".join(items)}, odd


def _made_up(rng: Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3)))


def _phrase(rng: Random) -> tuple[Slots, str]:
    words = [rng.choice(_ITEMS) if rng.random() < 0.85 else _made_up(rng) for _ in range(rng.randint(1, 4))]
    text = rng.choice((" ", " ", ", ")).join(words)
    return {"x": text}, text


SKILLS = (
    Skill(
        "item of a list",
        "gives the first, second, third or last word of a short list in the prompt",
        tuple(
            Task.worded("item of a list", _item(place), verbatim=True) for place in ("first", "last", "second", "third")
        ),
        3.0,
        0,
        False,
    ),
    Skill(
        "counting a list",
        "counts the words of a list of one to seven in the prompt",
        (Task.worded("counting a list", _count, verbatim=True),),
        2.2,
        2.6,
    ),
    Skill(
        "odd one out",
        "finds the word that does not belong with three others",
        (Task.worded("odd one out", _odd_one, verbatim=True),),
        3.0,
        0,
        False,
    ),
    Skill(
        "repeating",
        "repeats one to four given words",
        (Task.worded("repeating", _phrase, verbatim=True),),
        3.4,
        3.0,
        False,
    ),
)
