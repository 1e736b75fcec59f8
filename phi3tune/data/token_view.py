"""One row as the exact token sequence that training is given."""

from __future__ import annotations

from pydantic import BaseModel

from phi3tune.chat import NO_LOSS, Renderer
from phi3tune.config import DatasetConfig, Part
from phi3tune.data.conversation import Conversation
from phi3tune.data.index import FilePart
from phi3tune.data.load import load
from phi3tune.data.source import Source
from phi3tune.errors import UserError
from phi3tune.paths import Workspace


class Token(BaseModel):
    """`learned`: takes part in the loss. `special`: no text of the row. `cut`: beyond the longest length."""

    id: int
    text: str
    learned: bool
    special: bool
    cut: bool


def tokens(conversation: Conversation, renderer: Renderer, max_length: int) -> list[Token]:
    """Every token of a row in order: ids and loss are those of `Renderer.training_example`."""
    example = renderer.training_example(conversation.messages)
    special = renderer.special_ids
    return [
        Token(
            id=i, text=piece, learned=label != NO_LOSS and at < max_length, special=i in special, cut=at >= max_length
        )
        for at, (i, label, piece) in enumerate(
            zip(example.input_ids, example.labels, renderer.pieces(example.input_ids), strict=True)
        )
    ]


def find_row(config: DatasetConfig, workspace: Workspace, row: int, part: Part | None = None) -> Conversation:
    """Row number `row` (from 0) of the first file, or of a part after the division. Raises `UserError` without it."""
    if part is not None:
        rows = load(config, workspace).parts[part]
        if 0 <= row < len(rows):
            return rows[row]
        raise UserError(f"--row {row} is not in the {part} part; it has the rows 0 to {len(rows) - 1}")
    source = Source(config, workspace)
    first: FilePart | None = None
    for file_part, conversation in source.read():
        first = first or file_part
        if file_part != first or conversation.row > row:
            break
        if conversation.row == row:
            return conversation
    raise UserError(f"--row {row} is not a row of {source.name!r} that can be read; rows count from 0")
