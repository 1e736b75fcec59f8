"""Versions: a dataset repaired or with rows left out, as a new stored dataset that lists what was changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phi3tune import data
from phi3tune.config import DatasetConfig
from phi3tune.data import stored, versions
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, manifest_problem
from tests.data.conftest import chat, jsonl

_BAD = '{"messages": [\n'


@pytest.fixture
def source(tmp_path: Path, in_process: None) -> Path:
    path = tmp_path / "my chats.jsonl"
    path.write_text(jsonl([chat(n) for n in range(6)]), encoding="utf-8")
    return path


def _config(dataset: Path | str, **settings: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"dataset": str(dataset), **settings})


def _questions(dataset: str, workspace: Workspace) -> list[str]:
    source = data.Source(_config(dataset), workspace)
    questions = [row.messages[0]["content"] for _, row in source.read()]
    assert not source.log.problems
    return questions


def test_dropped_rows_are_gone_and_listed(source: Path, workspace: Workspace) -> None:
    drop = {"email_address": {(source.name, 2)}, "leak": [(source.name, 4), ("other.jsonl", 1)]}
    version = data.new_version(_config(source), workspace, drop=drop)
    assert version.rows == {"all": 4}
    assert [(c.code, c.file, c.row, c.line) for c in version.changes] == [
        ("email_address", source.name, 2, 3),
        ("leak", source.name, 4, 5),
    ]
    assert _questions(version.id, workspace) == [chat(n)["messages"][0]["content"] for n in (0, 1, 3, 5)]
    folder = workspace.datasets / version.id
    assert manifest_problem(folder) is None
    listed = [json.loads(line) for line in (folder / versions.CHANGES).read_text(encoding="utf-8").splitlines()]
    assert [(c["code"], c["row"], c["what"]) for c in listed] == (
        [("email_address", 2, "row left out"), ("leak", 4, "row left out")]
    )


def test_a_version_is_repaired_and_every_change_is_in_the_order_of_the_rows(source: Path, workspace: Workspace) -> None:
    source.write_text(_BAD + source.read_text(encoding="utf-8") + _BAD, encoding="utf-8")
    version = data.new_version(_config(source), workspace, repair=True, drop={"leak": [(source.name, 3)]})
    assert [(c.code, c.row, c.line) for c in version.changes] == [
        ("bad_json", 0, 1),
        ("leak", 3, 4),
        ("bad_json", 7, 8),
    ]
    assert version.rows == {"all": 5}
    assert len(_questions(version.id, workspace)) == 5


def test_versions_of_versions_are_counted(source: Path, workspace: Workspace) -> None:
    first = data.store_upload(source, source.name, workspace)
    made = [first]
    for row in range(2):
        version = data.new_version(_config(made[-1]), workspace, drop={"leak": [("data.jsonl", row)]})
        assert version.parent == made[-1]
        made.append(version.id)
    data.new_version(_config(first), workspace, drop={"leak": [("data.jsonl", 5)]})
    infos = {info.id: info for info in data.list_datasets(workspace)}
    assert [infos[each].title for each in made] == [
        source.name,
        f"{source.name} (version 2)",
        f"{source.name} (version 3)",
    ]
    assert {info.version for info in infos.values() if info.root == first} == {1, 2, 3, 4}
    assert len(_questions(made[-1], workspace)) == 4
    info = json.loads((workspace.datasets / made[1] / "info.json").read_text(encoding="utf-8"))
    assert info["source_sha256"] == data.fingerprint(first, workspace)
    assert info["sha256"] == data.fingerprint(made[1], workspace)


def test_parts_stay_parts(tmp_path: Path, source: Path, workspace: Workspace) -> None:
    test = tmp_path / "held out.jsonl"
    test.write_text(jsonl([chat(n) for n in range(20, 23)]), encoding="utf-8")
    config = _config(source, test_file=str(test))
    version = data.new_version(config, workspace, drop={"leak": [(source.name, 0)]})
    assert version.rows == {"train": 5, "test": 3}
    dataset = data.load(_config(version.id, validation_share=0.2), workspace)
    assert {part: len(rows) for part, rows in dataset.parts.items()} == {"train": 4, "validation": 1, "test": 3}
    assert stored.written_here(version.path / "train.jsonl", workspace)
    assert data.canonical_name(str(version.path), workspace) == version.id


def test_text_and_groups_are_kept(tmp_path: Path, workspace: Workspace, in_process: None) -> None:
    (tmp_path / "book.txt").write_text("one\nline\n\ntwo\n\nthree\n", encoding="utf-8")
    version = data.new_version(_config(tmp_path / "book.txt"), workspace, drop={"leak": [("book.txt", 1)]})
    assert version.path.read_text(encoding="utf-8") == '{"text": "one\\nline"}\n{"text": "three"}\n'
    rows = [{**chat(n), "conversation_id": f"c{n // 2}"} for n in range(4)]
    (tmp_path / "a.jsonl").write_text(jsonl(rows), encoding="utf-8")
    version = data.new_version(_config(tmp_path / "a.jsonl"), workspace, drop={"leak": [("a.jsonl", 0)]})
    found = [row.group for _, row in data.Source(_config(version.id), workspace).read()]
    assert found == ["c0", "c1", "c1"]


def test_what_cannot_be_a_version_leaves_nothing(
    source: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="nothing in 'my chats' would change"):
        data.new_version(_config(source), workspace, repair=True)
    with pytest.raises(UserError, match="no row of 'my chats' would be left"):
        data.new_version(_config(source), workspace, drop={"leak": [(source.name, n) for n in range(6)]})
    with pytest.raises(UserError, match="are free"), monkeypatch.context() as patch:
        patch.setattr(stored, "disk_free", lambda path: 10)
        data.new_version(_config(source), workspace, repair=True)
    source.write_text(source.read_text(encoding="utf-8") + _BAD, encoding="utf-8")
    with pytest.raises(data.DataError, match="bad_json"):
        data.new_version(_config(source), workspace, drop={"leak": [(source.name, 0)]})
    assert list(workspace.datasets.iterdir()) == []
