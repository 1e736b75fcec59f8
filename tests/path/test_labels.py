"""Answers from a small set: tuned, evaluated, and the scores held against scikit-learn's."""

from __future__ import annotations

import json

import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from tests.path import labels
from tests.path.command import Scored

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_accuracy_and_macro_f1_are_scikit_learns(topics: Scored) -> None:
    result = topics.result
    assert result["metric"] == "accuracy" and result["labels"] == sorted(labels.TOPICS)
    rows = [json.loads(line) for line in (topics.report / "rows.jsonl").open(encoding="utf-8")]
    references = [row["reference"] for row in rows]
    known = sorted(labels.TOPICS)
    for place, model in enumerate(result["models"]):
        said = [row["answers"][place]["answer"] or "" for row in rows]
        given = [text.strip() if text.strip() in known else "(no label)" for text in said]
        macro = f1_score(references, given, labels=known, average="macro", zero_division=0)
        assert model["metrics"]["accuracy"] == pytest.approx(accuracy_score(references, given))
        assert model["metrics"]["macro_f1"] == pytest.approx(macro)
        matrix = model["labels"]["confusion"]
        expected = confusion_matrix(references, given, labels=matrix["labels"])
        assert matrix["matrix"] == expected.tolist()
    tuned = result["models"][1]["metrics"]
    assert tuned["accuracy"] > 0.9
    assert result["comparisons"][0]["verdict"] == "better"
