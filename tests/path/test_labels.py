"""Answers from a small set: tuned, evaluated, and the scores held against scikit-learn's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from tests.path import labels
from tests.path.command import Command

pytestmark = pytest.mark.slow


def test_accuracy_and_macro_f1_are_scikit_learns(phi3tune: Command, tmp_path: Path) -> None:
    folder = labels.write(tmp_path / "topics", train=240, test=90)
    trained = phi3tune("train", "--dataset", str(folder), "--name", "topics", "--epochs", "2", "--json")
    assert trained.code == 0, trained.errors
    answer = phi3tune("evaluate", "phi3-nano", "topics", "--dataset", str(folder), "--json")
    assert answer.code == 0, answer.errors
    assert answer.json["metric"] == "accuracy" and answer.json["labels"] == sorted(labels.TOPICS)
    rows = [json.loads(line) for line in (Path(answer.json["path"]) / "rows.jsonl").open(encoding="utf-8")]
    references = [row["reference"] for row in rows]
    known = sorted(labels.TOPICS)
    for place, model in enumerate(answer.json["models"]):
        said = [row["answers"][place]["answer"] or "" for row in rows]
        given = [text.strip() if text.strip() in known else "(no label)" for text in said]
        macro = f1_score(references, given, labels=known, average="macro", zero_division=0)
        assert model["metrics"]["accuracy"] == pytest.approx(accuracy_score(references, given))
        assert model["metrics"]["macro_f1"] == pytest.approx(macro)
        matrix = model["labels"]["confusion"]
        expected = confusion_matrix(references, given, labels=matrix["labels"])
        assert matrix["matrix"] == expected.tolist()
    tuned = answer.json["models"][1]["metrics"]
    assert tuned["accuracy"] > 0.9
    assert answer.json["comparisons"][0]["verdict"] == "better"
