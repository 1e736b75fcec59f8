"""Classifiers beside chat models on the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from phi3tune.config import EvalConfig
from phi3tune.engines.classifier import open_classifier
from phi3tune.engines.models import resolve
from phi3tune.errors import UserError
from phi3tune.evaluation import evaluate, rows
from phi3tune.paths import Workspace
from tests.fake_classifiers import LABELS, classification_run, classifier_adapter, labelled
from tests.fake_runs import chats
from tests.fakes import RecordingReporter


def test_a_classifier_is_scored_like_scikit_learn_and_compared(
    workspace: Workspace, tiny_model: Path, tmp_path: Path
) -> None:
    dataset = labelled(tmp_path / "weather.jsonl", 60)
    classification_run(workspace, "weather", tiny_model, dataset)
    config = EvalConfig(
        models=[str(tiny_model), "weather"], dataset=str(dataset), test_share=0.5, max_new_tokens=4, split="test"
    )
    report = evaluate(config, tmp_path / "report", workspace, RecordingReporter())
    ours = report["models"][1]
    lines = rows(tmp_path / "report")
    wanted = [line["reference"] for line in lines]
    given = [line["answers"][1]["label"] for line in lines]
    classifier = open_classifier(resolve("weather", workspace), threads=1)
    assert given == [each["label"] for each in classifier.classify([line["prompt"] for line in lines])]
    assert report["metric"] == "accuracy" and report["labels"] == list(LABELS)
    assert ours["metrics"]["accuracy"] == pytest.approx(accuracy_score(wanted, given))
    assert ours["metrics"]["macro_f1"] == pytest.approx(
        f1_score(wanted, given, labels=LABELS, average="macro", zero_division=0)
    )
    matrix = ours["labels"]["confusion"]
    assert matrix["matrix"] == confusion_matrix(wanted, given, labels=matrix["labels"]).tolist()
    assert ours["metrics"]["perplexity"] is None
    assert "a classifier gives probabilities of its labels" in ours["reasons"]["perplexity"]
    assert ours["engine"]["kind"] == "torch" and report["models"][0]["metrics"]["perplexity"] > 0
    assert [each["model"] for each in report["comparisons"]] == ["weather"]


def test_labels_that_the_rows_do_not_have_are_answers_too(
    workspace: Workspace, tiny_model: Path, tmp_path: Path
) -> None:
    classifier_adapter(tmp_path / "other", tiny_model, labels=("dry", "wet"))
    config = EvalConfig(models=[str(tmp_path / "other")], dataset=str(labelled(tmp_path / "weather.jsonl", 60)))
    report = evaluate(config, tmp_path / "report", workspace, RecordingReporter())
    assert report["models"][0]["metrics"]["accuracy"] == 0
    assert set(report["models"][0]["labels"]["confusion"]["labels"]) - set(LABELS) <= {"dry", "wet"}


def test_what_a_classifier_cannot_do_is_refused(workspace: Workspace, tiny_model: Path, tmp_path: Path) -> None:
    classifier_adapter(tmp_path / "adapter", tiny_model)
    model, reporter = str(tmp_path / "adapter"), RecordingReporter()
    free = chats(tmp_path / "chats.jsonl", 400)
    with pytest.raises(UserError, match="has 400 different answers"):
        evaluate(EvalConfig(models=[model], dataset=str(free)), tmp_path / "report", workspace, reporter)
    config = EvalConfig(models=[model], dataset=str(free), benchmarks=["hellaswag"], benchmark_tasks=str(tmp_path))
    with pytest.raises(UserError, match="answers no prompts of --safety or --benchmarks"):
        evaluate(config, tmp_path / "report", workspace, reporter)
