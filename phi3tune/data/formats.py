"""From the rows of the known dataset shapes to conversations, and every reason to refuse a row."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

from phi3tune.chat import Message, Role, clean
from phi3tune.config import DataFormat
from phi3tune.data import repair
from phi3tune.data.problems import RowError, describe
from phi3tune.errors import UserError

RESERVED = re.compile(r"<\|(?:system|user|assistant|end|endoftext|placeholder\d)\|>")
MAPPED_FIELDS = ("messages", "user", "assistant", "system", "text", "group", "input", "history")
Mend = Callable[[str, str], None]

# Columns of each format: field -> names it may have. The fields of _OPTIONAL are read when they are there.
_FORMATS: dict[str, dict[str, tuple[str, ...]]] = {
    "messages": {"messages": ("messages",)},
    "sharegpt": {"messages": ("conversations", "conversation")},
    "alpaca": {"user": ("instruction",), "assistant": ("output",)},
    "prompt_completion": {"user": ("prompt",), "assistant": ("completion", "response")},
    "question_answer": {"user": ("question",), "assistant": ("answer", "response")},
    "text": {"text": ("text",)},
}
_OPTIONAL = {"alpaca": ("input", "history", "system"), "text": ()}
# Never a plain `id`: it is another one in every row, or says nothing.
_GROUPS = ("conversation_id", "conv_id", "chat_id", "dialog_id", "dialogue_id", "thread_id")
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")
# What columns are called that are most likely a question and its answer, likelier names first.
_LIKELY: dict[str, tuple[str, ...]] = {
    "user": ("user", "human", "prompt", "instruction", "question", "query", "input", "request", "source", "context",
             "sentence", "text", "review", "document", "article"),
    "assistant": ("assistant", "completion", "response", "answer", "output", "target", "reply", "bot", "gpt", "label",
                  "summary", "translation", "category", "sentiment", "class"),
    "system": ("system", "system_prompt"),
}  # fmt: skip
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "prompter": "user",
    "developer": "system",
}
_TOOL_ROLES = {"tool", "function", "function_call", "observation", "tool_call", "tool_response", "ipython"}
_ORDER = "an optional system turn, then user and assistant turns in alternation"


def check_columns(chosen: Mapping[str, str]) -> None:
    """Raise `UserError` when the user's own mapping names unknown or too few fields."""
    unknown = [field for field in chosen if field not in MAPPED_FIELDS]
    if unknown:
        raise UserError(f"--columns field {unknown[0]!r} is not accepted; the fields are {', '.join(MAPPED_FIELDS)}")
    ways = [way for way in (("messages",), ("user", "assistant"), ("text",)) if any(field in chosen for field in way)]
    complete = len(ways) == 1 and all(field in chosen for field in ways[0])
    if not complete and not set(chosen) <= {"group"}:
        raise UserError("--columns must name either messages, or both user and assistant, or text")


def detect(
    columns: Collection[str], format: DataFormat, chosen: Mapping[str, str]
) -> tuple[str, dict[str, str]] | None:
    """The format and its field -> column mapping, or None when the columns fit none.

    `chosen` is the user's own mapping, which `check_columns` accepts; the group alone may be added to a format.
    """
    named = None if "group" in chosen else next((name for name in _GROUPS if name in columns), None)
    group = {"group": named} if named else {}
    if any(column not in columns for column in chosen.values()):
        return None
    if set(chosen) - {"group"}:
        return next((field for field in ("messages", "text") if field in chosen), "columns"), dict(chosen) | group
    for name in _FORMATS if format == "auto" else [format]:
        mapping = {}
        for field, candidates in _FORMATS[name].items():
            if column := next((c for c in candidates if c in columns), None):
                mapping[field] = column
        if len(mapping) == len(_FORMATS[name]):
            optional = {field: field for field in _OPTIONAL.get(name, ("system",)) if field in columns}
            return name, mapping | optional | group | dict(chosen)
    return None


def suggest(row: Mapping[str, Any]) -> dict[str, str]:
    """A guess at the field -> column mapping of a row whose columns fit no format; empty when there is no telling."""
    for column, value in row.items():
        turn = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}
        if {"role", "from"} & turn.keys() and {"content", "value"} & turn.keys():
            return {"messages": column}
    plain = {column.strip().lower(): column for column, value in row.items() if isinstance(value, str)}
    guess: dict[str, str] = {}
    for field, names in _LIKELY.items():
        if likely := next((plain[name] for name in names if name in plain), None):
            guess[field] = likely
    if "user" in guess and "assistant" in guess:
        return guess
    if len(plain) == 2:
        first, second = plain.values()
        return (
            {"user": second, "assistant": first}
            if first == guess.get("assistant")
            else ({"user": first, "assistant": second})
        )
    return {"text": guess["user"]} if len(plain) == 1 and "user" in guess else {}


def media(columns: Collection[str], mapping: Mapping[str, str]) -> list[str]:
    """The columns that hold what is no text and that are not themselves used as text."""
    return [column for column in _MEDIA if column in columns and column not in mapping.values()]


def expected_columns(format: DataFormat, chosen: Mapping[str, str]) -> str:
    """What `detect` looks for, in words."""
    named = " and ".join(repr(column) for column in chosen.values())
    if set(chosen) - {"group"}:
        return named
    names = [f for f in get_args(DataFormat) if f != "auto"] if format == "auto" else [format]
    known = "; or ".join(" with ".join("/".join(c) for c in _FORMATS[name].values()) for name in names)
    return f"{named} beside {known}" if named else known


def convert(row: Mapping[str, Any], mapping: Mapping[str, str], mend: Mend | None = None) -> tuple[Message, ...]:
    """The conversation of a row, contents stripped, checked to be usable for training.

    Raises `RowError` for the first reason why it is not. With `mend`, what can be put right is, and told to it
    as (code, what was done).
    """
    for field in ("messages", "user", "assistant", "text"):
        if field in mapping and mapping[field] not in row:
            found = f"the columns {', '.join(list(row)[:20])}" if row else "no columns"
            expected = f"the column {mapping[field]!r}"
            raise RowError("missing_column", found, expected, "add it, or remove the row")
    if "text" in mapping:
        text = _text(row, mapping["text"])
        if not text:
            raise RowError("empty_content", f"no text in {mapping['text']!r}", "text", "remove the row")
        turns: list[Message] = [{"role": "text", "content": text}]
    else:
        system = _text(row, mapping["system"]) if "system" in mapping else ""
        turns = [{"role": "system", "content": system}] if system else []
        if "messages" in mapping:
            value = row[mapping["messages"]]
            if mend is not None and isinstance(value, str):
                value = repair.parsed(value, mend)
            turns += _turns(value, mapping["messages"])
        else:
            turns += _pair(row, mapping)
        turns = [turn for turn in turns if turn["content"] or turn["role"] != "system"]
        if mend is not None:
            turns = repair.order(turns, mend)
        _check(turns)
    for turn in turns:
        if not turn["content"].isascii():
            turn["content"] = _whole(turn["content"], mend)
    return tuple(turns)


def _whole(text: str, mend: Mend | None) -> str:
    """Text without halves of characters; with `mend`, mojibake is put right, too."""
    try:
        text.encode()
    except UnicodeEncodeError:
        if mend is None:
            raise RowError(
                "bad_unicode", "half of a surrogate pair", "whole characters", "write the text again"
            ) from None
        mend("bad_unicode", "halves of surrogate pairs replaced by U+FFFD")
        text = clean(text)
    return text if mend is None else repair.mojibake(text, mend)


def group_of(row: Mapping[str, Any], mapping: Mapping[str, str]) -> str | None:
    """What the row says it belongs to, as text."""
    value = row.get(mapping.get("group", ""))
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    return clean(value) if isinstance(value, str) else json.dumps(value, default=str)


def _pair(row: Mapping[str, Any], mapping: Mapping[str, str]) -> list[Message]:
    turns: list[Message] = []
    if row.get(mapping.get("history", "")):
        turns += _history(row[mapping["history"]])
    for role in ("user", "assistant"):
        column = mapping[role]
        if isinstance(row[column], list):
            turns += _turns(row[column], column)
            continue
        text = _text(row, column)
        if not text:
            raise RowError("empty_content", f"no text in {column!r}", "text", "fill it in, or remove the row")
        if role == "user" and "input" in mapping and (extra := _text(row, mapping["input"])):
            text = f"{text}\n{extra}"
        turns.append({"role": role, "content": text})
    return turns


def _history(value: Any) -> list[Message]:
    turns: list[Message] = []
    if not isinstance(value, list):
        raise RowError("bad_messages", f"{describe(value)} in 'history'", "a list of pairs", "correct the row")
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            expected = "pairs of a question and an answer"
            raise RowError("bad_messages", f"{describe(pair)} in 'history'", expected, "correct the row")
        turns.append({"role": "user", "content": pair[0].strip()})
        turns.append({"role": "assistant", "content": pair[1].strip()})
    return turns


def _text(row: Mapping[str, Any], column: str) -> str:
    """A cell's text; empty for null and for the NaN that table programs write into empty cells."""
    value = row.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        found = f"{describe(value)} in {column!r}"
        raise RowError("unsupported_column", found, "text", "write the value as text, or choose another column")
    return value.strip()


def _turns(value: Any, column: str) -> list[Message]:
    if not isinstance(value, list):
        raise RowError("bad_messages", f"{describe(value)} in {column!r}", "a list of turns", "correct the row")
    if not value:
        raise RowError("bad_messages", f"an empty list in {column!r}", "at least two turns", "remove the row")
    return [_turn(turn, number) for number, turn in enumerate(value, start=1)]


def _turn(turn: Any, number: int) -> Message:
    if not isinstance(turn, dict):
        found = f"{describe(turn)} as turn {number}"
        raise RowError("bad_messages", found, "an object with role and content", "correct the turn")
    given = turn.get("role", turn.get("from"))
    name = given.strip().lower() if isinstance(given, str) else ""
    if name in _TOOL_ROLES or turn.get("tool_calls") or turn.get("function_call"):
        found = f"a tool call or result (role {describe(given)}) as turn {number}"
        raise RowError("unsupported_content", found, "text turns only", "remove the row")
    role = _ROLES.get(name)
    if role is None:
        found = f"role {describe(given)} in turn {number}" if given is not None else f"no role in turn {number}"
        raise RowError("bad_role", found, "system, user (human) or assistant (gpt, bot, ai)", "correct the role")
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list):
        content = "".join(_part(part, number) for part in content)
    if content is None:
        raise RowError("empty_content", f"no content in turn {number}", "text", "fill it in, or remove the row")
    if not isinstance(content, str):
        found = f"{describe(content)} as content of turn {number}"
        raise RowError("unsupported_content", found, "text", "write the content as text")
    if turn.get("weight") == 0:
        found = f"weight 0 in turn {number}"
        raise RowError("unsupported_content", found, "answers that are all trained on", "remove the turn or its weight")
    return {"role": role, "content": content.strip()}


def _part(part: Any, number: int) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
    if not isinstance(text, str):
        kind = describe(part.get("type")) if isinstance(part, dict) else describe(part)
        found = f"a part of type {kind} in turn {number}"
        raise RowError("unsupported_content", found, "text parts only", "remove the part or the row")
    return text


def _check(turns: list[Message]) -> None:
    if not any(turn["role"] == "assistant" for turn in turns):
        raise RowError("no_target", "no assistant turn", "an answer to learn", "add the answer, or remove the row")
    wanted = "user"
    for number, turn in enumerate(turns, start=1):
        role = turn["role"]
        if role == "system" and number == 1:
            continue
        if role != wanted:
            found = f"{role} as turn {number} where {wanted} belongs"
            raise RowError("role_order", found, _ORDER, "correct the order, or remove the row")
        if not turn["content"]:
            found = f"a blank {role} turn ({number})"
            raise RowError("empty_content", found, "text", "fill it in, or remove the row")
        wanted = "assistant" if role == "user" else "user"
    if turns[-1]["role"] == "user":
        expected = "an assistant turn at the end"
        raise RowError("no_target", "a user turn at the end", expected, "add the answer, or remove the last turn")
