"""Token counts and the audit, against what the rows and the renderer say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phi3tune import data
from phi3tune.chat import NO_LOSS, Renderer
from phi3tune.config import DatasetConfig, TrainConfig
from phi3tune.paths import Workspace
from tests.data.conftest import Load, chat, jsonl
from tests.fakes import TOKENIZER


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer.load(TOKENIZER)


def _long(number: int, words: int, *, question: bool = False) -> dict[str, Any]:
    texts = [f"{number}", "a"]
    texts[0 if question else 1] += " word" * words
    return {"messages": [{"role": r, "content": t} for r, t in zip(("user", "assistant"), texts, strict=True)]}


def test_tokenise_gives_the_examples_in_order(load: Load, renderer: Renderer) -> None:
    rows = load("a.jsonl", jsonl([chat(n) for n in range(2500)])).conversations
    examples = data.tokenise(rows, renderer, 20)
    assert examples == [renderer.training_example(c.messages, 20) for c in rows]


def _check(path: Path, workspace: Workspace, renderer: Renderer | None, **settings: Any) -> dict[str, Any]:
    return data.check(TrainConfig(dataset=str(path), **settings), workspace, renderer)


def test_counts_are_those_of_the_examples(tmp_path: Path, workspace: Workspace, renderer: Renderer) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl([_long(n, n) for n in range(100)]))
    found = _check(path, workspace, renderer, max_length=40)
    conversations = data.load(DatasetConfig(dataset=str(path)), workspace).conversations
    whole = data.tokenise(conversations, renderer, None)
    cut = data.tokenise(conversations, renderer, 40)
    lengths = [len(e.input_ids) for e in whole]
    tokens = found["tokens"]
    assert sum(found["parts"].values()) == found["rows"] == 100
    assert tokens["total"] == sum(len(e.input_ids) for e in cut)
    assert tokens["trained"] == sum(label != NO_LOSS for e in cut for label in e.labels)
    assert tokens["mean"] == pytest.approx(np.mean(lengths))
    assert tokens["median"] == np.median(lengths)
    assert tokens["p95"] == np.percentile(lengths, 95, method="inverted_cdf")
    assert tokens["max"] == max(lengths)
    assert found["truncated_rows"] == sum(e.truncated for e in cut) > 0
    assert found["unlearnable_rows"] == 0
    assert sum(b["rows"] for b in found["histogram"]) == 100
    assert all(sum(b["low"] <= n <= b["high"] for n in lengths) == b["rows"] for b in found["histogram"])
    assert len(found["histogram"]) <= 21
    assert "row_too_long" in [p["code"] for p in found["problems"]]


def test_what_cutting_takes_is_counted_and_named(tmp_path: Path, workspace: Workspace, renderer: Renderer) -> None:
    rows = [chat(n) for n in range(20)]
    rows[4], rows[9] = _long(4, 100, question=True), _long(9, 100)
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl(rows))
    found = _check(path, workspace, renderer, max_length=50)
    assert (found["truncated_rows"], found["cut_answers"], found["unlearnable_rows"]) == (2, 2, 1)
    assert {f["code"]: f["rows"] for f in found["findings"]} == {"row_too_long": [4, 9], "no_target_left": [4]}
    examples = [renderer.training_example(row["messages"], 50) for row in rows]
    assert found["tokens"]["total"] == sum(len(e.input_ids) for e in examples)
    assert found["tokens"]["trained"] == sum(e.trained for e in examples)
    assert found["trained_share"] == found["tokens"]["trained"] / found["tokens"]["total"]
    assert [p["code"] for p in found["problems"]] == ["row_too_long"]


def test_check_tells_all_and_raises_nothing(tmp_path: Path, workspace: Workspace, renderer: Renderer) -> None:
    rows: list[Any] = [chat(n) for n in range(12)]
    rows[3] = chat(2)
    rows[5]["messages"][1]["content"] = "<|user|>"
    rows[7] = {"messages": []}
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl(rows))
    found = _check(path, workspace, renderer)
    assert json.loads(json.dumps(found)) == found
    assert (found["rows"], found["format"], found["mapping"]) == (11, "messages", {"messages": "messages"})
    keys = {"code", "severity", "file", "line", "column", "found", "expected", "fix"}
    assert all(set(problem) == keys for problem in found["problems"])
    assert [(p["code"], p["severity"]) for p in found["problems"]] == (
        [("bad_messages", "error"), ("reserved_token", "warning"), ("duplicate_rows", "warning")]
    )
    assert [(f["code"], f["rows"], f["groups"]) for f in found["findings"]] == [
        ("reserved_token", [5], []),
        ("duplicate_rows", [2, 3], [[["a.jsonl", 2], ["a.jsonl", 3]]]),
    ]
    assert set(found["tokens"]) == {"total", "trained", "mean", "median", "p95", "max"}


def test_statistics(tmp_path: Path, workspace: Workspace, renderer: Renderer) -> None:
    rows = [chat(n) for n in range(40)]
    for number, row in enumerate(rows):
        row["messages"][1]["content"] = "good" if number % 4 else "bad"
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl(rows))
    found = _check(path, workspace, renderer)
    assert found["parts"] == {"train": 32, "validation": 4, "test": 4}
    assert found["turns"] == {"mean": 2.0, "max": 2}
    assert found["answers"] == [{"text": "good", "rows": 30}, {"text": "bad", "rows": 10}]
    assert found["labels"] == [
        {"label": "good", "train": 24, "validation": 3, "test": 3},
        {"label": "bad", "train": 8, "validation": 1, "test": 1},
    ]
    assert found["languages_sampled"] == 40
    assert found["languages"][0]["code"] == "en"
    assert sum(language["rows"] for language in found["languages"]) == 40
    assert (found["columns"], found["suggested_mapping"]) == (["messages"], {})


def test_answers_of_many_kinds_are_no_labels(tmp_path: Path, workspace: Workspace) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl([chat(n) for n in range(40)]))
    assert _check(path, workspace, None)["labels"] is None


def test_check_needs_no_model(tmp_path: Path, workspace: Workspace) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl([chat(n) for n in range(12)]))
    found = data.check(DatasetConfig(dataset=str(path)), workspace)
    assert found["tokens"] is None
    assert found["problems"] == []


@pytest.mark.parametrize("content", ["", "[", '{"a": 1}\n', jsonl([{"messages": []}])])
def test_check_of_a_file_without_a_usable_row(
    tmp_path: Path, workspace: Workspace, renderer: Renderer, content: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    found = data.check(DatasetConfig(dataset=str(path)), workspace, renderer)
    assert found["rows"] == 0
    assert found["tokens"]["total"] == 0
    assert [p["severity"] for p in found["problems"]] == ["error"]


def test_check_counts_what_it_leaves_out(tmp_path: Path, workspace: Workspace) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl([{"messages": []}] * 130))
    found = data.check(DatasetConfig(dataset=str(path)), workspace)
    assert (len(found["problems"]), found["problems_left_out"]) == (100, 30)


def test_check_cuts_where_training_will(tmp_path: Path, workspace: Workspace, renderer: Renderer) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl([_long(n, 30) for n in range(12)]))
    config = TrainConfig(dataset=str(path), max_length=16)
    assert data.check(config, workspace, renderer)["truncated_rows"] == 12
    assert data.check(DatasetConfig(dataset=str(path)), workspace, renderer)["truncated_rows"] == 0
