"""Sweeps: combinations, their runs in the queue, and the ranked table."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from phi3tune import jobs, sweeps, system
from phi3tune.config import TrainConfig
from phi3tune.errors import ConfigError, UserError
from phi3tune.events import EventLog, Metrics
from phi3tune.paths import Workspace
from tests import fakes
from tests.fake_runs import chats


@pytest.fixture(autouse=True)
def counting_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(system, "start_process", fakes.start_fake_worker)
    yield
    fakes.kill_workers()


@pytest.fixture
def shared(tmp_path: Path) -> dict[str, object]:
    return {"dataset": str(chats(tmp_path / "chats.jsonl", 30)), "max_steps": 2, "name": "hunt"}


def finish(sweep: sweeps.Sweep, workspace: Workspace) -> None:
    for trial in sweep.trials:
        list(jobs.follow(workspace.run(trial.run), workspace, poll_seconds=0.02))


def evaluated(workspace: Workspace, run: str, *values: float, metric: str = "eval_loss") -> None:
    """Write evaluations into a run's events, as training would."""
    log = EventLog(workspace.runs / run / jobs.EVENTS)
    for step, value in enumerate(values, 1):
        log.append(Metrics(step=step, values={metric: value}))


def test_a_grid_has_every_combination_in_order():
    assert sweeps.combinations(["lora_rank=8,16", "learning-rate=1e-4, 3e-4"]) == [
        {"lora_rank": rank, "learning_rate": rate} for rank in ("8", "16") for rate in ("1e-4", "3e-4")
    ]


def test_lists_and_nothing_can_be_tried():
    found = sweeps.combinations(["target_modules=qkv_proj+o_proj,o_proj", "neftune_alpha=none,5"])
    assert found[0] == {"target_modules": "qkv_proj,o_proj", "neftune_alpha": None}
    assert len(found) == 4


def test_a_random_draw_is_seeded_different_each_time_and_within_its_ranges():
    axes = ["learning_rate=1e-5..1e-2", "lora_rank=4..64", "scheduler=cosine,linear", "warmup_share=0..0.2"]
    drawn = sweeps.combinations(axes, sample=200, seed=1)
    assert drawn == sweeps.combinations(axes, sample=200, seed=1) != sweeps.combinations(axes, sample=200, seed=2)
    assert len({json.dumps(trial) for trial in drawn}) == 200
    rates, ranks = [t["learning_rate"] for t in drawn], [t["lora_rank"] for t in drawn]
    assert all(1e-5 <= rate <= 1e-2 for rate in rates)
    # Even in the logarithm: about half lie below the geometric middle.
    assert 70 < sum(rate < math.sqrt(1e-5 * 1e-2) for rate in rates) < 130
    assert all(isinstance(rank, int) and 4 <= rank <= 64 for rank in ranks)
    assert {t["scheduler"] for t in drawn} == {"cosine", "linear"}


def test_a_draw_of_more_than_there_is_takes_all():
    assert len(sweeps.combinations(["lora_rank=8,16"], sample=50)) == 2
    assert len(sweeps.combinations(["lora_rank=4..6"], sample=50)) == 3


@pytest.mark.parametrize(
    ("axes", "sample", "words"),
    [
        (["lora_rnk=8"], None, "write it as setting=value,value"),
        (["lora_rank"], None, "write it as setting=value,value"),
        (["name=a,b"], None, "write it as setting=value,value"),
        (["lora_rank=8", "lora-rank=16"], None, "given twice"),
        (["lora_rank=8..16"], None, "needs --random"),
        (["lora_rank=16..8"], 3, "goes upward"),
        (["lora_rank=a..b"], 3, "a range is low..high"),
        (["lora_rank=1..inf"], 3, "a range is low..high"),
        ([], None, "needs one --set or more"),
    ],
)
def test_wrong_axes_are_named(axes: list[str], sample: int | None, words: str):
    with pytest.raises(ConfigError, match=words):
        sweeps.combinations(axes, sample=sample)


def test_every_trial_is_a_run_of_the_queue_with_the_sweep_as_its_tag(workspace: Workspace, shared: dict):
    sweep = sweeps.start({**shared, "project": "lamps", "tags": "a"}, ["lora_rank=4,8", "method=lora,dora"], workspace)
    assert [trial.run for trial in sweep.trials] == ["hunt-1", "hunt-2", "hunt-3", "hunt-4"]
    assert [trial.settings for trial in sweep.trials][1] == {"lora_rank": 4, "method": "dora"}
    finish(sweep, workspace)
    for trial in sweep.trials:
        job = jobs.view(workspace.run(trial.run))
        assert (job.state, job.project, job.tags) == ("completed", "lamps", ("a", "hunt"))
    configs = [jobs.read_config(workspace.run(trial.run)) for trial in sweep.trials]
    assert [(config.lora_rank, config.use_dora) for config in configs] == [(4, False), (4, True), (8, False), (8, True)]
    assert sweeps.find("hunt", workspace) == sweep
    assert [each.id for each in sweeps.every(workspace)] == ["hunt"]


def test_wrong_trials_are_refused_together_before_any_starts(workspace: Workspace, shared: dict):
    with pytest.raises(ConfigError) as caught:
        sweeps.start(shared, ["lora_rank=8,0,9000", "use_dora=yes,no"], workspace)
    # The same mistake in several trials is told once.
    assert len(caught.value.problems) == 2
    assert "trial lora_rank=0, use_dora=yes: --lora-rank '0' is not accepted" in str(caught.value)
    with pytest.raises(ConfigError, match=r"nowhere\.jsonl"):
        sweeps.start({**shared, "dataset": "nowhere.jsonl"}, ["lora_rank=8,16"], workspace)
    with pytest.raises(ConfigError, match="raise --validation-share"):
        sweeps.start({**shared, "validation_share": 0}, ["lora_rank=8,16"], workspace)
    with pytest.raises(UserError, match="too many"):
        sweeps.start(shared, [f"seed={','.join(map(str, range(300)))}"], workspace)
    assert not workspace.runs.exists() and not (workspace.root / "sweeps").exists()


def test_a_name_is_made_and_a_taken_one_refused(workspace: Workspace, shared: dict):
    made = sweeps.start({**shared, "name": None}, ["lora_rank=4"], workspace)
    assert made.id == "chats-sweep-1"
    sweeps.start(shared, ["lora_rank=4"], workspace)
    with pytest.raises(UserError, match="'hunt' exists already"):
        sweeps.start(shared, ["lora_rank=4"], workspace)
    with pytest.raises(UserError, match="no sweep 'hun'; sweeps: chats-sweep-1, hunt"):
        sweeps.find("hun", workspace)


def test_the_table_ranks_by_the_metric_of_the_result(workspace: Workspace, shared: dict):
    sweep = sweeps.start(shared, ["lora_rank=4,8,16,32"], workspace)
    finish(sweep, workspace)
    evaluated(workspace, "hunt-1", 2.0, 1.5)
    evaluated(workspace, "hunt-2", 0.5, 1.2)  # its result is the last one
    evaluated(workspace, "hunt-4", 1.0, math.nan)
    table = sweeps.table(sweep, workspace)
    assert [(row["rank"], row["run"], row["value"]) for row in table["rows"]] == [
        (1, "hunt-2", 1.2),
        (2, "hunt-1", 1.5),
        (None, "hunt-3", None),
        (None, "hunt-4", None),
    ]
    assert (table["best"], table["completed"], table["metric"]) == ("hunt-2", 4, "eval_loss")
    assert table["rows"][0]["settings"] == {"lora_rank": 8}


def test_with_keep_best_a_trial_counts_with_its_best_and_accuracies_rank_downward(workspace: Workspace, shared: dict):
    settings = {**shared, "keep_best": True, "best_metric": "eval_token_accuracy"}
    sweep = sweeps.start(settings, ["lora_rank=4,8"], workspace)
    finish(sweep, workspace)
    evaluated(workspace, "hunt-1", 0.5, 0.6, metric="eval_token_accuracy")
    evaluated(workspace, "hunt-2", 0.9, 0.2, metric="eval_token_accuracy")
    rows = sweeps.table(sweep, workspace)["rows"]
    assert [(row["run"], row["value"]) for row in rows] == [("hunt-2", 0.9), ("hunt-1", 0.6)]


def test_stop_ends_all_and_going_on_takes_up_what_is_missing(workspace: Workspace, shared: dict):
    sweep = sweeps.start({**shared, "max_steps": 100_000}, ["lora_rank=4,8,16"], workspace)
    assert sweeps.stop(sweep, workspace) == 3
    finish(sweep, workspace)
    assert [jobs.view(workspace.run(trial.run)).state for trial in sweep.trials] == ["stopped"] * 3
    assert sweeps.stop(sweep, workspace) == 0
    jobs.delete(workspace.run("hunt-2"), workspace)
    assert [row["status"] for row in sweeps.table(sweep, workspace)["rows"]] == ["stopped", "missing", "stopped"]
    sweeps.go_on(sweep, workspace)
    assert sorted(job.id for job in jobs.active(workspace)) == ["hunt-1", "hunt-2", "hunt-3"]
    sweeps.stop(sweep, workspace)
    finish(sweep, workspace)


def test_a_sweep_that_died_before_its_runs_is_taken_up_again(
    workspace: Workspace, shared: dict, monkeypatch: pytest.MonkeyPatch
):
    class DiedError(Exception):
        pass

    submit, calls = jobs.submit, []

    def dies(*given: object) -> Path:
        calls.append(given)
        if len(calls) == 2:
            raise DiedError
        return submit(*given)

    monkeypatch.setattr(jobs, "submit", dies)
    with pytest.raises(DiedError):
        sweeps.start(shared, ["lora_rank=4,8"], workspace)
    sweep = sweeps.go_on(sweeps.find("hunt", workspace), workspace)
    finish(sweep, workspace)
    config = jobs.read_config(workspace.run("hunt-2"))
    assert isinstance(config, TrainConfig) and config.lora_rank == 8
    shutil.rmtree(workspace.root / "sweeps")
    assert jobs.view(workspace.run("hunt-2")).state == "completed"
