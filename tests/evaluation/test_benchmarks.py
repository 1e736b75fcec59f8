"""Tasks of lm-evaluation-harness on our engines, from local files only."""

from __future__ import annotations

import importlib.util
import json
import math
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from phi3tune.chat import Message
from phi3tune.config import EvalConfig
from phi3tune.engines.models import resolve
from phi3tune.engines.torch_engine import TorchEngine
from phi3tune.errors import UserError
from phi3tune.evaluation import benchmarks
from phi3tune.events import Progress
from phi3tune.paths import Workspace
from tests.fake_openai import fake_openai
from tests.fake_runs import chats, finished_run
from tests.fakes import RecordingReporter

installed = importlib.util.find_spec("lm_eval") is not None
needs_harness = pytest.mark.skipif(not installed, reason=f"the harness is an optional extra: {benchmarks.INSTALL}")

DOCS = [{"question": f"Which comes after {n}?", "choices": [str(n + 1), str(n - 1)], "label": 0} for n in range(6)]
CHOICE = """
task: local_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{docs}"}}}}
test_split: test
output_type: multiple_choice
description: "Answer with a number."
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
ANSWER = """
task: local_answer
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{docs}"}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[0]}}}}"
generation_kwargs: {{until: ["\\n", "."], max_gen_toks: 4}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
TEXT = """
task: local_text
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{docs}"}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list: [{{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}}]
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three tasks on one local file; the network cannot be reached."""
    docs = tmp_path / "docs.jsonl"
    docs.write_text("".join(json.dumps(doc) + "\n" for doc in DOCS))
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, text in {"choice": CHOICE, "answer": ANSWER, "text": TEXT}.items():
        (folder / f"{name}.yaml").write_text(text.format(docs=docs))
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] == "127.0.0.1", f"outside request to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return folder


def config(models: list[str], tasks: Path, names: list[str], **settings: Any) -> EvalConfig:
    return EvalConfig(models=models, dataset="x", benchmarks=names, benchmark_tasks=str(tasks), **settings)


def run(
    settings: EvalConfig, out: Path, workspace: Workspace, reporter: RecordingReporter | None = None
) -> dict[str, Any] | None:
    refs = [resolve(model, workspace) for model in settings.models]
    return benchmarks.run(settings, refs, out, workspace, reporter or RecordingReporter())


@needs_harness
def test_every_kind_of_task_on_a_model(tasks: Path, workspace: Workspace, nano: Path, tmp_path: Path) -> None:
    settings = config(["phi3-nano"], tasks, ["local_choice", "local_answer", "local_text"])
    found = run(settings, tmp_path / "out", workspace)
    assert found is not None
    values = {(entry["task"], entry["metric"]): entry for entry in found["results"]}
    assert set(values) == {
        ("local_choice", "acc"),
        ("local_answer", "exact_match"),
        ("local_text", "word_perplexity"),
    }
    for entry in found["results"]:
        assert (entry["n"], entry["reason"]) == (len(DOCS), None)
    assert values["local_choice", "acc"]["better"] == "higher"
    assert values["local_choice", "acc"]["stderr"] > 0
    engine = TorchEngine(nano, threads=1)
    try:
        right, loss, words = 0, 0.0, 0
        for doc in DOCS:
            chat = [
                Message(role="system", content="Answer with a number."),
                Message(role="user", content=doc["question"]),
            ]
            prompt = engine.renderer.prompt(chat)
            scores = [
                engine.score([*prompt, *engine.renderer.encode(choice)]).logprobs[len(prompt) - 1 :].sum()
                for choice in doc["choices"]
            ]
            right += scores[0] > scores[1]
            ids = [engine.renderer.eos_id, *engine.renderer.encode(doc["question"])]
            loss -= float(engine.score(ids).logprobs.sum())
            words += len(doc["question"].split())
    finally:
        engine.close()
    assert 0 < right < len(DOCS)
    assert values["local_choice", "acc"]["value"] == right / len(DOCS)
    assert values["local_text", "word_perplexity"]["value"] == pytest.approx(math.exp(loss / words), rel=1e-4)


@needs_harness
def test_it_agrees_with_the_harness_on_transformers(nano: Path) -> None:
    """The harness's own model renders the chat template to text; ours must see the same tokens."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from phi3tune.evaluation.harness import EngineLM

    def asked(model: Any, kind: str) -> list[Any]:
        requests = []
        for doc in DOCS:
            history = [{"role": "user", "content": doc["question"]}]
            begun = model.apply_chat_template(
                [*history, {"role": "assistant", "content": "The number"}], add_generation_prompt=False
            )
            for context in (model.apply_chat_template(history), begun):
                extra = {"until": ["."], "max_gen_toks": 8} if kind == "generate_until" else f" {doc['choices'][0]}."
                requests.append(Instance(request_type=kind, doc=doc, arguments=(context, extra), idx=0))
        return list(getattr(model, kind)(requests))

    engine = TorchEngine(nano, threads=1)
    try:
        ours, theirs = EngineLM(engine, RecordingReporter()), HFLM(pretrained=str(nano), device="cpu", dtype="float32")
        assert asked(ours, "generate_until") == asked(theirs, "generate_until")
        scores = zip(asked(ours, "loglikelihood"), asked(theirs, "loglikelihood"), strict=True)
        for (logprob, greedy), (expected, expected_greedy) in scores:
            assert logprob == pytest.approx(expected, abs=1e-3)
            assert greedy == expected_greedy
    finally:
        engine.close()


@needs_harness
def test_a_run_beside_its_base(tasks: Path, workspace: Workspace, tiny_model: Path, tmp_path: Path) -> None:
    finished_run(workspace, "tuned", tiny_model, chats(tmp_path / "chats.jsonl", 20))
    found = run(config([str(tiny_model), "tuned"], tasks, ["local_text", "local_choice"]), tmp_path / "out", workspace)
    assert found is not None
    values = {(entry["model"], entry["task"]): entry["value"] for entry in found["results"]}
    assert set(values) == {(m, t) for m in (str(tiny_model), "tuned") for t in ("local_text", "local_choice")}
    assert values["tuned", "local_text"] != values[str(tiny_model), "local_text"]


@pytest.mark.slow
@needs_harness
def test_a_build_scores_like_its_model(tasks: Path, workspace: Workspace, tiny_model: Path, tmp_path: Path) -> None:
    from phi3tune.export.onnx import build

    (tmp_path / "fp32").mkdir()
    build(tiny_model, tmp_path / "fp32", "fp32", tmp_path)
    settings = config([str(tiny_model), str(tmp_path / "fp32")], tasks, ["local_text", "local_answer"])
    found = run(settings, tmp_path / "out", workspace)
    assert found is not None
    text, answer, text_of_build, answer_of_build = (entry["value"] for entry in found["results"])
    assert text_of_build == pytest.approx(text, rel=1e-4)
    assert answer_of_build == answer


@needs_harness
def test_an_endpoint_runs_the_tasks_that_generate(tasks: Path, workspace: Workspace, tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> str:
        number = int(body["messages"][-1]["content"].rstrip("?").split()[-1])
        return f"{number + 1}. That is all" if number % 2 else "no idea"

    with fake_openai(reply) as endpoint:
        settings = config([endpoint.address], tasks, ["local_answer", "local_choice"], benchmark_limit=4)
        found = run(settings, tmp_path / "out", workspace)
    assert found is not None
    answer, choice = found["results"]
    assert (answer["value"], answer["n"]) == (0.5, 4)
    assert choice["value"] is None
    assert "no probabilities" in choice["reason"]
    assert {body["temperature"] for body in endpoint.requests} == {0.0}


@needs_harness
def test_it_stops_and_goes_on_without_asking_again(tasks: Path, workspace: Workspace, tmp_path: Path) -> None:
    with fake_openai(lambda body: "7", models=("m",)) as endpoint:
        settings = config([endpoint.address], tasks, ["local_answer"])
        stopping = RecordingReporter(stop_when=lambda event: True)
        assert run(settings, tmp_path / "out", workspace, stopping) is None
        assert not endpoint.requests
        first = run(settings, tmp_path / "out", workspace)
        asked = len(endpoint.requests)
        assert run(settings, tmp_path / "out", workspace) == first
        (tmp_path / "out" / benchmarks.FILE).unlink()  # as if it was interrupted before the task's end
        reporter = RecordingReporter()
        assert run(settings, tmp_path / "out", workspace, reporter) == first
        assert len(endpoint.requests) == asked == len(DOCS)
        assert not reporter.of(Progress)


@needs_harness
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"benchmarks": ["local_choise"]}, "no task 'local_choise'; near are local_choice"),
        ({"benchmarks": ["local_choice"], "benchmark_tasks": "/nowhere"}, "is no folder"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    tasks: Path, settings: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    own = partial(TaskManager, include_defaults=False)  # the index of the harness's own tasks takes 15 s to read
    monkeypatch.setattr("lm_eval.tasks.TaskManager", own)
    with pytest.raises(UserError, match=told):
        benchmarks.check(EvalConfig(dataset="x", **{"benchmark_tasks": str(tasks), **settings}))


@needs_harness
def test_a_task_without_its_data_is_told(tasks: Path, workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").unlink()
    with pytest.raises(UserError, match="benchmark local_choice cannot be loaded") as caught:
        run(config(["phi3-nano"], tasks, ["local_choice"]), tmp_path / "out", workspace)
    assert "\n" not in str(caught.value)


def test_a_missing_harness_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install lm-eval"):
        benchmarks.check(EvalConfig(dataset="x", benchmarks=["gsm8k"]))
    benchmarks.check(EvalConfig(dataset="x"))
