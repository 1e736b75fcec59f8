"""Jobs that died are offered for resuming until somebody says no."""

from __future__ import annotations

from typing import Any

from phi3tune import jobs
from phi3tune.config import TrainConfig
from phi3tune.events import Status
from phi3tune.jobs.folder import Job
from phi3tune.paths import Workspace


def run(workspace: Workspace, name: str, **status: Any) -> None:
    folder = workspace.runs / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.yaml").write_text("")
    (folder / jobs.JOB).write_text(Job("train", TrainConfig(dataset="lantern-support", name=name)).to_json())
    (folder / jobs.STATUS).write_text(Status(kind="train", **status).model_dump_json())


def offered(workspace: Workspace) -> list[str]:
    return [job.id for job in jobs.interrupted(workspace)]


def test_a_job_without_a_worker_is_offered_and_others_are_not(workspace: Workspace) -> None:
    run(workspace, "cut", state="running", step=7, steps=20, resume_step=5, heartbeat=100.0)
    run(workspace, "mistake", state="failed", reason="the disk is full")
    run(workspace, "stopped", state="stopped", reason="stopped by the user")
    run(workspace, "done", state="completed")
    assert offered(workspace) == ["cut"]


def test_a_dismissed_job_is_offered_again_when_it_dies_again(workspace: Workspace) -> None:
    killed = {"state": "failed", "reason": "the worker was killed by SIGKILL; it can be resumed from step 5"}
    run(workspace, "cut", **killed, ended=100.0)
    assert offered(workspace) == ["cut"]
    jobs.dismiss(workspace.runs / "cut")
    assert offered(workspace) == []
    run(workspace, "cut", **killed, ended=200.0)
    assert offered(workspace) == ["cut"]
