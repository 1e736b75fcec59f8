from __future__ import annotations

import json
from pathlib import Path

import pytest

from phi3tune import conversations
from phi3tune.config import SamplingConfig
from phi3tune.conversations import Chat, Conversation, Turn
from phi3tune.errors import UserError


def said(*texts: str) -> list[Turn]:
    return [Turn(role="assistant" if place % 2 else "user", text=text) for place, text in enumerate(texts)]


def test_a_conversation_comes_back_as_it_was(tmp_path: Path) -> None:
    settings = SamplingConfig(system="Be brief.", temperature=0.5, stop=["END"])
    turns = [
        Turn(role="user", text="Hi 🪔"),
        Turn(role="assistant", text="  <b>two</b>\n", model="lamp", finish="stop"),
    ]
    before = Conversation(chats=[Chat(model="lamp", settings=settings, turns=turns), Chat(model="phi3-nano")])
    path = tmp_path / "chat.json"
    conversations.write(path, before)
    after = conversations.read(path)
    assert after == before
    assert conversations.messages(after.chats[0]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi 🪔"},
        {"role": "assistant", "content": "  <b>two</b>\n"},
    ]


def test_a_row_of_a_dataset_is_a_conversation() -> None:
    row = {"messages": [{"role": role, "content": role} for role in ("system", "user", "assistant")]}
    [chat] = conversations.from_json(json.dumps(row)).chats
    assert chat.settings.system == "system"
    assert [turn.text for turn in chat.turns] == ["user", "assistant"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"chats": []}',
        '{"schema": 2, "chats": [{}]}',
        '{"messages": [{"role": "assistant", "content": "first"}]}',
        '{"messages": [{"role": "wizard", "content": "x"}]}',
        '{"messages": [{"role": "user", "content": 5}]}',
        '{"messages": ["x"]}',
        '{"messages": [{"role": "user", "content": "a\\ud800b"}]}',
        '{"chats": [{"settings": {"temperature": 9}}]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_conversation_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as told:
        conversations.from_json(text)
    assert "\n" not in str(told.value) and len(str(told.value)) < 500


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_bytes(b" " * (conversations.MAX_BYTES + 1))
    with pytest.raises(UserError, match="at most"):
        conversations.read(path)
    with pytest.raises(UserError, match="cannot be read"):
        conversations.read(tmp_path / "none.json")
