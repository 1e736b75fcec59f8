"""A small template language: `[a|b|]` picks one alternative, `{name}` is a slot; brackets nest."""

import re
from functools import cache
from random import Random
from typing import TypeAlias

Node: TypeAlias = "str | tuple[tuple[Node, ...], ...]"

_QUESTION = re.compile(
    r"(?:^|[,:;] )(?:and )?(?:what|which|who|whose|how|is|are|am|can|could|do|does|did|when|where|why|may|will|would|"
    r"should|whats|what's|was|were|from what|with which|to which|has|have you|in which|on which|of what|shall)\b",
    re.IGNORECASE,
)
_SPACES = re.compile(r"\s+")
_TYPO_WORD = re.compile(r"(?<![{\w])[a-z]{4,}(?![}\w])")


@cache
def _parse(template: str) -> tuple[Node, ...]:
    """Turns a template into literal text and choices; raises ValueError when its brackets do not match."""
    stack: list[list[list[Node]]] = [[[]]]
    for piece in re.split(r"([\[\]|])", template):
        if piece == "[":
            stack.append([[]])
        elif piece == "|" and len(stack) > 1:
            stack[-1].append([])
        elif piece == "]":
            if len(stack) == 1:
                raise ValueError(f"unmatched ']' in template {template!r}")
            choice = tuple(tuple(branch) for branch in stack.pop())
            stack[-1][-1].append(choice)
        elif piece:
            stack[-1][-1].append(piece)
    if len(stack) != 1:
        raise ValueError(f"unmatched '[' in template {template!r}")
    return tuple(stack[0][0])


def _pick(nodes: tuple[Node, ...], rng: Random) -> str:
    return "".join(node if isinstance(node, str) else _pick(rng.choice(node), rng) for node in nodes)


def expand(template: str, rng: Random) -> str:
    """One text of the template, slots left in place, spaces tidied."""
    text = _SPACES.sub(" ", _pick(_parse(template), rng)).strip()
    return text.replace(" ,", ",")


def literals(template: str) -> list[str]:
    """Every literal piece of a template, for checks on the recipe's own words."""

    def walk(nodes: tuple[Node, ...]) -> list[str]:
        found: list[str] = []
        for node in nodes:
            if isinstance(node, str):
                found.append(node)
            else:
                for branch in node:
                    found.extend(walk(branch))
        return found

    return walk(_parse(template))


def fill(text: str, slots: dict[str, str]) -> str:
    """Replaces every `{name}` by its value."""
    for name, value in slots.items():
        text = text.replace("{" + name + "}", value)
    return text


def capitalised(text: str) -> str:
    """The text with a capital first letter, the rest untouched."""
    return text[:1].upper() + text[1:]


def is_question(text: str) -> bool:
    """Whether some clause of the text starts like an English question."""
    return bool(_QUESTION.search(text))


def _typo(text: str, rng: Random) -> str:
    """Drops, doubles or swaps one letter in one longer word outside the slots."""
    words = list(_TYPO_WORD.finditer(text))
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    edit = rng.randrange(3)
    if edit == 0:
        return text[:at] + text[at + 1 :]
    if edit == 1:
        return text[:at] + text[at] + text[at:]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def spoken(wording: str, slots: dict[str, str], rng: Random, *, verbatim: bool = False) -> str:
    """Writes an expanded wording as people type it: tidy, in lower case, without a stop, now and then with a typo.

    With `verbatim`, only the wording varies: slot values keep their case and nothing follows the last word.
    """
    if rng.random() < 0.05:
        wording = _typo(wording, rng)
    style = rng.random()
    if style < 0.6:
        wording = capitalised(wording)
        if wording.startswith("{"):
            name = wording[1 : wording.index("}")]
            if not verbatim and name in slots:
                slots = slots | {name: capitalised(slots[name])}
    text = fill(wording, slots)
    if verbatim:
        return text
    if style > 0.8:
        text = text.lower()
    if style < 0.45 or 0.6 < style < 0.7 or style > 0.94:
        last = text[-1]
        if last not in ".?!=:":
            text += "?" if is_question(text) else rng.choice("...!") if style < 0.05 else "."
    return text
