"""The app killed while a run trains, and a port that somebody else has."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from phi3tune import jobs
from phi3tune.jobs import actions
from phi3tune.paths import Workspace
from tests.browser.conftest import App, Visit, app, visit
from tests.browser.steps import open_tab
from tests.faults.victims import Trial, newest, wait_until

__all__ = ["app", "visit"]
ROOT = Path(__file__).parents[2]
LONG = 100_000


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.browser
def test_a_killed_app_costs_the_run_nothing_and_its_successor_shows_it(
    visit: Visit, app: App, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial.make(tmp_path, tiny_model, Workspace(app.home))
    with monkeypatch.context() as patched:  # only queued: the app is to start it
        patched.setattr(actions, "dispatch", lambda workspace: None)
        folder = trial.start(name="orphan", max_steps=LONG)
    wait_until(lambda: newest(folder) > 0)
    assert app.process is not None
    pid = jobs.read_status(folder).pid
    assert psutil.Process(pid).ppid() == app.process.pid

    app.process.kill()
    app.process.wait()
    step = newest(folder)
    wait_until(lambda: newest(folder) > step)
    app.start()
    visit.page.goto(app.url)
    expect(visit.page.locator("#job-chip")).to_contain_text("orphan", timeout=30_000)
    open_tab(visit.page, "Train")
    expect(visit.page.locator("#live-status")).to_contain_text("orphan")
    step = newest(folder)
    wait_until(lambda: newest(folder) > step)
    assert jobs.read_status(folder).pid == pid and jobs.view(folder).state == "running"
    jobs.stop(folder, trial.workspace, now=True)
    # A browser complains of the app that was gone.
    visit.problems[:] = [text for text in visit.problems if "net::ERR_" not in text and "fetch" not in text]


def test_a_port_in_use_is_named_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env={**os.environ, "GRADIO_SERVER_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.returncode == 2 and ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1 and f"port {port}" in ended.stderr
    # Time of the processor, which does not depend on what else the machine does.
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 2.0
