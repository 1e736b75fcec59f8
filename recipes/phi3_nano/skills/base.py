"""What a skill is, and the rule that keeps its test prompts out of the training text."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias
from zlib import crc32

from ..grammar import expand, spoken
from ..sources import wordings

Slots: TypeAlias = dict[str, str]
Fact: TypeAlias = Callable[[Random], tuple[Slots, str]]

HELD_OUT_SHARE = 16
"""One prompt in this many belongs to the test side."""

_KEPT = re.compile(r"[^a-z0-9+*/-]")
_OPENERS = ("please", "hey,", "ok,", "now", "so", "quick question:", "question:", "hi,", "next question:", "tell me,",
            "hello,", "please tell me:", "my question is:", "well,", "good,", "one more:", "here is one:")  # fmt: skip
_CLOSERS = ("please", "thanks", ", please", ", thank you", "then", "for me")


def plain(prompt: str) -> str:
    """A prompt without what does not tell questions apart: case, spaces and most punctuation."""
    return _KEPT.sub("", prompt.lower())


def is_held_out(prompt: str) -> bool:
    """Whether a prompt may only be tested on."""
    return crc32(plain(prompt).encode()) % HELD_OUT_SHARE == 0


@dataclass(frozen=True)
class Task:
    """One kind of question: its wordings, where its slots and answer come from, and how to ask it again in a chat."""

    wordings: tuple[str, ...]
    fact: Fact
    follow_ups: tuple[str, ...] = ()
    verbatim: bool = False

    @classmethod
    def worded(cls, title: str, fact: Fact, *, verbatim: bool = False) -> "Task":
        """A task with the wordings that data/wordings.txt has under this title."""
        first, follow_ups = wordings(title)
        return cls(first, fact, follow_ups, verbatim)

    def draw(self, rng: Random, *, held_out: bool = False) -> tuple[str, str]:
        """A prompt of the wanted side and its answer."""
        while True:
            slots, answer = self.fact(rng)
            wording = expand(rng.choice(self.wordings), rng)
            if rng.random() < 0.2:
                wording = f"{rng.choice(_OPENERS)} {wording}"
            elif not self.verbatim and rng.random() < 0.06 and wording[-1] not in ":=":
                wording = f"{wording} {rng.choice(_CLOSERS)}".replace(" ,", ",")
            prompt = spoken(wording, slots, rng, verbatim=self.verbatim)
            if is_held_out(prompt) == held_out:
                return prompt, answer

    def draw_follow_up(self, rng: Random) -> tuple[str, str]:
        """A short question that only makes sense after one of this task, and its answer."""
        slots, answer = self.fact(rng)
        return spoken(expand(rng.choice(self.follow_ups), rng), slots, rng), answer


@dataclass(frozen=True)
class Skill:
    """A named ability: one sentence for the model card, its tasks, and its weights in the broad and in the late text.

    A skill that is not `tested` is exercise only: the card does not promise it.
    """

    name: str
    about: str
    tasks: tuple[Task, ...]
    weight: float
    late_weight: float
    tested: bool = True

    def draw(self, rng: Random, *, held_out: bool = False) -> tuple[str, str]:
        """A prompt of one of the tasks and its answer."""
        return rng.choice(self.tasks).draw(rng, held_out=held_out)


def with_article(word: str) -> str:
    """`a dog`, `an apple`."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def from_table(table: dict[str, str], slot: str = "x") -> Fact:
    """A fact that asks for the right side of a random pair."""
    rows = tuple(table.items())

    def fact(rng: Random) -> tuple[Slots, str]:
        left, right = rng.choice(rows)
        return {slot: left}, right

    return fact
