"""Two conversations with one composer: what was said, and how an answer comes in.

Answers are kept exactly as the model gave them. A pane's error or slowness leaves the other alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from phi3tune.errors import UserError

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.engines.base import Chunk, EngineInfo, Usage

_log = logging.getLogger(__name__)
YIELD_SECONDS = 0.08
Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")


@dataclass
class Turn:
    """One message. Of an answer also: who gave it, how it ended and what it cost."""

    role: Literal["user", "assistant"]
    text: str
    model: str = ""
    finish: str = ""
    error: str = ""
    usage: Usage | None = None
    engine: EngineInfo | None = None


@dataclass
class Pane:
    """One conversation.

    `asked` counts its answers: to an answer that is still coming in, another number means that it was superseded.
    `waiting_for` says what happens before the first word.
    """

    turns: list[Turn] = field(default_factory=list)
    busy: bool = False
    asked: int = 0
    waiting_for: str = ""

    def ask(self, text: str) -> None:
        """Add what the user said and the place of the answer."""
        self.turns += [Turn("user", text), Turn("assistant", "")]
        self._begin()

    def begin(self, earlier: Sequence[Message]) -> None:
        """Start over with a chat that has been: its questions and answers, as if they had been given here."""
        self.clear()
        self.turns = [
            Turn(m["role"], m["content"], finish="stop") for m in earlier if m["role"] in ("user", "assistant")
        ]

    def again(self) -> None:
        """Make room for another answer to the last question."""
        self.turns[-1] = Turn("assistant", "")
        self._begin()

    def _begin(self) -> None:
        self.busy = True
        self.asked += 1
        self.waiting_for = ""

    def stop(self) -> None:
        self.busy = False

    def clear(self) -> None:
        self.stop()
        self.turns = []

    def messages(self, system: str) -> list[Message]:
        """What the model is given: the system prompt and all turns before the open answer.

        A turn that failed or was stopped before its first word is left out with its question, as the
        chat template knows only whole exchanges.
        """
        given: list[Message] = [{"role": "system", "content": system}] if system.strip() else []
        for question, answer in zip(self.turns[:-2:2], self.turns[1:-2:2], strict=True):
            if answer.text:
                given.append({"role": "user", "content": question.text})
                given.append({"role": "assistant", "content": answer.text})
        given.append({"role": "user", "content": self.turns[-2].text})
        return given


@dataclass
class Dialogue:
    """Both panes of one browser page."""

    panes: dict[Side, Pane] = field(default_factory=lambda: {side: Pane() for side in SIDES})

    @property
    def busy(self) -> bool:
        return any(pane.busy for pane in self.panes.values())


Stream = Callable[[Callable[[], bool]], Iterator["Chunk"]]


def answer(pane: Pane, model: str, stream: Stream) -> Iterator[None]:
    """Fill the open answer of a pane from an engine's stream; yields when there is something new to show.

    `stream` is given what tells it to stop. Leaving this generator early (the page was closed) stops it too.
    """
    turn, mine = pane.turns[-1], pane.asked
    turn.model = model
    abandoned = False

    def cancelled() -> bool:
        return abandoned or not pane.busy or pane.asked != mine

    shown = 0.0
    try:
        chunks = stream(cancelled)
        yield
        for chunk in chunks:
            turn.text += chunk.text
            pane.waiting_for = ""
            if chunk.finish_reason is not None:
                turn.finish, turn.usage = chunk.finish_reason, chunk.usage
            if time.monotonic() - shown >= YIELD_SECONDS:
                shown = time.monotonic()
                yield
    except UserError as error:
        turn.error = str(error)
    except Exception:
        # The other pane and the buttons must go on; the traceback still tells of the bug.
        _log.exception("the answer of %s ended with a fault", model)
        turn.error = "An internal fault ended this answer; its traceback is in the terminal."
    finally:
        abandoned = True
        turn.finish = turn.finish or ("error" if turn.error else "cancelled")
        if pane.asked == mine:
            pane.busy = False
    yield


def first_difference(left: str, right: str) -> int | None:
    """Place of the first word, counted from 1, in which two answers differ; None when the words are the same.

    Words, not tokens: the two models may have different vocabularies.
    """
    a, b = left.split(), right.split()
    if a == b:
        return None
    pairs = enumerate(zip(a, b, strict=False), 1)
    return next((place for place, (one, other) in pairs if one != other), min(len(a), len(b)) + 1)
