"""Jobs and the queue, with workers that only count."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from phi3tune import jobs, system
from phi3tune.admission import Admission
from phi3tune.config import TrainConfig
from phi3tune.errors import UserError
from phi3tune.events import CheckpointSaved, Completed, Event, Failed, Progress, Resumed, Stopped
from phi3tune.jobs import actions, workers
from phi3tune.paths import Workspace
from tests import fakes

ENDLESS = 1_000_000


@pytest.fixture(autouse=True)
def counting_workers(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> Iterator[None]:
    """Workers count instead of training; those that a test leaves behind are killed."""

    def admitted(config: TrainConfig, workspace: Workspace, *, token: str | None = None) -> Admission:
        return Admission(config, workspace.runs, config.name, "run")

    monkeypatch.setattr(system, "start_process", fakes.start_fake_worker)
    monkeypatch.setattr(actions, "admit", admitted)
    yield
    fakes.kill_workers()


def submit(workspace: Workspace, name: str | None = None, steps: int = 6) -> Path:
    return jobs.submit("train", TrainConfig(name=name, max_steps=steps), workspace)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def finish(folder: Path, workspace: Workspace, offset: int = 0) -> tuple[jobs.JobView, list[Event]]:
    events = list(jobs.follow(folder, workspace, offset=offset, poll_seconds=0.02))
    return jobs.view(folder), events


def test_a_job_tells_all_and_completes(workspace: Workspace) -> None:
    job, events = finish(submit(workspace, "lamp"), workspace)
    assert (job.state, job.step, job.steps, job.share_done) == ("completed", 6, 6, 1.0)
    assert [event.done for event in events if isinstance(event, Progress)] == [1, 2, 3, 4, 5, 6]
    assert isinstance(events[-1], Completed)
    assert job.result["run"] == "lamp" and job.result["seconds"] > 0
    assert job.resume_step == 6
    assert jobs.active(workspace) == []


def test_one_training_job_at_a_time_in_order(workspace: Workspace) -> None:
    first = submit(workspace, steps=ENDLESS)
    second, third = submit(workspace), submit(workspace)
    wait_until(lambda: jobs.view(first).step > 0)
    waiting = {job.folder: job.queue_position for job in jobs.active(workspace)}
    assert waiting == {first: None, second: 1, third: 2}
    assert jobs.view(second).state == "queued"
    jobs.stop(first, workspace)
    finish(third, workspace)
    states = [jobs.view(folder).state for folder in (first, second, third)]
    assert states == ["stopped", "completed", "completed"]
    assert jobs.read_status(second).started < jobs.read_status(third).started  # type: ignore[operator]


def test_stop_finishes_the_step_and_resume_goes_on(workspace: Workspace) -> None:
    folder = submit(workspace, steps=300)
    wait_until(lambda: jobs.view(folder).step >= 3)
    jobs.stop(folder, workspace)
    job, _ = finish(folder, workspace)
    assert job.state == "stopped" and 3 <= job.step < 300
    again, events = finish(folder, workspace, jobs.resume(folder, workspace))
    assert again.state == "completed" and again.step == 300
    resumed = next(event for event in events if isinstance(event, Resumed))
    assert resumed.step == job.resume_step
    assert not any(isinstance(event, Stopped) for event in events)


def test_a_killed_worker_is_named_failed_with_its_resume_point(workspace: Workspace) -> None:
    folder = submit(workspace, steps=ENDLESS)
    wait_until(lambda: (jobs.view(folder).resume_step or 0) >= 2)
    pid = jobs.read_status(folder).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: jobs.view(folder).state == "failed", seconds=10.0)
    job = jobs.view(folder)
    assert "SIGKILL" in job.reason and f"resumed from step {job.resume_step}" in job.reason
    jobs.dispatch(workspace)
    assert jobs.read_status(folder).state == "failed"
    jobs.resume(folder, workspace)
    wait_until(lambda: jobs.view(folder).state == "running" and jobs.view(folder).step > job.step)


def test_a_worker_that_nobody_here_started_is_buried_too(workspace: Workspace) -> None:
    folder = submit(workspace, steps=ENDLESS)
    wait_until(lambda: jobs.view(folder).state == "running")
    child = workers.children.pop(folder)
    assert jobs.view(folder).state == "running"
    child.kill()
    child.wait()
    job, _ = finish(folder, workspace)
    assert job.state == "failed" and "without a word" in job.reason


def test_a_crash_is_a_failure_with_its_reason_in_one_line(workspace: Workspace) -> None:
    job, events = finish(submit(workspace, "crash"), workspace)
    assert job.state == "failed"
    assert "RuntimeError: the fake broke over two lines" in job.reason and "\n" not in job.reason
    assert isinstance(events[-1], Failed) and not events[-1].user_error
    assert "Traceback" in (job.folder / jobs.LOG).read_text()


def test_a_users_mistake_in_the_worker_has_no_traceback(workspace: Workspace) -> None:
    job, events = finish(submit(workspace, "mistake"), workspace)
    assert job.reason == "a mistake that only the worker could see"
    assert isinstance(events[-1], Failed) and events[-1].user_error
    assert "Traceback" not in (job.folder / jobs.LOG).read_text()


def test_stop_now_ends_at_once_and_keeps_the_checkpoint(workspace: Workspace) -> None:
    folder = submit(workspace, steps=ENDLESS)
    wait_until(lambda: (jobs.view(folder).resume_step or 0) >= 2)
    jobs.stop(folder, workspace, now=True)
    job = jobs.view(folder)
    assert job.state == "stopped" and (job.resume_step or 0) >= 2
    assert not system.is_locked(folder / jobs.LOCK)


def test_a_waiting_job_can_be_stopped(workspace: Workspace) -> None:
    submit(workspace, steps=ENDLESS)
    waiting = submit(workspace)
    jobs.stop(waiting, workspace)
    assert jobs.view(waiting).state == "stopped"
    with pytest.raises(UserError, match="not running"):
        jobs.stop(waiting, workspace)


def test_the_queue_survives_the_loss_of_its_database(workspace: Workspace) -> None:
    first = submit(workspace, steps=ENDLESS)
    second = submit(workspace)
    wait_until(lambda: jobs.view(first).state == "running")
    for path in workspace.root.glob("phi3tune.db*"):
        path.unlink()
    jobs.dispatch(workspace)
    assert [job.folder for job in jobs.active(workspace)] == [first, second]
    assert jobs.view(second).state == "queued"
    jobs.stop(first, workspace)
    assert finish(second, workspace)[0].state == "completed"


def test_simultaneous_starts_lose_nothing(workspace: Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: submit(workspace, steps=ENDLESS), range(24)))
    assert len(set(folders)) == 24
    wait_until(lambda: sum(job.state == "running" for job in jobs.active(workspace)) == 1)
    found = jobs.active(workspace)
    assert sorted(job.queue_position for job in found if job.queue_position) == list(range(1, 24))
    assert len(found) == 24


def test_delete_moves_to_the_trash_and_refuses_what_is_in_use(workspace: Workspace) -> None:
    folder = submit(workspace, "lamp", steps=ENDLESS)
    wait_until(lambda: jobs.view(folder).state == "running")
    with pytest.raises(UserError, match="in use"):
        jobs.delete(folder, workspace)
    jobs.stop(folder, workspace)
    finish(folder, workspace)
    place = jobs.delete(folder, workspace)
    assert not folder.exists() and (place / "run.yaml").is_file() and place.parent == workspace.trash
    assert jobs.runs(workspace) == []


def test_events_of_an_earlier_attempt_are_not_told_again(workspace: Workspace) -> None:
    folder = submit(workspace, "crash")
    finish(folder, workspace)
    _, events = finish(folder, workspace, jobs.resume(folder, workspace))
    assert [event.step for event in events if isinstance(event, CheckpointSaved)] == [4, 6]


@pytest.mark.parametrize("job_id", ["", "../x", "/etc", "runs/none", "runs/../../etc"])
def test_a_job_id_never_leaves_the_workspace(workspace: Workspace, job_id: str) -> None:
    with pytest.raises(UserError):
        jobs.find(job_id, workspace)


def test_a_silent_worker_is_not_responding_but_not_failed(workspace: Workspace) -> None:
    folder = submit(workspace, steps=ENDLESS)
    wait_until(lambda: jobs.view(folder).state == "running")
    pid = jobs.read_status(folder).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        status = jobs.read_status(folder)
        jobs.write_status(folder, status.model_copy(update={"heartbeat": time.time() - 60}))
        job = jobs.view(folder)
        assert job.state == "running" and job.not_responding
    finally:
        os.kill(pid, signal.SIGCONT)
