"""Datasets by path and by name, and divisions that stay."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from phi3tune import data
from phi3tune.config import DatasetConfig, TrainConfig
from phi3tune.data import hub
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
    for name in ("nothing", "../nothing", "a\0b", "x" * 5000, "a/b/c", "chats/train.jsonl"):
        with pytest.raises(UserError) as caught:
            _load(name, workspace)
        assert stored in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no dataset is given"):
        _load("", workspace)


@pytest.mark.parametrize("name", ["owner/name", "owner/name:part", "owner/name@main", "owner/name:part@v1"])
def test_a_hub_id_is_fetched_when_it_is_no_path(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = []

    def fetch(hub_id: str, given: Workspace) -> data.DatasetInfo:
        asked.append(hub_id)
        return data.DatasetInfo("name-1", hub_id, "stored", _folder(tmp_path / "fetched", train=[chat(1)]))

    monkeypatch.setattr(hub, "fetch", fetch)
    assert data.resolve(name, workspace) == ("name-1", tmp_path / "fetched")
    assert asked == [name]
    monkeypatch.chdir(tmp_path)
    _folder(tmp_path / "owner")
    _folder(tmp_path / "owner" / name.partition("/")[2])
    assert data.resolve(name, workspace)[1] == tmp_path / name
    assert asked == [name]


def test_files_for_validation_and_test_take_the_place_of_the_parts(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "main.jsonl").write_text(jsonl([chat(n) for n in range(20)]), encoding="utf-8")
    folder = _folder(tmp_path / "other", train=[chat(n) for n in range(30, 33)], test=[chat(40)])
    main = _load(tmp_path / "main.jsonl", workspace)
    both = {"validation_file": str(folder / "train.jsonl"), "test_file": str(folder)}
    dataset = _load(tmp_path / "main.jsonl", workspace, **both)
    assert {part: {c.file for c in rows} for part, rows in dataset.parts.items()} == {
        "train": {"main.jsonl"},
        "validation": {"train.jsonl"},
        "test": {"test.jsonl"},
    }
    assert {part: len(rows) for part, rows in dataset.parts.items()} == {"train": 20, "validation": 3, "test": 1}
    assert dataset.sha256 != main.sha256 == dataset.own_sha256
    replaced = _load(folder, workspace, test_file=str(tmp_path / "main.jsonl"), validation_share=0.0)
    assert {part: len(rows) for part, rows in replaced.parts.items()} == {"train": 3, "validation": 0, "test": 20}


def test_files_of_the_same_name_are_told_apart(tmp_path: Path, workspace: Workspace) -> None:
    for name, rows in (("one", range(20)), ("two", range(30, 33))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text(jsonl([chat(n) for n in rows]) + "{", encoding="utf-8")
    config = DatasetConfig(dataset=str(tmp_path / "one/a.jsonl"), test_file=str(tmp_path / "two/a.jsonl"))
    source = data.Source(config, workspace)
    assert {row.file for _, row in source.read()} == {"a.jsonl", "test/a.jsonl"}
    assert [(p.file, p.line) for p in source.log.errors] == [("a.jsonl", 21), ("test/a.jsonl", 4)]


def test_a_division_is_taken_over_beside_a_file_for_one_part(load: Load, tmp_path: Path, workspace: Workspace) -> None:
    saved = load("a.jsonl", jsonl([chat(n) for n in range(60)]), split_seed=99).record()
    (tmp_path / "test.jsonl").write_text(jsonl([chat(n) for n in range(70, 73)]), encoding="utf-8")
    config = DatasetConfig(dataset=str(tmp_path / "a.jsonl"), test_file=str(tmp_path / "test.jsonl"))
    dataset = data.load(config, workspace, saved=saved)
    assert [[c.file, c.row] for c in dataset.parts["train"]] == saved["split"]["train"]
    assert [(c.file, c.row) for c in dataset.parts["test"]] == [("test.jsonl", n) for n in range(3)]


def test_a_file_that_may_not_be_read_is_the_users_mistake(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "locked.jsonl").mkdir()
    with pytest.raises(UserError, match="does not exist"):
        _load(tmp_path / "a.jsonl", workspace, test_file="nothing")
    with pytest.raises(UserError, match="is a folder without test"):
        _load(tmp_path / "a.jsonl", workspace, test_file=str(tmp_path / "locked.jsonl"))


def test_groups_are_read_from_columns_that_name_conversations(load: Load, tmp_path: Path) -> None:
    rows = [{**chat(n), "id": n, "thread_id": n // 3 if n else None} for n in range(9)]
    dataset = load("a.jsonl", jsonl(rows))
    assert dataset.mapping == {"messages": "messages", "group": "thread_id"}
    assert {c.row: c.group for c in dataset.conversations} == {0: None, **{n: str(n // 3) for n in range(1, 9)}}
    plain = [{**chat(n), "id": "x"} for n in range(9)]
    assert {c.group for c in load("b.jsonl", jsonl(plain)).conversations} == {None}
    chosen = load("b.jsonl", jsonl(plain), columns={"group": "id"}, validation_share=0.0, test_share=0.0)
    assert (chosen.format, {c.group for c in chosen.conversations}) == ("messages", {"x"})


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
