"""Whole runs of the classification task: what they leave behind can be loaded, resumed, merged and trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from phi3tune import data
from phi3tune.engines.classifier import open_classifier
from phi3tune.engines.folders import labels_of
from phi3tune.engines.models import resolve
from phi3tune.errors import UserError
from phi3tune.events import Metrics, Sample
from tests.fake_classifiers import LABELS, labelled, whole_classifier
from tests.training.runs import NewRun, Run

HEAD = "base_model.model.score.weight"


def make(new_run: NewRun, tmp_path: Path, **changes: Any) -> Run:
    rows = labelled(tmp_path / "weather.jsonl", 60)
    settings = {"task": "classification", "dataset": str(rows), "lora_dropout": 0.0, "save_steps": 4, "eval_steps": 4}
    run = new_run(**{**settings, **changes})
    (run.folder / "run.yaml").write_text(
        f"model: {run.config.model}\ntask: classification\ndataset: {rows}\n", encoding="utf-8"
    )
    return run


def accuracy(run: Run, name: str) -> float:
    """Of the validation part, by the classifier that the run left behind."""
    rows = data.load(run.config, run.workspace).parts["validation"]
    found = open_classifier(resolve(name, run.workspace), threads=1).classify([row.prompt_messages for row in rows])
    return sum(each["label"] == row.reference for each, row in zip(found, rows, strict=True)) / len(rows)


@pytest.mark.parametrize("method", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_a_run_leaves_the_classifier_that_it_measured(new_run: NewRun, tmp_path: Path, method: str) -> None:
    run = make(new_run, tmp_path, method=method, learning_rate=0.003)
    result = run.go()
    assert result["labels"] == list(LABELS) and result["trained_tokens"] == result["rows"] == 48
    assert result["eval_accuracy"] == pytest.approx(accuracy(run, run.folder.name))
    assert 0 <= result["eval_macro_f1"] <= 1
    metrics = [each.values for each in run.reporter.of(Metrics) if "eval_loss" in each.values]
    assert len(metrics) == 3 and metrics[-1]["eval_macro_f1"] == result["eval_macro_f1"]
    assert {each.expected for each in run.reporter.of(Sample)} <= set(LABELS)
    assert run.folder.name in resolve(run.folder.name, run.workspace).ref
    if method == "lora":
        assert HEAD in load_file(run.folder / "adapter" / "adapter_model.safetensors")
        assert labels_of(run.folder / "adapter") == LABELS
    else:
        assert labels_of(run.folder / "merged") == LABELS
    checkpoint = f"{run.folder.name}/checkpoint-12"
    assert accuracy(run, checkpoint) == pytest.approx(result["eval_accuracy"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_interrupted_run_ends_where_the_whole_one_does(new_run: NewRun, tmp_path: Path, method: str) -> None:
    settings = {"method": method, "learning_rate": 0.003}
    whole = make(new_run, tmp_path, **settings)
    whole.go()
    cut = make(new_run, tmp_path, **settings)
    stopped = cut.go(stop_when=lambda event: isinstance(event, Metrics) and event.step >= 5)
    assert stopped["status"] == "stopped"
    resumed = cut.go(resume=True)
    assert resumed["train_loss"] == pytest.approx(whole.result["train_loss"], rel=1e-6)
    name = "adapter/adapter_model.safetensors" if method == "lora" else "merged/model.safetensors"
    ours, theirs = (load_file(run.folder / name) for run in (cut, whole))
    assert all(ours[key].equal(theirs[key]) for key in theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"init": "pissa"},
        {"loraplus_ratio": 16.0},
        {"base_bits": "4"},
        {"base_bits": "8"},
        {"last_layers": 1},
        {"method": "full", "last_layers": 1},
        {"neftune_alpha": 5.0, "label_smoothing": 0.1, "packing": False},
        {"gradient_checkpointing": "on"},
    ],
    ids=lambda settings: ",".join(f"{name}={value}" for name, value in settings.items()),
)
def test_every_method_trains_the_head(new_run: NewRun, tmp_path: Path, settings: dict[str, Any]) -> None:
    run = make(new_run, tmp_path, max_steps=2, eval_steps=2, save_steps=1, keep_checkpoints=2, **settings)
    result = run.go()
    assert result["status"] == "completed" and result["eval_accuracy"] == pytest.approx(accuracy(run, "lamps-1"))
    name, key = (
        ("model.safetensors", "score.weight")
        if run.config.method == "full"
        else (
            "adapter_model.safetensors",
            HEAD,
        )
    )
    first, second = (load_file(run.folder / "checkpoints" / f"checkpoint-{step}" / name)[key] for step in (1, 2))
    assert not first.equal(second)


def test_a_classifier_is_trained_on_with_the_same_labels_only(new_run: NewRun, tmp_path: Path) -> None:
    run = make(new_run, tmp_path, max_steps=2)
    run.go()
    again = run.workspace.runs / "lamps-2"
    again.mkdir()
    more = Run(run.config.model_copy(update={"model": "lamps-1"}), run.workspace, again, {}, [])
    assert more.go()["labels"] == list(LABELS)
    others = tmp_path / "others.jsonl"
    rows = [{"question": f"Question {number}?", "answer": ("dry", "wet")[number % 2]} for number in range(40)]
    others.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (again / "dataset.json").unlink()
    with pytest.raises(UserError, match="other labels"):
        more.go(dataset=str(others))


def test_a_classifier_is_no_start_for_chats(new_run: NewRun, tmp_path: Path, tiny_model: Path) -> None:
    folder = whole_classifier(tmp_path / "classifier", tiny_model)
    with pytest.raises(UserError, match="has no head for chats"):
        new_run(model=str(folder)).go()
