"""The real app in a process of its own, and a real headless Chromium that looks at it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from phi3tune import jobs
from phi3tune.paths import Workspace

ROOT = Path(__file__).parents[2]
# Vega says this once for every chart; Gradio ships the pair of versions.
HARMLESS = ("Vega-Lite v",)


@dataclass
class App:
    """`python app.py` over a workspace; it can be ended and started again on the same port."""

    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {**os.environ, "PHI3TUNE_HOME": str(self.home), "GRADIO_SERVER_PORT": str(self.port)}
        with (self.home.parent / "app.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        end = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=5) as answer:
                    assert answer.status == 200
                    return
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, (self.home.parent / "app.log").read_text()
                assert time.monotonic() < end, "the app does not answer"
                time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("app") / "workspace"
    started = App(home, port)
    started.start()
    yield started
    started.stop()
    workspace = Workspace(home)
    for job in reversed(jobs.active(workspace)):  # those that wait first
        jobs.stop(job.folder, workspace, now=True)


@dataclass
class Visit:
    """A page with what it asked for and what it complained of."""

    page: Page
    problems: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def watch(self) -> None:
        self.page.on("console", lambda m: self._complaint(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self._complaint(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))

    def _complaint(self, text: str) -> None:
        if not any(known in text for known in HARMLESS):
            self.problems.append(text)


@pytest.fixture
def visit(browser: Browser, app: App) -> Iterator[Visit]:
    """The page as a visitor opens it. Afterwards: no error of ours, and nothing asked of an outside host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(30_000)
    opened = Visit(context.new_page())
    opened.watch()
    opened.page.goto(app.url)
    opened.page.locator("#dataset").wait_for()
    yield opened
    context.close()
    assert opened.hosts <= {"127.0.0.1", ""}
    assert opened.problems == []
