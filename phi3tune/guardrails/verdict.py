"""What a check of a text comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from phi3tune.chat import Message

Action = Literal["flag", "mask", "block"]
Outcome = Literal["pass", "flag", "mask", "block"]


@dataclass(frozen=True)
class Hit:
    """One guard that found something. `what` is the kind of it, such as `email_address`; never the text itself."""

    guard: str
    action: Action
    what: str


@dataclass(frozen=True)
class Verdict:
    """What all guards together say: the strictest of their actions.

    messages  of `check_input`: the chat with what was to be masked replaced
    text      of `check_output`: the answer, likewise
    reason    of a block: one sentence for the person who asked; empty otherwise
    """

    action: Outcome
    hits: tuple[Hit, ...] = ()
    messages: tuple[Message, ...] = ()
    text: str = ""
    reason: str = ""

    @property
    def blocked(self) -> bool:
        return self.action == "block"


def strictest(hits: Sequence[Hit]) -> Outcome:
    """The action of several hits together: block over mask over flag."""
    actions = {hit.action for hit in hits}
    order: tuple[Outcome, ...] = ("block", "mask", "flag")
    return next((action for action in order if action in actions), "pass")
