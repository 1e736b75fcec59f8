"""What every guard is: a check that finds places in a text, or one that judges a text as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from phi3tune.errors import UserError
from phi3tune.guardrails.verdict import Action

Side = Literal["input", "output"]
OnError = Literal["block", "pass"]


class CheckError(UserError):
    """A check could not be made: its time was up, or the service that it asks did not answer."""


class Span(NamedTuple):
    """A place in a text, from character `start` to before `end`, and the kind of what is there.

    `since`, at or before `start`, is where the words begin without which it would not be found.
    """

    start: int
    end: int
    what: str
    since: int


@dataclass(frozen=True)
class Rule:
    """How a guard is used: on which side, and what happens when it finds something or cannot look."""

    name: str
    action: Action
    sides: frozenset[Side]
    reply: str
    on_error: OnError


class SpanCheck(ABC):
    """Finds places in a text."""

    @abstractmethod
    def spans(self, text: str, start: int = 0) -> Iterator[Span]:
        """Places from `start` on, in their order, not overlapping. Raises `CheckError`."""

    @abstractmethod
    def settled(self, text: str, start: int) -> int:
        """The first place from `start` on that may be, or begin, something that the text's continuation decides.

        What is found before it stays as it is whatever follows. Raises `CheckError`.
        """


class TextCheck(ABC):
    """Judges a text as a whole."""

    @abstractmethod
    def judge(self, text: str) -> str | None:
        """The kind of what is wrong with a text, or None. Safe from several threads. Raises `CheckError`."""


Check = SpanCheck | TextCheck
