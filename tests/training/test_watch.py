"""What a run measures and keeps on the way: entropy, the best evaluation, early stopping, and all of it resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from phi3tune.events import CheckpointSaved, Metrics, Notice
from phi3tune.training import checkpoints, warnings
from phi3tune.training.scoring import measured
from tests.training.runs import NewRun, Run

pytestmark = pytest.mark.slow

# A rate at which the eval loss of the tiny model soon rises: the best evaluation is not the last one.
WATCHED = {"learning_rate": 0.3, "eval_steps": 2, "save_steps": 5, "sample_count": 0, "keep_checkpoints": 1}


def evaluations(run: Run) -> dict[int, float]:
    return {
        metrics.step: metrics.values["eval_loss"]
        for reporter in run.reporters
        for metrics in reporter.of(Metrics)
        if "eval_loss" in metrics.values
    }


def saved_steps(run: Run) -> list[int]:
    return sorted(step for step, _ in checkpoints.checkpoint_folders(run.folder))


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_entropy_is_that_of_the_predictions():
    logits = torch.randn(7, 50, generator=torch.Generator().manual_seed(1)) * 3
    scored = measured(logits, torch.zeros(7, dtype=torch.long))
    assert scored.entropy == pytest.approx(torch.distributions.Categorical(logits=logits).entropy().sum().item())
    assert scored.loss.item() == pytest.approx(functional.cross_entropy(logits, torch.zeros(7).long()).item() * 7)


def test_entropy_and_intervals_are_told(new_run: NewRun):
    run = new_run(max_steps=7, log_steps=3, eval_steps=5, save_steps=7, sample_count=0)
    run.go()
    logged = [metrics for metrics in run.reporter.of(Metrics) if "loss" in metrics.values]
    # An evaluation and a checkpoint end an interval, too.
    assert [metrics.step for metrics in logged] == [3, 5, 6, 7]
    entropies = [metrics.values["entropy"] for metrics in logged]
    assert all(0 < entropy < torch.log(torch.tensor(32064.0)).item() for entropy in entropies)
    assert entropies[-1] < entropies[0]
    assert list(evaluations(run)) == [5, 7]


def test_the_best_evaluation_is_kept_and_is_the_result(new_run: NewRun):
    run = new_run(**WATCHED, keep_best=True)
    result = run.go()
    losses = evaluations(run)
    best = min(losses, key=losses.__getitem__)
    assert best < 12, losses  # or the test shows nothing
    assert (result["steps"], result["best_step"]) == (12, best)
    assert result["eval_loss"] == result["best_value"] == losses[best]
    # Of the others only the newest is kept.
    assert saved_steps(run) == [best, 12]
    told = run.reporter.of(CheckpointSaved)
    assert [event.step for event in told if event.best][-1] == best
    kept, last = (adapter(run.folder / "checkpoints" / f"checkpoint-{step}") for step in (best, 12))
    result_weights = adapter(run.folder / "adapter")
    assert all(torch.equal(result_weights[name], kept[name]) for name in kept)
    assert not all(torch.equal(result_weights[name], last[name]) for name in last)


def test_without_keep_best_the_last_weights_are_the_result_and_rotation_spares_none(new_run: NewRun):
    run = new_run(**WATCHED)
    result = run.go()
    assert result["eval_loss"] == evaluations(run)[12] > result["best_value"]
    assert saved_steps(run) == [12]


def test_early_stopping_ends_a_run_as_completed_with_its_result(new_run: NewRun):
    run = new_run(**WATCHED, early_stopping=1)
    result = run.go()
    losses = evaluations(run)
    best = min(losses, key=losses.__getitem__)
    assert (result["status"], result["ended_early"], result["best_step"]) == ("completed", True, best)
    assert result["steps"] == best + 2 < 12
    assert [notice.code for notice in run.reporter.of(Notice)].count("ended_early") == 1
    assert (run.folder / "adapter").is_dir()


def test_a_resumed_run_stops_early_where_an_uninterrupted_one_does(new_run: NewRun):
    whole, cut = (
        new_run(**WATCHED, early_stopping=1, keep_best=True),
        new_run(**WATCHED, early_stopping=1, keep_best=True),
    )
    expected = whole.go()
    stop = expected["steps"] - 2
    cut.go(stop_when=lambda event: isinstance(event, Metrics) and event.step == stop)
    assert cut.result["status"] == "stopped"
    result = cut.go(resume=True)
    for name in ("steps", "best_step", "best_value", "train_loss", "eval_loss", "ended_early"):
        assert result[name] == expected[name], name
    ours, theirs = adapter(cut.folder / "adapter"), adapter(whole.folder / "adapter")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_killed_after_it_ended_early_is_only_saved_again(new_run: NewRun):
    run = new_run(**WATCHED, early_stopping=1)
    first = run.go()
    before = json.loads((run.folder / "adapter" / "manifest.json").read_text())
    (run.folder / "adapter").rename(run.folder / "lost")
    again = run.go(resume=True)
    assert not run.reporter.of(Metrics)
    assert (again["steps"], again["ended_early"], again["eval_loss"]) == (first["steps"], True, first["eval_loss"])
    assert json.loads((run.folder / "adapter" / "manifest.json").read_text()) == before


def test_warnings_of_a_run_are_told_once_over_its_attempts(new_run: NewRun, monkeypatch: pytest.MonkeyPatch):
    def loud(curves: warnings.Curves) -> Notice | None:
        return Notice(code="loud", message=f"{len(curves.loss)} points") if len(curves.loss) >= 2 else None

    monkeypatch.setattr(warnings, "DETECTORS", (loud,))
    run = new_run(max_steps=5, eval_steps=5, sample_count=0)
    run.go(stop_when=lambda event: isinstance(event, Metrics) and event.step == 2)
    run.go(resume=True)
    notices = [notice for reporter in run.reporters for notice in reporter.of(Notice) if notice.code == "loud"]
    assert [notice.message for notice in notices] == ["2 points"]
