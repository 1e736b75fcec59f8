"""The queue: pause, order, cancel; secrets; what a dead worker said last."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from phi3tune import jobs, system, worker
from phi3tune.admission import Admission
from phi3tune.config import TrainConfig
from phi3tune.errors import UserError
from phi3tune.events import Failed, Notice, Resumed, Stopped
from phi3tune.jobs import actions, workers
from phi3tune.jobs.death import last_words
from phi3tune.paths import Workspace
from tests import fakes
from tests.test_jobs import ENDLESS, finish, submit, wait_until


@pytest.fixture(autouse=True)
def counting_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def admitted(config: TrainConfig, workspace: Workspace, *, token: str | None = None) -> Admission:
        return Admission(config, workspace.runs, config.name, "run")

    monkeypatch.setattr(system, "start_process", fakes.start_fake_worker)
    monkeypatch.setattr(actions, "admit", admitted)
    yield
    fakes.kill_workers()


def waiting(workspace: Workspace) -> list[str]:
    """Names of the jobs that wait, by their positions."""
    found = [job for job in jobs.active(workspace) if job.queue_position is not None]
    assert [job.queue_position for job in found] == list(range(1, len(found) + 1))
    return [job.id for job in found]


@pytest.fixture
def busy(workspace: Workspace) -> Path:
    """A run that goes on until it is stopped, with runs a to d waiting behind it."""
    first = submit(workspace, "first", steps=ENDLESS)
    for name in "abcd":
        submit(workspace, name)
    wait_until(lambda: jobs.view(first).step > 0)
    return first


def test_a_paused_run_makes_room_and_goes_on_before_the_others(workspace: Workspace, busy: Path) -> None:
    jobs.reorder(workspace.run("d"), workspace, 1)
    for name in "abc":
        jobs.cancel(workspace.run(name), workspace)
    blocker = submit(workspace, "blocker", steps=ENDLESS)
    later = submit(workspace, "later")
    jobs.pause(busy, workspace)
    job, events = finish(busy, workspace)
    assert (job.state, job.reason, job.result["status"]) == ("paused", "paused by the user", "paused")
    assert isinstance(events[-1], Stopped) and events[-1].paused
    wait_until(lambda: jobs.view(blocker).step > 0)
    assert jobs.view(workspace.run("d")).state == "completed"
    offset = jobs.resume(busy, workspace)
    assert waiting(workspace) == ["first", "later"]
    jobs.stop(blocker, workspace)
    wait_until(lambda: jobs.view(busy).step > job.step)
    jobs.stop(busy, workspace)
    job_again, events = finish(busy, workspace, offset)
    assert job_again.state == "stopped" and not events[-1].paused  # type: ignore[union-attr]
    assert next(event.step for event in events if isinstance(event, Resumed)) == job.resume_step
    finish(later, workspace)


def test_a_waiting_run_can_be_paused(workspace: Workspace, busy: Path) -> None:
    b = workspace.run("b")
    jobs.pause(b, workspace)
    assert jobs.view(b).state == "paused" and waiting(workspace) == ["a", "c", "d"]
    with pytest.raises(UserError, match="cannot be paused: it is paused"):
        jobs.pause(b, workspace)
    jobs.resume(b, workspace)
    assert waiting(workspace) == ["b", "a", "c", "d"]


@pytest.mark.parametrize(("position", "order"), [(1, "cabd"), (2, "acbd"), (3, "abcd"), (4, "abdc")])
def test_order_is_what_the_user_says(workspace: Workspace, busy: Path, position: int, order: str) -> None:
    jobs.reorder(workspace.run("c"), workspace, position)
    assert waiting(workspace) == list(order)


@pytest.mark.parametrize("position", [0, 5, -1])
def test_a_position_that_is_none_changes_nothing(workspace: Workspace, busy: Path, position: int) -> None:
    with pytest.raises(UserError, match=f"position {position} is not accepted: use 1 to 4"):
        jobs.reorder(workspace.run("c"), workspace, position)
    with pytest.raises(UserError, match="does not wait in the queue: it is running"):
        jobs.reorder(busy, workspace, 1)
    assert waiting(workspace) == list("abcd")


def test_cancel_leaves_alone_what_has_begun(workspace: Workspace, busy: Path) -> None:
    jobs.cancel(workspace.run("b"), workspace)
    assert jobs.view(workspace.run("b")).reason == "cancelled before it started"
    assert waiting(workspace) == ["a", "c", "d"]
    with pytest.raises(UserError, match="does not wait in the queue: it is running"):
        jobs.cancel(busy, workspace)
    assert jobs.view(busy).state == "running" and not (busy / jobs.STOP).exists()


def test_a_job_that_ended_is_not_started_again(workspace: Workspace, busy: Path) -> None:
    a = workspace.run("a")
    jobs.write_status(a, jobs.read_status(a).model_copy(update={"state": "stopped"}))
    jobs.stop(busy, workspace)
    finish(workspace.run("d"), workspace)
    assert jobs.view(a).state == "stopped" and not (a / jobs.LOG).exists()


def test_secrets_reach_the_worker_and_never_the_disk(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def start(argv: list[str], **options: dict[str, str]) -> object:
        seen.append(options["env"].get("HF_TOKEN"))
        return fakes.start_fake_worker(argv, **options)

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(system, "start_process", start)
    config = TrainConfig(name="lamp", max_steps=3)
    folder = jobs.submit("train", config, workspace, secrets={"HF_TOKEN": "hf_canary"})
    _, events = finish(folder, workspace)
    assert seen == ["hf_canary"] and not [event for event in events if isinstance(event, Notice)]
    assert jobs.read_job(folder).secrets == ("HF_TOKEN",)
    written = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert len(written) > 4 and not any(b"hf_canary" in path.read_bytes() for path in written)


def test_a_worker_without_its_secrets_says_so(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(workers, "keep_secrets", lambda folder, secrets: None)  # as if another process started it
    config = TrainConfig(name="lamp", max_steps=3)
    job, events = finish(jobs.submit("train", config, workspace, secrets={"HF_TOKEN": "hf_canary"}), workspace)
    [notice] = [event for event in events if isinstance(event, Notice)]
    assert notice.code == "secret_lost" and "HF_TOKEN" in notice.message
    assert job.state == "completed" and not any(isinstance(event, Resumed) for event in events)


def test_secrets_of_one_job_do_not_reach_the_next(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first worker's last act is to start the second one."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    first = jobs.submit("train", TrainConfig(name="first", max_steps=40), workspace, secrets={"HF_TOKEN": "hf_canary"})
    second = submit(workspace, "second", steps=ENDLESS)
    workers.wait(first)
    wait_until(lambda: jobs.view(second).state == "running")
    assert second not in workers.children
    pid = jobs.read_status(second).pid
    assert "HF_TOKEN" not in psutil.Process(pid).environ()
    jobs.stop(second, workspace, now=True)


def test_a_title_project_and_tags_are_shown_and_found(workspace: Workspace) -> None:
    settings = {"max_steps": 1, "project": "lanterns", "tags": ["small"], "note": "First."}
    finish(jobs.submit("train", TrainConfig(name="a", **settings), workspace), workspace)
    finish(submit(workspace, "b", steps=1), workspace)
    assert [job.id for job in jobs.runs(workspace, project="lanterns", tag="small")] == ["a"]
    assert jobs.runs(workspace, tag="large") == []
    [job] = jobs.runs(workspace, project="lanterns")
    assert (job.title, job.project, job.tags, job.about.note) == ("a", "lanterns", ("small",), "First.")
    assert jobs.projects(workspace) == {"lanterns": 1}


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("RuntimeError: it broke\n/lib/x.py:3: FutureWarning: y is old\n  warnings.warn(\n", "RuntimeError: it broke"),
        ("loading\n[W1122 10:00:00.0 x.cpp:1] Warning: y\n", "loading"),
        ("terminate called after throwing\n  what():  std::bad_alloc\n", "what():  std::bad_alloc"),
        ('Fatal Python error: Aborted\n\n  File "x.py", line 1 in f\n', "Fatal Python error: Aborted"),
        ("torch.OutOfMemoryError: CUDA out of memory\nplain words\n", "torch.OutOfMemoryError: CUDA out of memory"),
        ("/x.py:1: UserWarning: y\n", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_last_words_are_an_error_rather_than_a_warning(tmp_path: Path, log: str, words: str) -> None:
    earlier = "--- worker started 2026-11-20\nValueError: of an earlier attempt\n"
    (tmp_path / jobs.LOG).write_text(f"{earlier}--- worker started 2026-11-21\n{log}")
    assert last_words(tmp_path) == words


def test_a_crash_in_native_code_is_named(workspace: Workspace) -> None:
    folder = submit(workspace, steps=ENDLESS)
    wait_until(lambda: jobs.view(folder).step > 0)
    pid = jobs.read_status(folder).pid
    assert pid is not None
    os.kill(pid, signal.SIGSEGV)
    job, _ = finish(folder, workspace)
    assert job.state == "failed" and "killed by SIGSEGV" in job.reason


def test_a_write_that_a_full_disk_refuses_is_told_without_a_traceback(workspace: Workspace) -> None:
    folder = submit(workspace, "full")
    wait_until(lambda: (folder / worker.RESERVE).exists() or not jobs.view(folder).active)
    job, events = finish(folder, workspace)
    assert job.state == "failed" and isinstance(events[-1], Failed) and events[-1].user_error
    assert f"the disk of {folder} is full" in job.reason and "at least 67 MB are needed" in job.reason
    assert "Traceback" not in (folder / jobs.LOG).read_text() and not (folder / worker.RESERVE).exists()


def test_a_second_worker_leaves_an_ended_job_alone(workspace: Workspace) -> None:
    job, _ = finish(submit(workspace, steps=2), workspace)
    before = (job.folder / jobs.STATUS).read_bytes()
    assert worker.run(job.folder) == 0
    assert (job.folder / jobs.STATUS).read_bytes() == before and not system.is_locked(job.folder / jobs.LOCK)


def test_a_job_of_an_earlier_version_is_read(workspace: Workspace, busy: Path) -> None:
    job = json.loads((busy / jobs.JOB).read_text())
    del job["secrets"]
    (busy / jobs.JOB).write_text(json.dumps(job))
    assert jobs.read_job(busy).secrets == ()
