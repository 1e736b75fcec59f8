from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from phi3tune.config import EvalConfig
from phi3tune.data import load
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.errors import UserError
from phi3tune.evaluation import evaluate, load_report, rows
from phi3tune.evaluation.text import token_f1
from phi3tune.events import Notice, Progress
from phi3tune.paths import Workspace, write_json
from tests.fake_runs import chats, finished_run, lora_adapter
from tests.fakes import RecordingReporter, tiny_phi3

Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def run_evaluation(workspace: Workspace, tmp_path: Path) -> Evaluate:
    """`run_evaluation(models, dataset, ...)` writes to `tmp_path/report`; answers have at most 8 tokens."""

    def run(
        models: list[str], dataset: Path, *, reporter: RecordingReporter | None = None, **settings: Any
    ) -> dict[str, Any]:
        config = EvalConfig(models=models, dataset=str(dataset), **{"max_new_tokens": 8, **settings})
        return evaluate(config, tmp_path / "report", workspace, reporter or RecordingReporter())

    return run


def test_report_and_rows(workspace: Workspace, tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate) -> None:
    path = chats(tmp_path / "chats.jsonl", 40)
    finished_run(workspace, "tuned", tiny_model, path)
    reporter = RecordingReporter()
    result = run_evaluation(["tuned", str(tiny_model)], path, reporter=reporter)
    assert result["path"] == str(tmp_path / "report")
    assert result["rows"] == 4
    assert [model["model"] for model in result["models"]] == ["tuned", str(tiny_model)]
    report = load_report(tmp_path / "report")
    assert {**report, "path": result["path"]} == result
    dataset = load(EvalConfig(dataset=str(path)), workspace)
    assert [(row["file"], row["row"]) for row in rows(tmp_path / "report")] == [
        (chat.file, chat.row) for chat in dataset.parts["test"]
    ]
    for model in result["models"]:
        assert model["counts"]["answered"] == model["counts"]["exact_match"] == 4
        assert model["counts"]["perplexity"] > 4
        assert model["reasons"] == {}
    row = rows(tmp_path / "report")[0]
    assert row["prompt"] == list(dataset.parts["test"][0].prompt_messages)
    assert row["reference"] == dataset.parts["test"][0].reference
    for answer in row["answers"]:
        assert answer["token_f1"] == token_f1(answer["answer"], row["reference"])
    tuned, base = result["models"]
    assert tuned["metrics"]["perplexity"] != base["metrics"]["perplexity"]
    done = reporter.of(Progress)[-1]
    assert (done.done, done.total, done.eta_seconds) == (8, 8, 0.0)


def test_metrics_agree_with_transformers(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate
) -> None:
    """Over every row of the part, in one go and not row by row."""
    from transformers import AutoModelForCausalLM

    path = chats(tmp_path / "chats.jsonl", 30)
    (metrics,) = (model["metrics"] for model in run_evaluation([str(tiny_model)], path)["models"])
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    renderer = TorchEngine(tiny_model, threads=1).renderer
    loss = tokens = hits = 0.0
    for chat in load(EvalConfig(dataset=str(path)), workspace).parts["test"]:
        example = renderer.training_example(chat.messages)
        ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
        with torch.no_grad():
            output = model(ids, labels=labels)
        loss += output.loss.item() * example.trained
        tokens += example.trained
        hits += ((output.logits[0, :-1].argmax(-1) == labels[0, 1:]) & (labels[0, 1:] >= 0)).sum().item()
    assert metrics["perplexity"] == pytest.approx(math.exp(loss / tokens), rel=1e-4)
    assert metrics["token_accuracy"] == pytest.approx(hits / tokens, abs=1e-4)


def test_model_that_answers_right_scores_one(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate
) -> None:
    """The references are what the model itself says."""
    path = chats(tmp_path / "chats.jsonl", 20)
    first = run_evaluation([str(tiny_model)], path)
    assert first["models"][0]["metrics"]["exact_match"] == 0.0
    said = {row["row"]: row["answers"][0]["answer"] for row in rows(tmp_path / "report")}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, answer in said.items():
        assert answer.strip()
        lines[number]["messages"][-1]["content"] = f"  {answer}\n"
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(path, own / "train.jsonl")
    (own / "test.jsonl").write_text("".join(json.dumps(lines[number]) + "\n" for number in said))
    metrics = run_evaluation([str(tiny_model)], own)["models"][0]["metrics"]
    assert metrics["exact_match"] == 1.0
    assert metrics["token_f1"] == 1.0


def test_saved_split_is_reused(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate
) -> None:
    path = chats(tmp_path / "chats.jsonl", 40)
    run = finished_run(workspace, "tuned", tiny_model, path)
    record = json.loads((run / "dataset.json").read_text())
    train, test = record["split"]["train"], record["split"]["test"]
    record["split"]["train"], record["split"]["test"] = train[len(test) :] + test, train[: len(test)]
    write_json(run / "dataset.json", record)
    run_evaluation(["tuned"], path, split_seed=1)
    assert [[row["file"], row["row"]] for row in rows(tmp_path / "report")] == train[: len(test)]


def test_rows_that_any_run_trained_on_are_left_out(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate
) -> None:
    path = chats(tmp_path / "chats.jsonl", 40)
    records = []
    for name in ("one", "two"):
        run = finished_run(workspace, name, tiny_model, path)
        records.append(json.loads((run / "dataset.json").read_text()))
    # The second run was trained on half of what the first held out.
    test = records[0]["split"]["test"]
    records[1]["split"]["train"] += test[:2]
    records[1]["split"]["test"] = test[2:]
    write_json(run / "dataset.json", records[1])
    reporter = RecordingReporter()
    result = run_evaluation(["one", "two"], path, reporter=reporter)
    assert (result["rows"], result["left_out"]) == (2, 2)
    assert [[row["file"], row["row"]] for row in rows(tmp_path / "report")] == test[2:]
    assert [notice.code for notice in reporter.of(Notice)] == ["rows_left_out"]
    assert run_evaluation(["one"], path)["rows"] == 4
    with pytest.raises(UserError, match="left out"):
        records[1]["split"]["train"] += test[2:]
        write_json(run / "dataset.json", records[1])
        run_evaluation(["one", "two"], path)


def test_rows_that_the_run_before_trained_on_are_left_out(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate
) -> None:
    path = chats(tmp_path / "chats.jsonl", 40)
    first = finished_run(workspace, "first", tiny_model, path)
    second = finished_run(workspace, "second", tiny_model, path)
    settings = (second / "run.yaml").read_text()
    (second / "run.yaml").write_text(settings.replace(f"model: {tiny_model}", "model: first"))
    shutil.copytree(tiny_model, first / "merged")
    record = json.loads((first / "dataset.json").read_text())
    record["split"]["train"] += record["split"]["test"][:1]
    write_json(first / "dataset.json", record)
    from phi3tune.engines.models import resolve
    from phi3tune.evaluation.held_out import choose

    chosen = choose(EvalConfig(dataset=str(path)), [resolve("second", workspace)], workspace)
    assert (len(chosen.rows), chosen.left_out) == (3, 1)


def test_prompt_that_does_not_fit_counts_as_wrong(tmp_path: Path, run_evaluation: Evaluate) -> None:
    base = tiny_phi3(tmp_path / "base", max_position_embeddings=32, original_max_position_embeddings=32)
    path = chats(tmp_path / "chats.jsonl", 20)
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.move(path, folder / "train.jsonl")
    long = [{"role": "user", "content": "word " * 60}, {"role": "assistant", "content": "Yes."}]
    short = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Yes."}]
    (folder / "test.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in (long, short)))
    (model,) = run_evaluation([str(base)], folder, max_new_tokens=256)["models"]
    assert (model["counts"]["answered"], model["counts"]["unanswered"]) == (1, 1)
    assert model["counts"]["truncated_rows"] == 1
    assert model["counts"]["exact_match"] == 2
    refused, answered = (row["answers"][0] for row in rows(tmp_path / "report"))
    assert refused["answer"] is None
    assert refused["exact_match"] is False
    assert "context is 32" in refused["reason"]
    assert answered["reason"] is None


def test_limit_takes_the_first_rows(tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate) -> None:
    path = chats(tmp_path / "chats.jsonl", 40)
    run_evaluation([str(tiny_model)], path)
    every = [row["row"] for row in rows(tmp_path / "report")]
    assert run_evaluation([str(tiny_model)], path, limit=2)["rows"] == 2
    assert [row["row"] for row in rows(tmp_path / "report")] == every[:2]


def test_base_and_its_runs_load_the_weights_once(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    original = TorchEngine.__init__

    def count(self: TorchEngine, base: Path, *args: Any, **settings: Any) -> None:
        loaded.append(base)
        original(self, base, *args, **settings)

    monkeypatch.setattr(TorchEngine, "__init__", count)
    path = chats(tmp_path / "chats.jsonl", 40)
    for name in ("one", "two"):
        finished_run(workspace, name, tiny_model, path)
    lora_adapter(tiny_model, workspace.runs / "two" / "checkpoints" / "checkpoint-1", seed=9)
    write_json(workspace.runs / "two" / "checkpoints" / "checkpoint-1" / "manifest.json", {"schema": 1, "files": {}})
    models = ["one", str(tiny_model), "two/checkpoint-1", "two"]
    result = run_evaluation(models, path)
    assert loaded == [tiny_model]
    scores = [model["metrics"]["perplexity"] for model in result["models"]]
    assert [model["model"] for model in result["models"]] == models
    assert len(set(scores)) == 3  # `one` and `two` have the same adapter


def test_stop_writes_no_report(tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate) -> None:
    reporter = RecordingReporter(stop_when=lambda event: True)
    path = chats(tmp_path / "chats.jsonl", 40)
    assert run_evaluation([str(tiny_model)], path, reporter=reporter) == {"status": "stopped"}
    assert [file.name for file in (tmp_path / "report").iterdir()] == ["answers-0.jsonl"]
    with pytest.raises(UserError, match=r"report\.json"):
        load_report(tmp_path / "report")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"models": ["nothing"]}, "does not exist"),
        ({"dataset": "nothing"}, "does not exist"),
        ({"test_share": 0.0}, "has no rows"),
    ],
)
def test_mistakes(
    tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate, settings: dict[str, Any], told: str
) -> None:
    path = chats(tmp_path / "chats.jsonl", 20)
    models, dataset = settings.pop("models", [str(tiny_model)]), settings.pop("dataset", path)
    with pytest.raises(UserError, match=told):
        run_evaluation(models, dataset, **settings)
    assert not (tmp_path / "report").exists()


def test_report_of_another_schema_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", {"schema": 3})
    with pytest.raises(UserError, match="schema 3"):
        load_report(tmp_path)


def test_report_of_schema_1_is_still_read(tmp_path: Path) -> None:
    metrics = {"exact_match": 1.0, "token_f1": 1.0, "perplexity": 2.0, "token_accuracy": 0.5}
    entry = {"model": "m", "label": "m", "metrics": metrics, "reasons": {}, "counts": {}, "seconds": {}, "engine": {}}
    old = {"schema": 1, "dataset": {"name": "d"}, "split": "test", "rows": 1, "left_out": 0, "models": [entry]}
    write_json(tmp_path / "report.json", old)
    answer = {"model": "m", "answer": "Yes.", "finish_reason": "stop", "reason": None, "exact_match": True}
    row = {"file": "f", "row": 0, "prompt": [], "reference": "Yes.", "answers": [{**answer, "token_f1": 1.0}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    report = load_report(tmp_path)
    assert (report["schema"], report["metric"], report["comparisons"]) == (2, "exact_match", [])
    assert [metric["name"] for metric in report["metrics"]] == list(metrics)
    assert report["models"][0]["metrics"] == metrics
    assert rows(tmp_path)[0]["answers"][0]["metrics"] == {"exact_match": 1.0, "token_f1": 1.0}


@pytest.mark.slow
def test_build_is_scored_like_its_model(tiny_model: Path, tmp_path: Path, run_evaluation: Evaluate) -> None:
    from phi3tune.export.onnx import build

    (tmp_path / "fp32").mkdir()
    build(tiny_model, tmp_path / "fp32", "fp32", tmp_path)
    path = chats(tmp_path / "chats.jsonl", 20)
    model, made = run_evaluation([str(tiny_model), str(tmp_path / "fp32")], path)["models"]
    assert made["engine"]["kind"] == "onnxruntime-genai"
    assert made["metrics"]["perplexity"] == pytest.approx(model["metrics"]["perplexity"], rel=1e-4)
    assert made["counts"]["perplexity"] == model["counts"]["perplexity"]
    answers = [[answer["answer"] for answer in row["answers"]] for row in rows(tmp_path / "report")]
    assert all(ours == theirs for ours, theirs in answers)
