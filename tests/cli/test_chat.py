"""The terminal chat, with an engine that says what it was asked."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phi3tune import conversations, engines, presets
from phi3tune.cli import main
from phi3tune.config import SamplingConfig
from phi3tune.engines.base import Chunk, Request, Usage
from phi3tune.paths import Workspace


class Echo:
    """Answers with the number of messages it was given and the last one."""

    info = SimpleNamespace(can=frozenset({"messages"}))

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def stream(self, request: Request, cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        self.requests.append(request)
        messages = list(request.messages or ())
        yield Chunk(f"{len(messages)}: ", ())
        yield Chunk(messages[-1]["content"], (), "stop", Usage(3, 0, 2, 0.1, 20.0))

    def close(self) -> None:
        pass


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    engine = Echo()
    monkeypatch.setattr(engines, "open_engine", lambda ref: engine)
    return engine


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(*lines: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    return put


def asked(request: Request) -> list[str]:
    return [message["content"] for message in request.messages or ()]


def test_a_chat_goes_on_from_turn_to_turn(echo: Echo, typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    typed("one", "two")
    assert main(["chat"]) == 0
    assert capsys.readouterr().out == "1: one\n3: two\n"
    assert asked(echo.requests[1]) == ["one", "1: one", "two"]


def test_commands(echo: Echo, typed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "chat.json"
    typed("one", "/system Be brief.", "/regenerate", "two", "/undo", f"/save {path}", "/reset", "three", "/help")
    assert main(["chat", "--seed", "4"]) == 0
    assert [asked(request) for request in echo.requests] == [
        ["one"],
        ["Be brief.", "one"],
        ["Be brief.", "one", "2: one", "two"],
        ["Be brief.", "three"],
    ]
    assert [request.sampling.seed for request in echo.requests] == [4, 5, 5, 5]
    [saved] = json.loads(path.read_text())["chats"]
    assert [turn["text"] for turn in saved["turns"]] == ["one", "2: one"]
    assert "/regenerate" in capsys.readouterr().err


def test_a_saved_chat_and_a_preset_are_taken_up(echo: Echo, typed: Any, tmp_path: Path, workspace: Workspace) -> None:
    turns = [{"role": "user", "text": "one"}, {"role": "assistant", "text": "1"}, {"role": "user", "text": "lost"}]
    saved = {"schema": 1, "chats": [{"settings": {"system": "Old.", "top_k": 3}, "turns": turns}]}
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(saved))
    presets.save("Warm", SamplingConfig(system="Warm.", temperature=0.5, top_p=0.9), workspace)
    typed("two")
    assert main(["chat", "--load", str(path), "--preset", "Warm", "--top-p", "0.8"]) == 0
    [request] = echo.requests
    assert asked(request) == ["Warm.", "one", "1", "two"]
    assert (request.sampling.temperature, request.sampling.top_p) == (0.5, 0.8)
    assert conversations.read(path).chats[0].settings.system == "Old."


@pytest.mark.parametrize("line", ["/regenerate", "/undo", "/save", "/dance", "/save /no/such/folder/x.json"])
def test_a_command_that_cannot_be_done_is_the_users_mistake(
    line: str, echo: Echo, typed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(line)
    assert main(["chat"]) == 2
    assert capsys.readouterr().err.count("\n") == 2  # what is loaded, and the mistake


def test_on_a_terminal_a_mistake_does_not_end_the_chat(
    echo: Echo, typed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed("/dance", "one")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert main(["chat"]) == 0
    assert "no command /dance" in capsys.readouterr().err
    assert len(echo.requests) == 1
