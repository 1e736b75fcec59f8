"""Skills on whole numbers: sums, comparing, even and odd, counting on."""

from random import Random

from .base import Skill, Slots, Task

_GOODS = "apples books coins eggs pens stamps marbles cakes cards stones balls sweets pencils shells".split()


def _sum(rng: Random) -> tuple[Slots, str]:
    a, b = rng.randrange(21), rng.randrange(21)
    return {"a": str(a), "b": str(b), "goods": rng.choice(_GOODS)}, str(a + b)


def _difference(rng: Random) -> tuple[Slots, str]:
    a, b = sorted((rng.randrange(21), rng.randrange(21)), reverse=True)
    return {"a": str(a), "b": str(b), "goods": rng.choice(_GOODS)}, str(a - b)


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
    Skill("addition", "adds two whole numbers from 0 to 20", (
        Task(("{a} + {b}", "{a}+{b}", "[what is|what's|how much is|calculate|work out|solve|compute|whats] {a} + {b}",
              "[what is|what's|how much is|calculate|work out|solve|find] {a} plus {b}", "{a} plus {b}", "{a} + {b} =",
              "{a}+{b}=", "{a} plus {b} [is what|is|makes|equals]", "[add|sum up|add up] {a} and {b}", "add {b} to {a}",
              "[what is|tell me|find|give me] the [sum|total] of {a} and {b}", "what do {a} and {b} make [together|]",
              "what do you get [if|when] you add {a} and {b}", "what is {a} and {b} [added|together]",
              "[I have|Tom has|she has|we have|he has|Anna has] {a} {goods} and [get|gets|buy|buys|find|finds] {b} more, "
              "how many [{goods}|] [are there|are there now|is that|in total]", "what is {a}+{b}", "how much is {a}+{b}",
              "what does {a} + {b} [equal|make|give]", "can you [add|sum] {a} and {b}", "what is {b} more than {a}"),
             _sum, ("and {a} + {b}", "and {a} plus {b}", "what about {a} + {b}", "now {a} + {b}")),
    ), 2.2),
    Skill("subtraction", "takes a whole number from another, both from 0 to 20, never below zero", (
        Task(("{a} - {b}", "{a}-{b}", "[what is|what's|how much is|calculate|work out|solve|compute|whats] {a} - {b}",
              "[what is|what's|how much is|calculate|work out|solve|find] {a} minus {b}", "{a} minus {b}", "{a} - {b} =",
              "{a}-{b}=", "[subtract|take] {b} from {a}", "take {b} away from {a}", "{a} minus {b} [is what|is|equals]",
              "what is the difference between {a} and {b}", "what is left [if|when] you take {b} from {a}",
              "[I have|Tom has|she has|we have|he has] {a} {goods} and [lose|loses|eat|eats|give away|gives away] {b}, "
              "how many [{goods}|] [are left|are left over|remain]", "what is {a}-{b}", "what is {a} take away {b}",
              "what does {a} - {b} [equal|make|give]", "can you subtract {b} from {a}", "what is {b} less than {a}"),
             _difference, ("and {a} - {b}", "and {a} minus {b}", "what about {a} - {b}", "now {a} - {b}")),
    ), 2.2),
    Skill("multiplication", "knows the times tables from 0 to 10", (
        Task(("{a} x {b}", "{a} * {b}", "{a}*{b}", "[what is|what's|how much is|calculate|work out|solve] {a} x {b}",
              "[what is|what's|how much is|calculate|work out|solve|compute] {a} times {b}", "{a} times {b}",
              "{a} x {b} =", "[what is|how much is|calculate] {a} * {b}", "multiply {a} [by|and|with] {b}",
              "[what is|tell me|give me|find] the product of {a} and {b}", "what is {a} multiplied by {b}",
              "what do you get [if|when] you multiply {a} by {b}", "{a} times {b} [is what|is|makes|equals]",
              "there are {a} bags with {b} {goods} in each, how many {goods} is that", "can you multiply {a} by {b}"),
             _product, ("and {a} times {b}", "and {a} x {b}", "what about {a} times {b}", "now {a} x {b}")),
    ), 1.6),
    Skill("bigger number", "says which of two numbers from 0 to 100 is bigger or smaller", (
        Task(("which [number is|one is|is] [bigger|larger|greater|higher|more], {a} or {b}", "what is [bigger|more|larger], {a} or {b}",
              "which is the [bigger|larger|greater|higher] [number|one], {a} or {b}", "is {a} or {b} [bigger|larger|greater|more]",
              "[name|tell me|pick|give me|say|choose] the [bigger|larger|greater|higher] [number|one] of {a} and {b}", "{a} or {b}, which [number|] is [bigger|larger|more]",
              "[tell me|say] which [number|one] is [bigger|larger|greater], {a} or {b}", "the bigger one of {a} and {b} is"),
             _bigger, ("and of {a} and {b}", "what about {a} and {b}", "and {a} or {b}")),
        Task(("which [number is|one is|is] [smaller|lower|less], {a} or {b}", "what is [smaller|less|lower], {a} or {b}",
              "which is the [smaller|lower] [number|one], {a} or {b}", "is {a} or {b} [smaller|lower|less]",
              "[name|tell me|pick|give me|say|choose] the [smaller|lower] [number|one] of {a} and {b}", "{a} or {b}, which [number|] is [smaller|less|lower]",
              "[tell me|say] which [number|one] is [smaller|lower], {a} or {b}", "the smaller one of {a} and {b} is"),
             _smaller, ("and of {a} and {b}", "what about {a} and {b}", "and {a} or {b}")),
    ), 1.6),
    Skill("even or odd", "says whether a number from 0 to 100 is even or odd", (
        Task(("is {x} [even or odd|odd or even|an even or an odd number]", "is the number {x} [even or odd|odd or even]", "{x}: [even or odd|odd or even]",
              "[tell me|say|check|decide] [if|whether] {x} is [even or odd|odd or even]", "what is {x}, [even or odd|odd or even]",
              "is {x} an odd number or an even [number|one]", "even or odd: {x}", "odd or even: {x}", "{x}, [even or odd|odd or even]",
              "would you say [that|] {x} is [even or odd|odd or even]", "what kind of number is {x}, [odd or even|even or odd]"),
             _parity, ("and {x}", "what about {x}", "how about {x}", "and the number {x}")),
    ), 1.0),
    Skill("counting on", "says which number comes right after or before one from 0 to 100", (
        Task(("what [number|] [comes|is] [right|] after {x}", "which number [comes|follows|is] [right|] after {x}", "what [is|comes] next after {x}",
              "[tell me|name|say|give me] the [number|one] after {x}", "what is the [next number|number] after {x}", "count on from {x} by one",
              "which number follows {x}", "what comes after the number {x}", "what is one more than {x}", "the number after {x}"),
             _after, ("and after {x}", "what about after {x}", "and what comes after {x}")),
        Task(("what [number|] [comes|is] [right|just|] before {x}", "which number [comes|is] [right|just|] before {x}", "the number before {x}",
              "[tell me|name|say|give me] the [number|one] before {x}", "what is the [number|one] before {x}", "count back from {x} by one",
              "what comes before the number {x}", "what is one less than {x}"),
             _before, ("and before {x}", "what about before {x}", "and what comes before {x}")),
    ), 1.2),
)  # fmt: skip
