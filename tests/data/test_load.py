"""Datasets by path and by name, and divisions that stay."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from phi3tune import data
from phi3tune.config import DatasetConfig, TrainConfig
from phi3tune.errors import UserError
from phi3tune.paths import BUNDLED_DATASETS, Workspace
from tests.data.conftest import Load, Problems, chat, jsonl


def _folder(path: Path, **parts: list[object]) -> Path:
    path.mkdir(exist_ok=True)
    for part, rows in parts.items():
        (path / f"{part}.jsonl").write_text(jsonl(rows), encoding="utf-8")
    return path


def _load(path: Path | str, workspace: Workspace, **settings: object) -> data.Dataset:
    return data.load(DatasetConfig.model_validate({"dataset": str(path), **settings}), workspace)


def _rows(dataset: data.Dataset) -> dict[str, list[int]]:
    return {part: [c.row for c in rows] for part, rows in dataset.parts.items()}


def test_one_file_is_divided_80_10_10_in_its_own_order(load: Load) -> None:
    dataset = load("my chats.jsonl", jsonl([chat(n) for n in range(100)]))
    rows = _rows(dataset)
    assert {part: len(found) for part, found in rows.items()} == {"train": 80, "validation": 10, "test": 10}
    assert sorted(rows["train"] + rows["validation"] + rows["test"]) == list(range(100))
    assert all(found == sorted(found) for found in rows.values())
    assert dataset.name == "my chats"
    assert rows["train"] != list(range(80))


def test_a_conversation_has_its_prompt_and_reference(load: Load) -> None:
    row = {"messages": [*chat(1)["messages"], *chat(2)["messages"]]}
    dataset = load("a.jsonl", jsonl([row]), validation_share=0.0, test_share=0.0)
    conversation = dataset.parts["train"][0]
    assert conversation.reference == "3."
    assert [m["content"] for m in conversation.prompt_messages] == ["What is 1 plus one?", "2.", "What is 2 plus one?"]


def test_max_rows_takes_the_first_training_rows_only(load: Load) -> None:
    content = jsonl([chat(n) for n in range(50)])
    whole, few = load("a.jsonl", content), load("a.jsonl", content, max_rows=5)
    assert few.parts["train"] == whole.parts["train"][:5]
    assert few.parts["test"] == whole.parts["test"]
    assert few.parts["validation"] == whole.parts["validation"]


def test_a_folder_gives_its_test_file_and_carves_validation(tmp_path: Path, workspace: Workspace) -> None:
    folder = _folder(tmp_path / "d", train=[chat(n) for n in range(40)], test=[chat(n) for n in range(40, 45)])
    dataset = _load(folder, workspace)
    assert {part: len(rows) for part, rows in dataset.parts.items()} == {"train": 36, "validation": 4, "test": 5}
    assert {c.file for c in dataset.parts["test"]} == {"test.jsonl"}
    assert {c.file for c in dataset.parts["validation"]} == {"train.jsonl"}
    assert dataset.name == "d"


def test_a_folder_may_give_every_part(tmp_path: Path, workspace: Workspace) -> None:
    folder = _folder(tmp_path / "d", train=[chat(1)], validation=[chat(2)], test=[chat(3)])
    (folder / "README.md").write_text("about")
    dataset = _load(folder, workspace)
    assert [c.file for c in dataset.conversations] == ["train.jsonl", "validation.jsonl", "test.jsonl"]


def test_a_folder_without_a_train_file_is_refused(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(UserError, match="no train file"):
        _load(_folder(tmp_path / "d", other=[chat(1)]), workspace)


def test_a_folder_with_two_train_files_is_refused(tmp_path: Path, workspace: Workspace) -> None:
    folder = _folder(tmp_path / "d", train=[chat(1)])
    (folder / "train.csv").write_text("question,answer\na,b\n")
    with pytest.raises(UserError, match=r"both train\.csv and train\.jsonl"):
        _load(folder, workspace)


def test_a_record_gives_the_same_division_back(load: Load, tmp_path: Path, workspace: Workspace) -> None:
    content = jsonl([chat(n) for n in range(60)])
    first = load("a.jsonl", content, max_rows=20)
    saved = json.loads(json.dumps(first.record()))
    assert saved["schema"] == 1
    assert saved["config"]["max_rows"] == 20
    config = DatasetConfig(dataset=str(tmp_path / "a.jsonl"), split_seed=99, test_share=0.4)
    again = data.load(config, workspace, saved=saved)
    assert again.parts == first.parts
    assert again.record()["split"] == saved["split"]
    assert data.load(config, workspace).parts != first.parts


def test_a_record_of_other_data_is_ignored(load: Load, tmp_path: Path, workspace: Workspace) -> None:
    saved = load("a.jsonl", jsonl([chat(n) for n in range(60)]), split_seed=99).record()
    dataset = load("a.jsonl", jsonl([chat(n) for n in range(61)]))
    config = DatasetConfig(dataset=str(tmp_path / "a.jsonl"))
    assert data.load(config, workspace, saved=saved).parts == dataset.parts


def test_a_record_keeps_dataset_settings_only(load: Load, tmp_path: Path, workspace: Workspace) -> None:
    load("a.jsonl", jsonl([chat(n) for n in range(9)]))
    dataset = data.load(TrainConfig(dataset=str(tmp_path / "a.jsonl")), workspace)
    assert set(dataset.record()["config"]) == set(DatasetConfig.model_fields)


def test_moving_a_folder_keeps_its_hash_and_editing_it_does_not(tmp_path: Path, workspace: Workspace) -> None:
    rows = [chat(n) for n in range(9)]
    one = _load(_folder(tmp_path / "one", train=rows, test=[chat(10)]), workspace)
    two = _load(_folder(tmp_path / "two", train=rows, test=[chat(10)]), workspace)
    other = _load(_folder(tmp_path / "two", train=rows, test=[chat(11)]), workspace)
    assert one.sha256 == two.sha256 != other.sha256


def test_duplicates_stay_together_and_are_told(load: Load) -> None:
    rng = random.Random(1)
    rows = [chat(n % 30) for n in range(60)]
    rng.shuffle(rows)
    dataset = load("a.jsonl", jsonl(rows))
    where = {part: {c.messages[0]["content"] for c in found} for part, found in dataset.parts.items()}
    assert not where["train"] & where["test"]
    assert not where["train"] & where["validation"]
    assert [(p.code, p.severity) for p in dataset.problems] == [("duplicate_rows", "warning")]
    assert dataset.problems[0].found.startswith("30 rows")


def test_test_rows_that_were_trained_on_are_told(tmp_path: Path, workspace: Workspace) -> None:
    folder = _folder(tmp_path / "d", train=[chat(n) for n in range(20)], test=[chat(50), chat(3), chat(4)])
    dataset = _load(folder, workspace)
    leak = next(p for p in dataset.problems if p.code == "leak")
    assert (leak.file, leak.line, leak.severity) == ("test.jsonl", 2, "warning")
    assert leak.found.startswith("2 rows")
    assert len(dataset.parts["test"]) == 3


@pytest.mark.parametrize("rows", [[chat(1)], [chat(1), chat(2)], [chat(1)] * 50])
def test_too_few_rows_to_divide(problems: Problems, rows: list[object]) -> None:
    assert [p.code for p in problems("a.jsonl", jsonl(rows))] == ["too_few_rows"]
    assert problems("a.jsonl", jsonl(rows), validation_share=0.0, test_share=0.0) == []


def test_an_unknown_dataset_is_answered_with_those_there_are(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "up.jsonl").write_text(jsonl([chat(1)]))
    stored = data.store_upload(tmp_path / "up.jsonl", "up.jsonl", workspace)
    for name in ("nothing", "../nothing", "a\0b", "x" * 5000, "owner/name"):
        with pytest.raises(UserError) as caught:
            _load(name, workspace)
        assert stored in str(caught.value)
        assert "\n" not in str(caught.value)
    assert "Hub ids are not read" in str(caught.value)
    with pytest.raises(UserError, match="no dataset is given"):
        _load("", workspace)


def test_a_path_wins_over_a_stored_id(tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "up.jsonl").write_text(jsonl([chat(n) for n in range(5)]))
    stored = data.store_upload(tmp_path / "up.jsonl", "up.jsonl", workspace)
    monkeypatch.chdir(tmp_path)
    assert len(_load(stored, workspace).conversations) == 5
    _folder(tmp_path / stored, train=[chat(n) for n in range(9)])
    assert len(_load(stored, workspace).conversations) == 9


def test_bundled_datasets_load_by_name(workspace: Workspace) -> None:
    names = [info.id for info in data.list_datasets(workspace) if info.kind == "bundled"]
    assert names == sorted(p.name for p in BUNDLED_DATASETS.iterdir() if (p / "train.jsonl").is_file())
    assert "lantern-support" in names
    for name in names:
        dataset = _load(name, workspace)
        assert dataset.name == name
        assert dataset.log.error_count == 0
        assert not any(p.code == "leak" for p in dataset.problems)
        assert all(dataset.parts.values())
