"""Tokens of earlier runs: when they are used, and when they are not."""

import os
from pathlib import Path

import pytest

from phi3tune.chat import Renderer
from phi3tune.config import TrainConfig
from phi3tune.data import Conversation
from phi3tune.paths import NANO, Workspace
from phi3tune.training import token_cache
from phi3tune.training.settings import Rows
from phi3tune.training.tasks import ChatTask
from tests.fakes import TOKENIZER


def chats(count: int = 6, answer: str = "It is lamp") -> list[Conversation]:
    return [
        Conversation(
            (
                {"role": "user", "content": f"Which lamp is number {number}?" + " Please." * 90 * (number == 2)},
                {"role": "assistant", "content": f"{answer} {number}."},
            ),
            row=number,
            file="lamps.jsonl",
        )
        for number in range(count)
    ]


class Counting(ChatTask):
    """Counts how often it tokenises."""

    def __init__(self) -> None:
        super().__init__(TrainConfig())
        self.times = 0

    def rows(self, *args, **kwargs):
        self.times += 1
        return super().rows(*args, **kwargs)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def task() -> Counting:
    return Counting()


def cached(task: Counting, workspace: Workspace, conversations=None, *, base: Path = NANO, max_length: int = 60):
    return token_cache.rows(
        task,
        chats() if conversations is None else conversations,
        Renderer.load(base),
        max_length,
        0.5,
        base=base,
        workspace=workspace,
    )


def entries(workspace: Workspace) -> list[Path]:
    return sorted((workspace.root / "cache" / "tokens").iterdir())


def same(first: Rows, second: Rows) -> bool:
    return (first.conversations, first.examples) == (second.conversations, second.examples)


def test_a_second_run_does_not_tokenise_and_gets_the_same(task: Counting, workspace: Workspace):
    rows, notices = cached(task, workspace)
    assert len(rows.examples) == 5, "row 2 has no answer within 60 tokens"
    again, told = cached(task, workspace)
    assert task.times == 1
    assert same(rows, again)
    assert [notice.message for notice in told] == [notice.message for notice in notices] != []


@pytest.mark.parametrize(
    "change",
    [
        {"conversations": chats(answer="That is lamp")},
        {"conversations": chats(7)},
        {"max_length": 61},
        {"base": TOKENIZER},
    ],
    ids=["an answer", "a row more", "the length", "the tokenizer"],
)
def test_whatever_changes_the_tokens_makes_another_entry(task: Counting, workspace: Workspace, change):
    cached(task, workspace)
    rows, _ = cached(task, workspace, **change)
    assert task.times == 2
    again, _ = cached(task, workspace, **change)
    assert task.times == 2
    assert same(rows, again)


@pytest.mark.parametrize("damage", ["manifest.json", "tokens.safetensors"])
def test_an_entry_that_is_damaged_is_made_anew(task: Counting, workspace: Workspace, damage: str):
    rows, _ = cached(task, workspace)
    [entry] = entries(workspace)
    (entry / damage).write_bytes(b"{}")
    again, _ = cached(task, workspace)
    assert task.times == 2
    assert same(rows, again)
    cached(task, workspace)
    assert task.times == 2


def test_a_cache_that_cannot_be_written_only_costs_time(task: Counting, workspace: Workspace):
    (workspace.root / "cache").write_text("no folder")
    rows, _ = cached(task, workspace)
    again, _ = cached(task, workspace)
    assert task.times == 2
    assert same(rows, again)


def test_the_entry_unused_for_longest_goes_first(task: Counting, workspace: Workspace, monkeypatch):
    for length in (60, 61):
        cached(task, workspace, max_length=length)
    for number, entry in enumerate(entries(workspace)):
        os.utime(entry, (number, number))
    cached(task, workspace)  # used again: now the younger of the two
    size = sum(file.stat().st_size for entry in entries(workspace) for file in entry.iterdir())
    monkeypatch.setattr(token_cache, "LIMIT_BYTES", size)
    cached(task, workspace, max_length=62)
    assert len(entries(workspace)) == 2
    before = task.times
    cached(task, workspace)
    cached(task, workspace, max_length=62)
    assert task.times == before
