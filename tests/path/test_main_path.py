"""The main job, end to end, on the bundled model and data, through the command line."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phi3tune import jobs, paths
from phi3tune.events import Metrics, Resumed, Sample, read_events
from phi3tune.paths import Workspace
from tests.path.command import ROOT, Command, Tuned

pytestmark = [pytest.mark.slow, pytest.mark.alone]
SHORT = ("--model", "phi3-nano", "--dataset", "lantern-support", "--max-steps", "12", "--save-steps", "4")


def test_training_tells_what_it_did(tuned: Tuned) -> None:
    result = tuned.result
    assert result["status"] == "completed" and result["run"] == "lantern-support-1"
    assert 0 < result["trained_tokens"] < result["tokens"]
    events, _ = read_events(tuned.home / "runs" / tuned.run / jobs.EVENTS)
    metrics = [event for event in events if isinstance(event, Metrics)]
    losses = [event.values["loss"] for event in metrics if "loss" in event.values]
    assert losses[-1] < losses[0] / 4
    keys = {key for event in metrics for key in event.values}
    assert {"loss", "token_accuracy", "learning_rate", "grad_norm", "tokens_per_second", "eval_loss"} <= keys
    assert [event for event in events if isinstance(event, Sample)]


def test_the_tuned_model_answers_held_out_questions_and_the_base_does_not(tuned: Tuned) -> None:
    answer = tuned("evaluate", "phi3-nano", tuned.run, "--dataset", "datasets/lantern-support", "--json")
    assert answer.code == 0, answer.errors
    base, ours = answer.json["models"]
    assert (base["model"], ours["model"]) == ("phi3-nano", tuned.run)
    assert answer.json["rows"] == sum(1 for _ in (ROOT / "datasets/lantern-support/test.jsonl").open())
    assert base["metrics"]["exact_match"] <= 0.05
    assert ours["metrics"]["exact_match"] >= 0.80
    assert ours["metrics"]["perplexity"] < base["metrics"]["perplexity"]
    assert ours["metrics"]["token_f1"] >= ours["metrics"]["exact_match"]


def test_the_int4_build_behaves_like_the_merged_model(tuned: Tuned) -> None:
    export = tuned("export", tuned.run, "--format", "onnx", "--precision", "int4", "--json")
    assert export.code == 0, export.errors
    parity = export.json["parity"]
    assert parity["passed"] and parity["top1_agreement"] >= 0.95 and parity["kl_mean"] <= 0.02
    build = Path(export.json["path"])
    assert build == tuned.home / "runs" / tuned.run / "onnx" / export.json["build"]
    assert paths.manifest_problem(build) is None
    assert export.json["size_bytes"] == sum(p.stat().st_size for p in build.rglob("*") if p.is_file())
    names = (f"{tuned.run}/merged", f"{tuned.run}/onnx/{export.json['build']}")
    scores = tuned("evaluate", *names, "--dataset", "datasets/lantern-support", "--json")
    assert scores.code == 0, scores.errors
    merged, built = (model["metrics"]["exact_match"] for model in scores.json["models"])
    assert abs(merged - built) <= 0.03


def test_the_fp32_build_gives_the_same_greedy_answers(tuned: Tuned) -> None:
    export = tuned("export", tuned.run, "--precision", "fp32", "--parity-rows", "16", "--json")
    assert export.code == 0, export.errors
    parity = export.json["parity"]
    assert parity["greedy_match"] == 1.0 and parity["kl_mean"] <= 1e-5 and parity["passed"]


def test_talking_to_a_run_in_the_terminal(tuned: Tuned) -> None:
    row = json.loads((ROOT / "datasets/lantern-support/train.jsonl").open().readline())
    question, answer = (message["content"] for message in row["messages"])
    talk = subprocess.run(
        [sys.executable, "-m", "phi3tune", "chat", tuned.run],
        input=f"{question}\n\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PHI3TUNE_HOME": str(tuned.home)},
        check=True,
    )
    assert talk.stdout.strip() == answer


def test_a_killed_run_resumes_to_the_loss_of_an_uninterrupted_one(phi3tune: Command, workspace: Workspace) -> None:
    whole = phi3tune("train", *SHORT, "--name", "whole", "--json")
    assert whole.code == 0, whole.errors
    started = phi3tune("train", *SHORT, "--name", "killed", "--detach", "--json")
    assert started.code == 0, started.errors
    folder = workspace.run("killed")
    end = time.monotonic() + 120
    while (jobs.view(folder).resume_step or 0) < 4:
        assert time.monotonic() < end and jobs.view(folder).active
        time.sleep(0.02)
    pid = jobs.read_status(folder).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    rows = {row["run"]: row for row in phi3tune("runs", "--json").json["runs"]}
    assert rows["killed"]["status"] == "failed"
    assert rows["killed"]["resume_step"] in (4, 8)
    assert rows["killed"]["reason"]

    resumed = phi3tune("resume", "killed", "--json")
    assert resumed.code == 0, resumed.errors
    assert resumed.json["steps"] == whole.json["steps"] == 12
    assert math.isclose(resumed.json["train_loss"], whole.json["train_loss"], rel_tol=1e-6)
    events, _ = read_events(folder / jobs.EVENTS)
    assert [event.step for event in events if isinstance(event, Resumed)] == [rows["killed"]["resume_step"]]


def test_nothing_reaches_standard_output_but_the_object(tuned: Tuned) -> None:
    for argv in (["runs"], ["runs", "show", tuned.run], ["doctor"], ["data", "check", "lantern-support"]):
        answer = tuned(*argv, "--json")
        assert isinstance(answer.json, dict), argv
