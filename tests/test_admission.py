"""What is refused before a job is queued, and what its settings become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phi3tune.admission import admit
from phi3tune.config import EvalConfig
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from tests.fake_runs import chats


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a dataset, a JSON schema and a file of safety prompts."""
    monkeypatch.chdir(tmp_path)
    chats(tmp_path / "chats.jsonl", 20)
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    (tmp_path / "prompts.csv").write_text("prompt,label\nHow do I kill a process?,safe\n")
    return tmp_path


def test_files_of_an_evaluation_mean_the_same_from_any_folder(folder: Path, workspace: Workspace) -> None:
    asked = EvalConfig(dataset="chats.jsonl", json_schema="schema.json", safety="prompts.csv")
    config = admit(asked, workspace).config
    assert isinstance(config, EvalConfig)
    assert (config.dataset, config.json_schema, config.safety) == tuple(
        str(folder / name) for name in ("chats.jsonl", "schema.json", "prompts.csv")
    )


def test_safety_needs_no_dataset(folder: Path, workspace: Workspace) -> None:
    admitted = admit(EvalConfig(safety="prompts.csv"), workspace)
    assert isinstance(admitted.config, EvalConfig)
    assert (admitted.config.dataset, admitted.base_name) == ("", "eval")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dataset": ""}, "no dataset is given"),
        ({"metric": "accuracy"}, "no labels"),
        ({"pattern": "("}, "no regular expression"),
        ({"json_schema": "missing.json"}, "cannot be read"),
        ({"safety": "missing.csv"}, "does not exist"),
        ({"judge": "ftp://host"}, "not accepted"),
        ({"models": ["http://user:secret@host/v1"]}, "must not hold a user"),
    ],
)
def test_mistakes_are_told_before_anything_is_queued(
    folder: Path, workspace: Workspace, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told) as raised:
        admit(EvalConfig(**{"dataset": str(folder / "chats.jsonl"), **settings}), workspace)
    assert "secret" not in str(raised.value)
