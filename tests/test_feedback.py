"""Rows saved from chats: versions that grow until somebody trains on them."""

from __future__ import annotations

import json

import pytest

from phi3tune import data, feedback, jobs
from phi3tune.chat import Message
from phi3tune.config import DatasetConfig, TrainConfig
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, manifest_problem


def row(question: str, answer: str = "It is 3 years.") -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def questions(dataset: str, workspace: Workspace, part: str = "train") -> list[str]:
    source = data.Source(DatasetConfig(dataset=dataset), workspace)
    return [found.messages[0]["content"] for of, found in source.read() if of in (part, "all")]


def use(dataset: str, workspace: Workspace) -> None:
    folder = workspace.runs / f"run-{len(list(workspace.runs.glob('*')))}"
    folder.mkdir(parents=True)
    (folder / jobs.JOB).write_text(json.dumps({"config": TrainConfig(dataset=dataset).model_dump(mode="json")}))


def test_the_first_row_begins_a_dataset_and_more_join_it(workspace: Workspace) -> None:
    first = feedback.save_row([{"role": "system", "content": " "}, *row(" one ")], workspace)
    second = feedback.save_row(row("two"), workspace)
    assert first.id == second.id and (second.name, second.version) == (feedback.NAME, 1)
    assert questions(second.id, workspace) == ["one", "two"]
    assert second.id in [info.id for info in data.list_datasets(workspace)]
    assert manifest_problem(workspace.datasets / second.id) is None
    record = json.loads((workspace.datasets / second.id / "info.json").read_text())
    assert record["sha256"] == data.fingerprint(second.id, workspace)


def test_what_a_run_was_trained_on_never_changes(workspace: Workspace) -> None:
    first = feedback.save_row(row("one"), workspace)
    use(first.id, workspace)
    second = feedback.save_row(row("two"), workspace)
    third = feedback.save_row(row("three"), workspace)
    assert questions(first.id, workspace) == ["one"]
    assert second.id == third.id and (second.version, second.parent) == (2, first.id)
    assert questions(third.id, workspace) == ["one", "two", "three"]


def test_a_bundled_dataset_gets_a_version_with_the_row(workspace: Workspace) -> None:
    before = questions("lantern-support", workspace)
    first = feedback.save_row(row("one"), workspace, "lantern-support")
    second = feedback.save_row(row("two"), workspace, "lantern-support")
    assert first.id == second.id and second.title == "lantern-support (version 2)"
    assert questions(second.id, workspace) == [*before, "one", "two"]
    assert questions("lantern-support", workspace) == before
    assert questions(second.id, workspace, "test") == questions("lantern-support", workspace, "test")
    changes = (workspace.datasets / second.id / "changes.jsonl").read_text().splitlines()
    assert [json.loads(line)["code"] for line in changes] == ["added", "added"]
    use(second.id, workspace)
    third = feedback.save_row(row("three"), workspace, "lantern-support")
    assert (third.version, third.parent) == (3, second.id)
    assert questions(third.id, workspace)[-3:] == ["one", "two", "three"]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        row("one")[:1],
        row("one")[1:],
        row("one", "  "),
        row(" "),
        [*row("one"), *row("two")[:1]],
        row("x" * feedback.MAX_CHARACTERS),
    ],
)
def test_what_cannot_be_trained_on_is_refused(messages: list[Message], workspace: Workspace) -> None:
    with pytest.raises(UserError):
        feedback.save_row(messages, workspace)
    assert not [info for info in data.list_datasets(workspace) if info.kind == "stored"]


def test_an_unknown_dataset_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="no-such"):
        feedback.save_row(row("one"), workspace, "no-such-data")
