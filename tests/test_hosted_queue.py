"""One queue for all visitors: in turns, with the true place, each job in its owner's workspace and without secrets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phi3tune import hosted, janitor, jobs, system
from phi3tune.admission import Admission
from phi3tune.config import TrainConfig
from phi3tune.errors import UserError
from phi3tune.jobs import actions, workers
from phi3tune.paths import DATABASE, SHARED, Workspace, every_visitor, visitors
from tests import fakes
from tests.test_jobs import ENDLESS, submit, wait_until


@pytest.fixture(autouse=True)
def counting_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def admitted(config: TrainConfig, workspace: Workspace, *, token: str | None = None) -> Admission:
        return Admission(config, workspace.runs, config.name, "run")

    monkeypatch.setattr(system, "start_process", fakes.start_fake_worker)
    monkeypatch.setattr(actions, "admit", admitted)
    yield
    fakes.kill_workers()


@pytest.fixture
def guests(workspace: Workspace) -> list[Workspace]:
    return [Workspace(visitors(workspace.root) / name, workspace.root) for name in "abc"]


def places(workspace: Workspace) -> dict[str, int | None]:
    return {job.id: job.queue_position for job in jobs.active(workspace)}


def test_everybodys_first_job_comes_before_anybodys_second(guests: list[Workspace]) -> None:
    a, b, c = guests
    submit(a, "a1", steps=ENDLESS)
    submit(a, "a2")
    assert places(a) == {"a1": None, "a2": 1}
    submit(b, "b1")
    submit(b, "b2")
    submit(c, "c1")
    assert (places(a), places(b), places(c)) == ({"a1": None, "a2": 3}, {"b1": 1, "b2": 4}, {"c1": 2})
    with pytest.raises(UserError, match="2 of your jobs run or wait, and 2 are the limit here"):
        submit(a, "a3")
    assert not (a.runs / "a3").exists()


def test_anybody_who_looks_starts_what_is_next_where_it_belongs(guests: list[Workspace]) -> None:
    a, b, _ = guests
    first = submit(a, "lamp", steps=ENDLESS)
    second = submit(b, "lamp")
    jobs.stop(first, a)
    wait_until(lambda: not jobs.view(first).active)

    def looked() -> bool:
        jobs.dispatch(a)
        return jobs.view(second).state == "completed"

    wait_until(looked)
    assert jobs.view(second).result["run"] == "lamp" and jobs.active(b) == []


def test_a_lost_queue_is_found_again_in_all_workspaces(guests: list[Workspace], workspace: Workspace) -> None:
    a, b, c = guests
    first = submit(a, "a1", steps=ENDLESS)
    wait_until(lambda: jobs.view(first).step > 0)
    submit(b, "b1")
    for file in workspace.root.glob(f"{DATABASE}*"):
        file.unlink()
    jobs.dispatch(c)
    assert (places(a), places(b), places(c)) == ({"a1": None}, {"b1": 1}, {})


def test_the_databases_of_visitors_stay_apart(guests: list[Workspace], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, _ = guests
    assert a.database == a.root / DATABASE and a.queue_database == b.queue_database
    monkeypatch.setenv("PHI3TUNE_STATE", "/state")
    assert (a.database, a.queue_database) == (Path("/state/visitors/a") / DATABASE, Path("/state") / DATABASE)


def test_a_worker_knows_its_workspace_and_no_secret(
    guests: list[Workspace], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, str]] = []

    def start(argv: list[str], **options: object) -> object:
        given.append({**(options["inherited"] or {}), **options["env"]})  # type: ignore[dict-item]
        return fakes.start_fake_worker(argv, **options)

    monkeypatch.setattr(system, "start_process", start)
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "canary")
    a, b, c = guests
    workers.wait(submit(a, "a1"))
    assert (given[0]["PHI3TUNE_HOME"], given[0][SHARED]) == (str(a.root), str(workspace.root))
    assert "canary" not in given[0].values() and given[0]["HF_HUB_DISABLE_IMPLICIT_TOKEN"] == "1"
    assert given[0]["PATH"] == os.environ["PATH"]
    monkeypatch.setenv(f"{hosted.PREFIX}MODELS", "owner/gated")
    jobs.submit("train", TrainConfig(name="b1", model="owner/gated@main", max_steps=2), b)
    jobs.submit("train", TrainConfig(name="c1", model="owner/gated-too", max_steps=2), c)

    def all_started() -> bool:
        jobs.dispatch(c)
        return len(given) == 3

    wait_until(all_started)
    assert given[1]["HF_TOKEN"] == "canary" and "HF_TOKEN" not in given[2]


def test_a_job_over_its_time_is_stopped_and_saved(
    guests: list[Workspace], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _, _ = guests
    folder = submit(a, "slow", steps=ENDLESS)
    wait_until(lambda: jobs.view(folder).step > 2)
    janitor.look(workspace.root)
    assert not (folder / jobs.STOP).exists()
    monkeypatch.setenv(f"{hosted.PREFIX}MAX_MINUTES", "0.0001")
    janitor.look(workspace.root)
    wait_until(lambda: not jobs.view(folder).active)
    job = jobs.view(folder)
    assert (job.state, job.reason) == (
        "stopped",
        "stopped at the limit of 0.0001 minutes; what it had done by then is saved",
    )
    assert job.resume_step


def test_a_job_that_does_not_stop_is_ended(
    guests: list[Workspace], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _, _ = guests
    folder = submit(a, "deaf", steps=ENDLESS)
    wait_until(lambda: jobs.view(folder).step > 0)
    monkeypatch.setenv(f"{hosted.PREFIX}MAX_STORAGE", "0.000001")
    monkeypatch.setattr(janitor, "GRACE_SECONDS", -1.0)
    # As if it had been asked long ago and had not heard.
    pid = jobs.read_status(folder).pid
    assert pid is not None
    os.kill(pid, 19)
    janitor.look(workspace.root)
    janitor.look(workspace.root)
    job = jobs.view(folder)
    assert job.state == "stopped" and "1e-06 MB" in job.reason


def test_work_is_deleted_some_time_after_the_last_visit_but_never_while_a_job_runs(
    guests: list[Workspace], workspace: Workspace
) -> None:
    a, b, c = guests
    submit(a, "a1", steps=ENDLESS)
    for guest in (b, c):
        guest.runs.mkdir(parents=True)
    long_ago = time.time() - 25 * 3600
    for guest in (a, b, c):
        os.utime(guest.root, (long_ago, long_ago))
    hosted.visited(c)
    janitor.look(workspace.root)
    assert [guest.root for guest in every_visitor(workspace.root)] == [a.root, c.root]
    janitor.look(workspace.root)
    assert {path.name for path in visitors(workspace.root).iterdir()} == {"a", "c"}


def test_the_janitor_starts_what_waits(guests: list[Workspace], workspace: Workspace) -> None:
    a, b, _ = guests
    first, second = submit(a, "a1", steps=ENDLESS), submit(b, "b1")
    keeper = janitor.Janitor(workspace.root)
    try:
        jobs.stop(first, a)
        wait_until(lambda: jobs.view(second).state == "completed")
    finally:
        keeper.stop()
