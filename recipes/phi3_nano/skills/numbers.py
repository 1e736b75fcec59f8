"""Skills on whole numbers: sums, comparing, even and odd, counting on."""

from random import Random

from ..sources import names
from .base import Fact, Skill, Slots, Task

_GOODS = names("goods")


def _sum(high: int) -> Fact:
    def fact(rng: Random) -> tuple[Slots, str]:
        a, b = rng.randrange(high + 1), rng.randrange(high + 1)
        return {"a": str(a), "b": str(b), "goods": rng.choice(_GOODS)}, str(a + b)

    return fact


def _difference(high: int) -> Fact:
    def fact(rng: Random) -> tuple[Slots, str]:
        a, b = sorted((rng.randrange(high + 1), rng.randrange(high + 1)), reverse=True)
        return {"a": str(a), "b": str(b), "goods": rng.choice(_GOODS)}, str(a - b)

    return fact


def _product(rng: Random) -> tuple[Slots, str]:
    a, b = rng.randrange(11), rng.randrange(11)
    return {"a": str(a), "b": str(b), "goods": rng.choice(_GOODS)}, str(a * b)


def _two(rng: Random) -> tuple[int, int]:
    a, b = rng.sample(range(101), 2)
    if rng.random() < 0.3:
        b = max(0, min(100, a + rng.choice((-9, -3, -2, -1, 1, 2, 3, 10))))
        b = b if b != a else (a + 1) % 101
    return a, b


def _bigger(rng: Random) -> tuple[Slots, str]:
    a, b = _two(rng)
    return {"a": str(a), "b": str(b)}, str(max(a, b))


def _smaller(rng: Random) -> tuple[Slots, str]:
    a, b = _two(rng)
    return {"a": str(a), "b": str(b)}, str(min(a, b))


def _parity(rng: Random) -> tuple[Slots, str]:
    number = rng.randrange(101)
    return {"x": str(number)}, "odd" if number % 2 else "even"


def _after(rng: Random) -> tuple[Slots, str]:
    number = rng.randrange(100)
    return {"x": str(number)}, str(number + 1)


def _before(rng: Random) -> tuple[Slots, str]:
    number = rng.randrange(1, 101)
    return {"x": str(number)}, str(number - 1)


SKILLS = (
    Skill("larger sums", "adds two whole numbers from 0 to 20", (Task.worded("addition", _sum(20)),), 2.2, 0, False),
    Skill(
        "larger differences",
        "takes a whole number from another, both from 0 to 20",
        (Task.worded("subtraction", _difference(20)),),
        2.2,
        0,
        False,
    ),
    Skill("times tables", "multiplies 0 to 10", (Task.worded("multiplication", _product),), 1.6, 0, False),
    Skill(
        "bigger number",
        "says which of two numbers from 0 to 100 is bigger or smaller",
        (Task.worded("bigger number", _bigger), Task.worded("smaller number", _smaller)),
        1.6,
        0,
        False,
    ),
    Skill(
        "even or odd",
        "says whether a number from 0 to 100 is even or odd",
        (Task.worded("even or odd", _parity),),
        1.0,
        1.5,
    ),
    Skill(
        "counting on",
        "says which number comes right after or before one from 0 to 100",
        (Task.worded("number after", _after), Task.worded("number before", _before)),
        1.2,
        0,
        False,
    ),
    Skill("addition", "adds two whole numbers from 0 to 10", (Task.worded("addition", _sum(10)),), 0, 3.0),
    Skill(
        "subtraction",
        "takes a whole number from another, both from 0 to 10, never below zero",
        (Task.worded("subtraction", _difference(10)),),
        0,
        2.6,
    ),
)
