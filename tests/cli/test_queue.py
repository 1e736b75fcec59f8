"""`queue`, `pause`, `runs edit` and the filters of `runs`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from phi3tune import jobs, system
from phi3tune.admission import Admission
from phi3tune.cli import main
from phi3tune.config import TrainConfig
from phi3tune.jobs import actions
from phi3tune.paths import Workspace
from tests import fakes

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def queued(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> Iterator[None]:
    """Runs first, a and b: the first one counts without end, the others wait."""

    def admitted(config: TrainConfig, workspace: Workspace, *, token: str | None = None) -> Admission:
        return Admission(config, workspace.runs, config.name, "run")

    monkeypatch.setattr(system, "start_process", fakes.start_fake_worker)
    monkeypatch.setattr(actions, "admit", admitted)
    for name in ("first", "a", "b"):
        jobs.submit("train", TrainConfig(name=name, max_steps=1_000_000), workspace)
    yield
    fakes.kill_workers()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*argv: str) -> Any:
        assert main(argv) == 0
        out = capsys.readouterr().out
        return json.loads(out) if "--json" in argv else out

    return call


def order(call: Call) -> list[tuple[str, int | None]]:
    return [(job["job"], job["position"]) for job in call("queue", "--json")["jobs"]]


def test_the_queue_is_listed_and_changed(call: Call) -> None:
    assert order(call) == [("first", None), ("a", 1), ("b", 2)]
    call("queue", "move", "b", "1")
    assert order(call) == [("first", None), ("b", 1), ("a", 2)]
    call("queue", "cancel", "b")
    assert order(call) == [("first", None), ("a", 1)]
    assert "first" in call("queue") and "b" not in [job for job, _ in order(call)]


def test_what_does_not_wait_cannot_be_moved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["queue", "move", "first", "1"]) == 2
    assert "does not wait" in capsys.readouterr().err
    assert main(["queue", "move", "a", "3"]) == 2
    assert "use 1 to 2" in capsys.readouterr().err


def test_pause_and_resume(call: Call, workspace: Workspace) -> None:
    end = time.monotonic() + 20
    while jobs.view(workspace.run("first")).step == 0:
        assert time.monotonic() < end
        time.sleep(0.02)
    call("pause", "first")
    list(jobs.follow(workspace.run("first"), workspace))
    assert order(call) == [("a", None), ("b", 1)]
    call("resume", "first", "--detach")
    assert order(call) == [("a", None), ("first", 1), ("b", 2)]


def test_words_on_a_run_and_the_runs_found_by_them(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    call("runs", "edit", "a", "--title", "The lamps", "--project", "lanterns", "--tags", "x,y", "--note", "Slow.")
    [row] = call("runs", "--project", "lanterns", "--tag", "y", "--json")["runs"]
    assert (row["run"], row["title"], row["tags"]) == ("a", "The lamps", ["x", "y"])
    assert call("runs", "show", "a", "--json")["note"] == "Slow."
    assert "The lamps" in call("runs")
    assert call("runs", "--tag", "z", "--json") == {"runs": []}
    assert main(["runs", "--project", "other"]) == 2
    assert "projects: lanterns" in capsys.readouterr().err
    assert main(["runs", "edit", "a"]) == 2
    assert "nothing to change" in capsys.readouterr().err
