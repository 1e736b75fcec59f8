"""One row of a dataset, read and checked."""

from __future__ import annotations

from dataclasses import dataclass

from phi3tune.chat import Message


@dataclass(frozen=True)
class Conversation:
    """A checked conversation; `row` counts from 0 in `file`, `line` from 1 where the file has lines.

    A row of plain text is one message with the role `text`. `group` is what the dataset says a row belongs to
    (a conversation's id): rows of one group stay in one part.
    """

    messages: tuple[Message, ...]
    row: int
    file: str
    line: int | None = None
    group: str | None = None

    @property
    def prompt_messages(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def reference(self) -> str:
        return self.messages[-1]["content"]
