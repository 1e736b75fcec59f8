"""Curves in other tools: what they are given, that nothing private is, and that they never end a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phi3tune.config import TrainConfig
from phi3tune.engines import models
from phi3tune.errors import ConfigError
from phi3tune.events import Metrics, Notice, Progress, Resumed
from phi3tune.paths import Workspace
from phi3tune.training import settings, trackers
from tests.fakes import RecordingReporter

STEPS = [
    Metrics(step=1, weight=10, values={"loss": 2.0, "grad_norm": 0.5}),
    Metrics(step=2, weight=10, values={"loss": 1.5, "grad_norm": 0.4}),
    Metrics(step=2, values={"eval_loss": 1.25}),
]


def follow(config: TrainConfig, run_dir: Path, events: list[Any]) -> RecordingReporter:
    reporter = RecordingReporter()
    with trackers.tracked(config, run_dir, reporter) as following:
        for event in events:
            following.emit(event)
    return reporter


def tensorboard_points(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run_dir / "tensorboard"))
    found.Reload()
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_tensorboard_has_every_point(tmp_path: Path):
    reporter = follow(TrainConfig(trackers=["tensorboard"]), tmp_path, STEPS)
    assert reporter.events == STEPS
    points = tensorboard_points(tmp_path)
    assert points["train/loss"] == [(1, 2.0), (2, 1.5)]
    assert points["eval/loss"] == [(2, 1.25)]
    assert [step for step, _ in points["train/grad_norm"]] == [1, 2]


def test_points_after_the_step_of_a_resume_are_replaced(tmp_path: Path):
    config = TrainConfig(trackers=["tensorboard"])
    follow(config, tmp_path, STEPS)
    follow(config, tmp_path, [Resumed(step=1), Metrics(step=2, weight=10, values={"loss": 1.0})])
    assert tensorboard_points(tmp_path)["train/loss"] == [(1, 2.0), (2, 1.0)]


def test_without_trackers_the_reporter_is_left_alone(tmp_path: Path):
    reporter = RecordingReporter()
    with trackers.tracked(TrainConfig(), tmp_path, reporter) as following:
        assert following is reporter
    assert list(tmp_path.iterdir()) == []


class FakeRun:
    def __init__(self, given: dict[str, Any]) -> None:
        self.given, self.logged, self.finished = given, [], 0

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[FakeRun]]:
    """Stand-ins for trackio and wandb, which keep what they are given."""
    found: dict[str, list[FakeRun]] = {"trackio": [], "wandb": []}

    def init_of(name: str) -> Any:
        def init(**given: Any) -> FakeRun:
            found[name].append(FakeRun(given))
            return found[name][-1]

        return init

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=init_of("trackio")))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init_of("wandb"), Settings=dict))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "")
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    return found


SECRETS = {"dataset": "/home/me/patients.jsonl", "note": "for the trial", "columns": {"user": "q"}}


def test_trackio_and_wandb_get_numbers_and_settings_and_nothing_private(
    tmp_path: Path, opened: dict[str, list[FakeRun]]
):
    run_dir = tmp_path / "lamp-1"
    run_dir.mkdir()
    config = TrainConfig(trackers=["trackio", "wandb"], lora_rank=4, model="/home/me/models/mine", **SECRETS)
    follow(config, run_dir, [Progress(done=1, total=2), *STEPS])
    for name in ("trackio", "wandb"):
        [run] = opened[name]
        assert run.logged[0] == (1, {"train/loss": 2.0, "train/grad_norm": 0.5})
        assert run.logged[2] == (2, {"eval/loss": 1.25})
        assert run.finished == 1
        assert (run.given["project"], run.given["name"]) == ("phi3tune", "lamp-1")
        assert (run.given["config"]["lora_rank"], run.given["config"]["model"]) == (4, "mine")
        assert not any(secret in repr(run.given["config"]) for secret in ("/home", "patients", "trial"))


def test_nothing_leaves_the_machine_unless_the_tool_is_told_so(
    tmp_path: Path, opened: dict[str, list[FakeRun]], monkeypatch: pytest.MonkeyPatch
):
    config = TrainConfig(trackers=["wandb", "trackio"])
    follow(config, tmp_path, STEPS)
    assert opened["wandb"][0].given["mode"] == "offline"
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    options = opened["wandb"][0].given["settings"]
    assert options["disable_git"] and options["disable_code"] and options["x_disable_machine_info"]
    assert opened["trackio"][0].given["auto_log_cpu"] is False
    assert "space_id" not in opened["trackio"][0].given
    monkeypatch.setenv("WANDB_MODE", "online")
    follow(config, tmp_path, [Resumed(step=1), *STEPS[1:]])
    assert opened["wandb"][1].given["mode"] == "online"


def test_attempts_at_one_run_are_one_run_in_the_tools(tmp_path: Path, opened: dict[str, list[FakeRun]]):
    config = TrainConfig(trackers=["wandb", "trackio"])
    for number, name in enumerate(("lamp-1", "lamp-2")):
        (tmp_path / name).mkdir()
        follow(config, tmp_path / name, STEPS)
        follow(config, tmp_path / name, [Resumed(step=1), *STEPS[1:]])
        first, again = opened["wandb"][2 * number : 2 * number + 2]
        assert first.given["id"] == again.given["id"] and first.given["resume"] == "allow"
        assert [run.given["resume"] for run in opened["trackio"][2 * number :]] == ["never", "allow"]
    assert opened["wandb"][0].given["id"] != opened["wandb"][2].given["id"]


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(
    tmp_path: Path, opened: dict[str, list[FakeRun]], monkeypatch: pytest.MonkeyPatch
):
    def broken(self: FakeRun, values: dict[str, float], step: int) -> None:
        raise ConnectionError("the network\nis gone")

    monkeypatch.setattr(FakeRun, "log", broken)
    reporter = follow(TrainConfig(trackers=["trackio"]), tmp_path, STEPS)
    [notice] = reporter.of(Notice)
    assert (notice.code, notice.message) == ("tracker_failed", "trackio takes no more curves: the network is gone")
    assert reporter.of(Metrics) == STEPS
    assert opened["trackio"][0].finished == 0


def test_a_tracker_that_is_not_installed_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: object() if name == "tensorboard" else None)
    assert trackers.problems(["tensorboard"]) == []
    assert trackers.problems(["wandb", "tensorboard", "trackio"]) == [
        "--trackers wandb needs a package that is not installed; run: pip install wandb",
        "--trackers trackio needs a package that is not installed; run: pip install trackio",
    ]


def test_a_run_with_a_missing_tracker_is_not_admitted(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    start = models.resolve("phi3-nano", workspace)
    with pytest.raises(ConfigError, match="pip install wandb"):
        settings.check(TrainConfig(trackers=["wandb"]), start)
