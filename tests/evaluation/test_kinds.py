"""What an evaluation makes of labels, plain text, endpoints, and of no rows at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, classification_report, f1_score

from phi3tune.config import EvalConfig
from phi3tune.engines.base import EngineError
from phi3tune.errors import UserError
from phi3tune.evaluation import evaluate, judge, load_report, rows, safety, token_losses
from phi3tune.evaluation.labels import NO_LABEL
from phi3tune.paths import Workspace
from tests.fake_openai import Fault, fake_openai
from tests.fake_runs import chats
from tests.fakes import RecordingReporter

LABELS = ("billing", "delivery", "returns")
Start = Callable[..., dict[str, Any]]


@pytest.fixture
def start(workspace: Workspace, tmp_path: Path) -> Start:
    """`start(models, dataset, ...)` writes to `tmp_path/report`."""

    def run(models: list[str], dataset: Path | str, **settings: Any) -> dict[str, Any]:
        given = {"models": models, "dataset": str(dataset), "max_new_tokens": 4, "resamples": 1000}
        return evaluate(EvalConfig(**{**given, **settings}), tmp_path / "report", workspace, RecordingReporter())

    return run


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def labelled(path: Path, count: int) -> Path:
    """Questions that name their number; the label goes round."""
    return write(
        path,
        [
            {
                "messages": [
                    {"role": "user", "content": f"Request {number}"},
                    {"role": "assistant", "content": LABELS[number % 3]},
                ]
            }
            for number in range(count)
        ],
    )


def guess(body: dict[str, Any]) -> str:
    """Right three times in five; else another label, or none."""
    number = int(body["messages"][-1]["content"].split()[-1])
    return [LABELS[number % 3], LABELS[(number + 1) % 3], "I cannot tell."][(number * 7) % 5 % 3]


def test_labels_are_scored_as_scikit_learn_does(tmp_path: Path, start: Start) -> None:
    path = labelled(tmp_path / "labels.jsonl", 120)
    with fake_openai(guess, ("good", "bad")) as fake:
        report = start([f"{fake.address}#good"], path, split="train")
    assert (report["metric"], report["labels"]) == ("accuracy", list(LABELS))
    (model,) = report["models"]
    answers = rows(tmp_path / "report")
    wanted = [row["reference"] for row in answers]
    given = [row["answers"][0]["label"] for row in answers]
    assert set(given) == {*LABELS, NO_LABEL}
    assert model["metrics"]["accuracy"] == pytest.approx(accuracy_score(wanted, given))
    assert model["metrics"]["accuracy"] == model["metrics"]["exact_match"]
    expected = f1_score(wanted, given, labels=LABELS, average="macro")
    assert model["metrics"]["macro_f1"] == pytest.approx(expected)
    low, high = model["intervals"]["macro_f1"]
    assert low < expected < high
    by_label = classification_report(wanted, given, labels=LABELS, output_dict=True, zero_division=0)
    for entry in model["labels"]["per_class"]:
        assert entry["f1"] == pytest.approx(by_label[entry["label"]]["f1-score"])
        assert entry["support"] == by_label[entry["label"]]["support"]
    assert model["labels"]["confusion"]["labels"] == [*LABELS, NO_LABEL]


def test_endpoint_beside_a_model(tmp_path: Path, tiny_model: Path, start: Start) -> None:
    path = chats(tmp_path / "chats.jsonl", 50)

    def count(body: dict[str, Any]) -> str:
        number = int(body["messages"][-1]["content"].split()[-1].strip("?"))
        return f"After {number} comes {number + 1}."

    with fake_openai(count) as fake:
        report = start([str(tiny_model), f"{fake.address}#counter"], path)
        assert len(fake.requests) == report["rows"] == 5
    local, remote = report["models"]
    assert remote["metrics"]["exact_match"] == 1.0
    assert remote["metrics"]["perplexity"] is remote["metrics"]["token_accuracy"] is None
    assert "no probabilities" in remote["reasons"]["perplexity"]
    assert remote["metrics"]["answer_tokens"] == 4
    assert local["metrics"]["perplexity"] > 1
    (comparison,) = report["comparisons"]
    assert "perplexity" not in comparison["differences"]
    assert comparison["verdict"] == "better"
    assert comparison["sentence"].startswith(f"counter is better than {tiny_model.name}: exact match +100.0 points")
    assert token_losses(tmp_path / "report", 1, 0) == []
    for name in ("report.html", "report.md"):
        assert "counter" in (tmp_path / "report" / name).read_text()
    assert load_report(tmp_path / "report")["models"][1]["label"] == "counter"


def test_an_endpoint_that_breaks_off_can_be_gone_on_with(tmp_path: Path, start: Start) -> None:
    path = chats(tmp_path / "chats.jsonl", 400)
    broken = [True]

    def reply(body: dict[str, Any]) -> str | Fault:
        return Fault(400, "no more") if broken[0] and len(fake.requests) > 32 else "Yes."

    with fake_openai(reply) as fake:
        with pytest.raises(EngineError, match="no more"):
            start([fake.address], path)
        broken[0] = False
        fake.requests.clear()
        assert start([fake.address], path)["models"][0]["counts"]["answered"] == 40
        assert len(fake.requests) == 8


def test_plain_text_is_only_scored(tmp_path: Path, tiny_model: Path, start: Start) -> None:
    from transformers import AutoModelForCausalLM

    from phi3tune.chat import Renderer

    texts = [f"Lamp number {number} stands in the hall and shines." for number in range(40)]
    report = start([str(tiny_model)], write(tmp_path / "text.jsonl", [{"text": text} for text in texts]))
    (entry,) = report["models"]
    assert report["metric"] == "perplexity"
    assert entry["metrics"].keys() == {"perplexity", "token_accuracy"}
    assert (entry["counts"]["answered"], entry["counts"]["unanswered"]) == (0, 0)
    model, renderer = AutoModelForCausalLM.from_pretrained(tiny_model), Renderer.load(tiny_model)
    loss = tokens = 0.0
    for place, row in enumerate(rows(tmp_path / "report")):
        answer = row["answers"][0]
        assert (answer["answer"], answer["exact_match"], row["prompt"]) == (None, None, [])
        example = renderer.training_example([{"role": "text", "content": row["reference"]}])
        ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
        with torch.no_grad():
            output = model(ids, labels=labels)
        loss += output.loss.item() * answer["tokens"]
        tokens += answer["tokens"]
        each = torch.nn.functional.cross_entropy(output.logits[0, :-1], labels[0, 1:], reduction="none")
        kept = token_losses(tmp_path / "report", 0, place)
        assert [text for text, _ in kept] == renderer.pieces(example.input_ids[1:])
        assert [nll for _, nll in kept] == pytest.approx(each.tolist(), abs=2e-3)
    assert entry["metrics"]["perplexity"] == pytest.approx(math.exp(loss / tokens), rel=1e-4)


def test_without_a_dataset_only_the_extras_are_run(
    tmp_path: Path, tiny_model: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = {"prompts": {"safe": 0, "unsafe": 0}, "models": [], "comparisons": [], "warnings": []}
    monkeypatch.setattr(safety, "run", lambda *_: panel)
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt,label\nHow do I kill a process?,safe\n")
    report = start([str(tiny_model)], "", safety=str(prompts))
    assert (report["dataset"], report["rows"], report["metric"], report["comparisons"]) == (None, 0, None, [])
    assert [model["model"] for model in report["models"]] == [str(tiny_model)]
    assert report["safety"] == panel
    assert rows(tmp_path / "report") == []
    with pytest.raises(UserError, match="no dataset is given"):
        start([str(tiny_model)], "")


def test_stopped_in_an_extra(tmp_path: Path, tiny_model: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "run", lambda *_: None)
    path = chats(tmp_path / "chats.jsonl", 20)
    assert start([str(tiny_model)] * 2, path, judge="http://localhost:1/v1") == {"status": "stopped"}
    assert not (tmp_path / "report" / "report.json").exists()


def test_metric_that_cannot_be_had(tmp_path: Path, tiny_model: Path, start: Start) -> None:
    with pytest.raises(UserError, match="no labels"):
        start([str(tiny_model)], chats(tmp_path / "chats.jsonl", 20), metric="accuracy")
    assert not (tmp_path / "report").exists()
