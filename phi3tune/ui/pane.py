"""One conversation: what was said, and how an answer comes in; and where answers part.

Answers are kept exactly as the model gave them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from phi3tune.config import SamplingConfig
from phi3tune.errors import UserError
from phi3tune.ui.words import t

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.engines.base import Chunk, EngineInfo, Usage
    from phi3tune.guardrails import Hit

_log = logging.getLogger(__name__)
YIELD_SECONDS = 0.08


@dataclass
class Turn:
    """One message. Of an answer also: who gave it to what, how it ended, what it cost, and what was voted on it."""

    role: Literal["user", "assistant"]
    text: str
    model: str = ""
    finish: str = ""
    error: str = ""
    usage: Usage | None = None
    engine: EngineInfo | None = None
    asked: SamplingConfig | None = None
    token_ids: list[int] = field(default_factory=list)
    hits: tuple[Hit, ...] = ()
    vote: str = ""


@dataclass
class Pane:
    """One conversation.

    `asked` counts its answers: to an answer that is still coming in, another number means that it was superseded.
    `taken` is the answer that somebody is filling. `waiting_for` says what happens before the first word, and `loaded`
    which share of the model is in memory where it is being loaded.
    """

    turns: list[Turn] = field(default_factory=list)
    busy: bool = False
    asked: int = 0
    taken: int = 0
    waiting_for: str = ""
    loaded: float | None = None

    def ask(self, text: str, model: str = "", config: SamplingConfig | None = None) -> None:
        """Add what the user said and the place of the answer."""
        self.turns = [*self.turns, Turn("user", text), Turn("assistant", "", model, asked=config)]
        self._begin()

    def begin(self, earlier: Sequence[Message]) -> None:
        """Start over with a chat that has been: its questions and answers, as if they had been given here."""
        self.clear()
        self.turns = [
            Turn(m["role"], m["content"], finish="stop") for m in earlier if m["role"] in ("user", "assistant")
        ]

    def again(self, model: str = "", config: SamplingConfig | None = None) -> None:
        """Make room for another answer to the last question."""
        self.turns = [*self.turns[:-1], Turn("assistant", "", model, asked=config)]
        self._begin()

    def _begin(self) -> None:
        self.busy = True
        self.asked += 1
        self.wait("")

    def wait(self, what: str, loaded: float | None = None) -> None:
        """Note what happens before the first word."""
        self.waiting_for, self.loaded = what, loaded

    def take(self) -> bool:
        """True for the one who is to fill the open answer."""
        if not self.busy or self.taken == self.asked:
            return False
        self.taken = self.asked
        return True

    def stop(self) -> None:
        self.busy = False

    def clear(self) -> None:
        self.stop()
        self.turns = []

    def messages(self, system: str, before: int | None = None) -> list[Message]:
        """What the model is given: the system prompt and all turns before the answer at `before`, the last one if None.

        A turn that failed or was stopped before its first word is left out with its question, as the
        chat template knows only whole exchanges.
        """
        place = len(self.turns) - 1 if before is None else before
        given: list[Message] = [{"role": "system", "content": system}] if system.strip() else []
        earlier = self.turns[: place - 1]
        for question, answer in zip(earlier[::2], earlier[1::2], strict=True):
            if answer.text:
                given.append({"role": "user", "content": question.text})
                given.append({"role": "assistant", "content": answer.text})
        given.append({"role": "user", "content": self.turns[place - 1].text})
        return given

    def answers(self, place: int) -> bool:
        """Whether there is an ended answer at this place."""
        return 0 < place < len(self.turns) and place % 2 == 1 and not (self.busy and place == len(self.turns) - 1)


Stream = Callable[[Callable[[], bool]], Iterator["Chunk | None"]]


def answer(pane: Pane, stream: Stream) -> Iterator[None]:
    """Fill the open answer of a pane from an engine's stream; yields when there is something new to show.

    `stream` is given what tells it to stop, and may yield None while nothing comes. Leaving this generator early (the
    page was closed) stops it too.
    """
    turn, mine = pane.turns[-1], pane.asked
    abandoned = False

    def cancelled() -> bool:
        return abandoned or not pane.busy or pane.asked != mine

    shown = 0.0
    try:
        chunks = stream(cancelled)
        yield
        for chunk in chunks:
            if chunk is None:
                if cancelled():
                    break
                yield
                continue
            turn.text += chunk.text
            turn.token_ids += chunk.token_ids
            pane.wait("")
            if chunk.finish_reason is not None:
                turn.finish, turn.usage = chunk.finish_reason, chunk.usage
            if time.monotonic() - shown >= YIELD_SECONDS:
                shown = time.monotonic()
                yield
    except UserError as error:
        turn.error = str(error)
    except Exception:
        # The other panes and the buttons must go on; the traceback still tells of the bug.
        _log.exception("the answer of %s ended with a fault", turn.model)
        turn.error = t("An internal fault ended this answer; its traceback is in the terminal.")
    finally:
        abandoned = True
        turn.finish = turn.finish or ("error" if turn.error else "cancelled")
        if pane.asked == mine:
            pane.busy = False
    yield


@dataclass(frozen=True)
class Difference:
    """Where answers part: the word, counted from 1, and for each of them the place of its first other word.

    Words, not tokens: the models may have different vocabularies.
    """

    word: int
    places: tuple[tuple[int, int], ...]


def first_difference(texts: Sequence[str]) -> Difference | None:
    """The first word in which the texts are not all the same; None where all their words are."""
    words = [_words(text) for text in texts]
    for word in range(max((len(each) for each in words), default=0)):
        found = [
            each[word] if word < len(each) else ("", len(text), len(text))
            for each, text in zip(words, texts, strict=True)
        ]
        if len({text for text, _, _ in found}) > 1:
            return Difference(word + 1, tuple((start, end) for _, start, end in found))
    return None


def _words(text: str) -> list[tuple[str, int, int]]:
    """Each word of a text with where it begins and ends."""
    found, end = [], 0
    for word in text.split():
        start = text.index(word, end)
        end = start + len(word)
        found.append((word, start, end))
    return found
