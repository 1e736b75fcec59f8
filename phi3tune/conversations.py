"""Chats as files: one JSON document with what was said, by which models and with which settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from phi3tune.config import SamplingConfig
from phi3tune.errors import UserError
from phi3tune.paths import write_text

if TYPE_CHECKING:
    from phi3tune.chat import Message

SCHEMA = 1
MAX_BYTES = 4 * 1024**2
MAX_CHATS, MAX_TURNS, MAX_BRANCHES = 8, 2_000, 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Turn(_Part):
    """One message. Of an answer also: the model that gave it, how it ended (stop, length, cancelled, error), and what
    was voted on it and the answers beside it (a model, or one of the other choices of `phi3tune.votes`)."""

    role: Literal["user", "assistant"]
    text: str
    model: str = Field(default="", max_length=500)
    finish: str = Field(default="", max_length=40)
    vote: str = Field(default="", max_length=500)


class Chat(_Part):
    """One conversation with one model: questions and answers in turn, beginning with a question."""

    model: str = Field(default="", max_length=500)
    settings: SamplingConfig = SamplingConfig()
    turns: list[Turn] = Field(default=[], max_length=MAX_TURNS)

    @field_validator("turns")
    @classmethod
    def _alternate(cls, turns: list[Turn]) -> list[Turn]:
        for place, turn in enumerate(turns):
            wanted = "assistant" if place % 2 else "user"
            if turn.role != wanted:
                raise ValueError(f"message {place + 1} is the {turn.role}'s and should be the {wanted}'s")
        return turns

    @model_validator(mode="before")
    @classmethod
    def _from_row(cls, value: Any) -> Any:
        """A row of a dataset in the messages format is a chat, too."""
        if not isinstance(value, dict) or not isinstance(messages := value.get("messages"), list):
            return value
        if not all(isinstance(m, dict) for m in messages):
            raise ValueError("messages is a list of objects with role and content")
        system = "\n".join(str(m.get("content", "")) for m in messages if m.get("role") == "system")
        turns = [{"role": m.get("role"), "text": m.get("content")} for m in messages if m.get("role") != "system"]
        return {"model": value.get("model", ""), "settings": {"system": system}, "turns": turns}


Chats = Annotated[list[Chat], Field(max_length=MAX_CHATS)]


class Conversation(_Part):
    """One or more chats that were held side by side.

    branches  other courses that they took, oldest first
    at        how many of those come before `chats`
    """

    schema_: int = Field(default=SCHEMA, alias="schema")
    format: Literal["phi3tune-conversation"] = "phi3tune-conversation"
    created: float = Field(default_factory=time.time)
    chats: Chats = Field(min_length=1)
    branches: list[Chats] = Field(default=[], max_length=MAX_BRANCHES - 1)
    at: int = Field(default=0, ge=0, le=MAX_BRANCHES - 1)

    @model_validator(mode="before")
    @classmethod
    def _one_chat(cls, value: Any) -> Any:
        if isinstance(value, dict) and "messages" in value:
            return {"chats": [value]}
        return value

    @field_validator("schema_")
    @classmethod
    def _known(cls, schema: int) -> int:
        if schema != SCHEMA:
            raise ValueError(f"this version reads schema {SCHEMA}")
        return schema


def to_json(conversation: Conversation, most_bytes: int = MAX_BYTES) -> str:
    """The text of the file. Where that is longer than `most_bytes`, the oldest branches are left out."""
    while True:
        text = conversation.model_dump_json(by_alias=True, indent=1) + "\n"
        if not conversation.branches or len(text.encode()) <= most_bytes:
            return text
        fewer = {"branches": conversation.branches[1:], "at": max(0, conversation.at - 1)}
        conversation = conversation.model_copy(update=fewer)


def from_json(data: str | bytes, name: str = "the conversation") -> Conversation:
    """A conversation that was written by `to_json`, or one row of a dataset in the messages format.

    Raises `UserError` for anything else, and for more than 4 MB.
    """
    if len(data) > MAX_BYTES:
        raise UserError(f"{name} has {len(data):,} bytes; at most {MAX_BYTES:,} are accepted")
    try:
        return Conversation.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{name} is no conversation of this program{f', at {place}' if place else ''}: {message}; "
            "export one from the playground, or write one JSON object with messages"
        ) from None


def write(path: Path, conversation: Conversation) -> None:
    """Write the file in one step. Raises `UserError` when that is not possible."""
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path} cannot be written: its folder does not exist; make it first")
    try:
        write_text(path, to_json(conversation))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None


def read(path: Path) -> Conversation:
    """`from_json` of a file."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    return from_json(data, path.name)


def messages(chat: Chat) -> list[Message]:
    """What a model is given to go on with a chat."""
    system: list[Message] = (
        [{"role": "system", "content": chat.settings.system}] if chat.settings.system.strip() else []
    )
    return system + [{"role": turn.role, "content": turn.text} for turn in chat.turns]
