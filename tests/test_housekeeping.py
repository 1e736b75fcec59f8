"""What a workspace takes, and what of it may go."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from phi3tune import housekeeping, jobs, system
from phi3tune.cli import main
from phi3tune.config import EvalConfig, TrainConfig
from phi3tune.errors import UserError
from phi3tune.events import Status
from phi3tune.jobs.folder import Job
from phi3tune.paths import Workspace
from phi3tune.store import queue


def job(folder: Path, config: TrainConfig | EvalConfig, **status: Any) -> Path:
    kind: jobs.Kind = "train" if isinstance(config, TrainConfig) else "evaluate"
    folder.mkdir(parents=True)
    (folder / jobs.JOB).write_text(Job(kind, config).to_json())
    (folder / jobs.STATUS).write_text(Status(kind=kind, **status).model_dump_json())
    return folder


def run(workspace: Workspace, name: str, state: str, steps: tuple[int, ...] = (10, 20, 30)) -> Path:
    folder = job(workspace.runs / name, TrainConfig(dataset="lantern-support", name=name), state=state)
    (folder / "run.yaml").write_text("")
    for step in steps:
        checkpoint = folder / "checkpoints" / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "weights").write_bytes(b"w" * 1000)
    return folder


def steps(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


def test_only_finished_runs_lose_checkpoints_and_never_the_last(workspace: Workspace) -> None:
    done, stopped = run(workspace, "done", "completed"), run(workspace, "stopped", "stopped")
    failed = run(workspace, "failed", "failed")
    assert housekeeping.measure(workspace).checkpoints == 2000
    assert housekeeping.delete_checkpoints(workspace) == 2000
    assert steps(done) == {"checkpoint-30"}
    assert steps(stopped) == steps(failed) == {"checkpoint-10", "checkpoint-20", "checkpoint-30"}
    assert housekeeping.delete_checkpoints(workspace) == 0


def test_a_checkpoint_that_a_job_waits_for_stays(workspace: Workspace) -> None:
    done = run(workspace, "done", "completed")
    config = EvalConfig(dataset="lantern-support", models=["phi3-nano", "done/checkpoint-10"])
    waiting = job(workspace.evals / "compare", config, state="queued")
    with queue(workspace) as line:
        line.add(waiting, "tools")
    with pytest.raises(UserError, match="done/checkpoint-10 is in use by compare"):
        housekeeping.delete_checkpoints(workspace)
    assert len(steps(done)) == 3


def test_what_is_open_is_not_deleted(workspace: Workspace) -> None:
    workspace.trash.mkdir(parents=True)
    old = workspace.trash / "old-run"
    old.mkdir()
    (old / "weights").write_bytes(b"w" * 500)
    with (old / "weights").open("rb"), pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        housekeeping.empty_trash(workspace)
    assert (old / "weights").is_file()
    assert housekeeping.empty_trash(workspace) == 500
    assert list(workspace.trash.iterdir()) == []


def test_leftovers_are_old_and_nobody_writes_them(workspace: Workspace) -> None:
    working, left = run(workspace, "working", "stopped", ()), run(workspace, "left", "stopped", ())
    fresh = left / ".merged.tmp-1-fresh"
    old = [folder / ".adapter.tmp-1-abc" for folder in (working, left)]
    old.append(workspace.datasets / ".lamp.tmp-1-abc")
    for folder in (fresh, *old):
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"h" * 100)
    before = time.time() - 2 * housekeeping.STALE_SECONDS
    for folder in old:
        os.utime(folder / "half", (before, before))
        os.utime(folder, (before, before))
    lock = system.FolderLock(working / jobs.LOCK)
    assert lock.acquire()
    try:
        assert housekeeping.measure(workspace).leftovers == 300
        housekeeping.delete_leftovers(workspace)
    finally:
        lock.release()
    assert [folder.exists() for folder in old] == [True, False, False]


def test_every_byte_is_counted_once(workspace: Workspace) -> None:
    run(workspace, "done", "completed")
    (workspace.trash / "gone").mkdir(parents=True)
    (workspace.trash / "gone" / "file").write_bytes(b"x" * 70)
    job(workspace.evals / "compare", EvalConfig(dataset="lantern-support"), state="completed")
    room = housekeeping.measure(workspace)
    assert room.total == sum(path.stat().st_size for path in workspace.root.rglob("*") if path.is_file())
    assert (room.trash, room.builds, room.reports > 0) == (70, 0, True)


def test_an_empty_workspace_takes_nothing(workspace: Workspace) -> None:
    assert housekeeping.measure(workspace).total == 0


def test_the_command_tells_first_and_deletes_when_asked(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(workspace, "done", "completed")
    assert main(["clean", "--checkpoints", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["freed"] == {"checkpoints": 2000}
    assert len(steps(done)) == 3
    assert main(["clean"]) == 0
    assert "earlier checkpoints of finished runs" in capsys.readouterr().err
    assert len(steps(done)) == 3
    assert main(["clean", "--checkpoints", "--trash"]) == 0
    assert steps(done) == {"checkpoint-30"}
