"""Skills on a list of words given in the prompt: picking, counting, repeating, the odd one out."""

from random import Random

from ..sources import names, things
from .base import Fact, Skill, Slots, Task

_WORDS = tuple(dict.fromkeys(word for words in things().values() for word in words if word.isalpha()))
_ITEMS = (*_WORDS, *(name for name in names("people")))
_PLACES = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
_SYLLABLES = "ba be bi bo ka ke ki ko la le li lo ma me mi mo na ne no ra re ri ro sa se so ta te ti to va ve wa za zo".split()
_JOINTS = (", ", ", ", ", ", " ", ",")


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
    common, other = rng.sample([kind for kind in things() if kind not in {"gem", "device", "room", "shape"}], 2)
    while {common, other} <= {"animal", "bird", "fish", "insect"} or {common, other} in ({"tree", "flower"}, {"fruit", "vegetable"}, {"food", "drink"}, {"tree", "fruit"}, {"food", "vegetable"}, {"food", "fruit"}):  # fmt: skip
        common, other = rng.sample([kind for kind in things() if kind not in {"gem", "device", "room", "shape"}], 2)
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


def _picks(place: str) -> Task:
    ends = ("which [word|item|one] is [the|] {place}: {list}", "{list}: [which one is|what is] [the|] {place}", "which [word|item|one] comes {place}: {list}")
    return Task(("what is the {place} [word|item|thing|one] in [this list|the list|]: {list}", "[name|say|give me|tell me|pick|repeat] the {place} [word|item|thing|one]: {list}",
                 "the {place} [word|item] of {list}", "[name|give me|tell me] the {place} [word|item] [of|in|from] [the list|]: {list}", "{place} [word|item]: {list}",
                 "[here is a list|list]: {list}. what is the {place} [word|item|one]", "what is the {place} [word|item|one] [of|in] {list}", *ends), _item(place), verbatim=True)  # fmt: skip


SKILLS = (
    Skill("item of a list", "gives the first, second, third or last word of a short list in the prompt", (
        _picks("first"), _picks("last"), _picks("second"), _picks("third"),
    ), 3.0),
    Skill("counting a list", "counts the words of a list of one to seven in the prompt", (
        Task(("how many [words|items|things] are [there|here|in this list|in the list]: {list}", "count the [words|items|things]: {list}", "count these [words|items|]: {list}", "{list}: how many [words|items|things] is that",
              "how many [words|items|things] [do you see|are these|is this]: {list}", "how long is this list: {list}", "[here is a list|list]: {list}. how many [words|items] are in it",
              "tell me how many [words|items|things] there are: {list}", "count: {list}"), _count, verbatim=True),
    ), 2.2),
    Skill("odd one out", "finds the word that does not belong with three others", (
        Task(("which [word|one|thing|of these] does not [belong|fit|belong here|fit in]: {list}", "[find|name|pick|tell me|which is|what is] the odd one out: {list}", "odd one out: {list}", "{list}: which [one|word] does not [fit|belong]",
              "which [word|one] is different: {list}", "which [word|one] is the odd one [out|] [of|in|among]: {list}", "what does not belong [here|]: {list}", "one word does not fit, which one: {list}",
              "who is the odd one out: {list}"), _odd_one, verbatim=True),
    ), 3.0),
    Skill("repeating", "repeats one to four given words", (
        Task(("[repeat|say|copy|write|echo|repeat after me|say after me|please repeat|print|type]: {x}", "[repeat|copy|echo] this: {x}", "[repeat|copy] [the words|these words|the word|the text]: {x}", "say this: {x}",
              "[please|can you] [repeat|copy|echo] {x}", "repeat {x}", "can you say: {x}", "say this [again|back to me]: {x}", "write down: {x}", "copy {x}"), _phrase, verbatim=True),
    ), 2.4),
)  # fmt: skip
