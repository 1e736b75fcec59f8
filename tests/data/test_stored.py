"""Uploads: stored under ids made here, whatever they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phi3tune import data
from phi3tune.config import DatasetConfig
from phi3tune.data import stored
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, inside, manifest_problem
from tests.data.conftest import chat, jsonl


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    path = tmp_path / "upload"
    path.write_text(jsonl([chat(n) for n in range(10)]), encoding="utf-8")
    return path


def test_an_upload_can_be_loaded_by_its_id(upload: Path, workspace: Workspace) -> None:
    dataset_id = data.store_upload(upload, "Meine Chats.JSONL", workspace)
    info = next(i for i in data.list_datasets(workspace) if i.kind == "stored")
    assert (info.id, info.name, info.path.name) == (dataset_id, "Meine Chats.JSONL", "data.jsonl")
    assert manifest_problem(info.path.parent) is None
    dataset = data.load(DatasetConfig(dataset=dataset_id), workspace)
    assert dataset.name == dataset_id
    assert len(dataset.conversations) == 10


@pytest.mark.parametrize(
    "name", ["../../x.jsonl", "..\\..\\x.jsonl", "/etc/x.jsonl", "CON.jsonl", "x" * 300 + ".jsonl", "a\0;touch p.jsonl"]
)
def test_hostile_names_stay_metadata(upload: Path, workspace: Workspace, tmp_path: Path, name: str) -> None:
    dataset_id = data.store_upload(upload, name, workspace)
    info = stored.find_dataset(dataset_id, workspace)
    assert info is not None
    assert inside(info.path, workspace.datasets)
    assert [p.name for p in workspace.datasets.iterdir()] == [dataset_id]
    assert "/" not in info.name and "\\" not in info.name
    assert len(data.load(DatasetConfig(dataset=dataset_id), workspace).conversations) == 10


def test_the_same_name_twice_is_two_datasets(upload: Path, workspace: Workspace) -> None:
    ids = [data.store_upload(upload, "a.jsonl", workspace) for _ in range(2)]
    assert len(set(ids)) == 2
    assert [i.id for i in data.list_datasets(workspace) if i.kind == "stored"] == ids


def test_what_cannot_be_a_dataset_is_refused(
    upload: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="cannot be read as a dataset"):
        data.store_upload(upload, "a.exe", workspace)
    monkeypatch.setattr(stored, "disk_free", lambda path: 10)
    with pytest.raises(UserError, match="10 are free"):
        data.store_upload(upload, "a.jsonl", workspace)
    monkeypatch.setattr(stored, "MAX_UPLOAD_BYTES", 100)
    with pytest.raises(UserError, match="at most 100"):
        data.store_upload(upload, "a.jsonl", workspace)
    assert not workspace.datasets.exists()


def test_half_an_upload_is_not_listed(upload: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(stored, "write_json", broken)
    with pytest.raises(OSError, match="disk full"):
        data.store_upload(upload, "a.jsonl", workspace)
    assert [i for i in data.list_datasets(workspace) if i.kind == "stored"] == []
    assert list(workspace.datasets.iterdir()) == []


def test_metadata_holds_the_hash(upload: Path, workspace: Workspace) -> None:
    dataset_id = data.store_upload(upload, "a.jsonl", workspace)
    info = json.loads((workspace.datasets / dataset_id / "info.json").read_text(encoding="utf-8"))
    assert info["sha256"] == data.load(DatasetConfig(dataset=dataset_id), workspace).sha256
    assert info["bytes"] == upload.stat().st_size
