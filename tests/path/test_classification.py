"""Labels, end to end on phi3-nano: trained, held out, built for plain onnxruntime, all through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phi3tune.paths import Workspace
from tests.path import labels
from tests.path.command import Command

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_three_labels_are_learned_and_the_onnx_build_gives_the_same(
    phi3tune: Command, workspace: Workspace, tmp_path: Path
) -> None:
    folder = labels.write(tmp_path / "topics", train=240, test=90)
    trained = phi3tune(
        "train", "--dataset", str(folder), "--task", "classification", "--name", "topics", "--epochs", "2", "--json"
    )
    assert trained.code == 0, trained.errors
    assert trained.json["labels"] == sorted(labels.TOPICS)
    assert trained.json["eval_accuracy"] >= 0.9 and trained.json["eval_macro_f1"] >= 0.9

    scores = phi3tune("evaluate", "phi3-nano", "topics", "--dataset", str(folder), "--json")
    assert scores.code == 0, scores.errors
    base, ours = scores.json["models"]
    assert ours["metrics"]["accuracy"] >= 0.9 > base["metrics"]["accuracy"]
    assert ours["metrics"]["perplexity"] is None and base["metrics"]["perplexity"] is not None

    build = phi3tune("export", "topics", "--format", "portable-onnx", "--json")
    assert build.code == 0, build.errors
    assert build.json["parity"]["passed"] and build.json["parity"]["same_label"] == 1.0
    rows = [json.loads(line) for line in (folder / "test.jsonl").open(encoding="utf-8")]
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(row["question"] for row in rows))
    run, onnx = (
        phi3tune("classify", model, "--file", str(questions), "--json")
        for model in ("topics", "topics/onnx/fp32-portable")
    )
    given = [each["label"] for each in run.json["results"]]
    assert [each["label"] for each in onnx.json["results"]] == given
    right = sum(label == row["answer"] for label, row in zip(given, rows, strict=True))
    assert right / len(rows) == pytest.approx(ours["metrics"]["accuracy"])
