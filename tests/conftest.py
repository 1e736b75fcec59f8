"""Every test gets a workspace of its own, and nothing in a test may reach the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from phi3tune.paths import NANO, Workspace
from tests.fakes import tiny_phi3
from tests.path import labels
from tests.path.command import Scored, call

if TYPE_CHECKING:
    from playwright.sync_api import Browser


# Without these Chromium looks up hosts of its own at every start.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("PHI3TUNE_HOME", str(tmp_path / "workspace"))
    monkeypatch.delenv("PHI3TUNE_STATE", raising=False)
    return Workspace.current()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Phi-3 with the real Phi-3 tokenizer."""
    return tiny_phi3(tmp_path_factory.mktemp("models") / "tiny-phi3")


@pytest.fixture(scope="session")
def nano() -> Path:
    return NANO


@pytest.fixture(scope="session")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """A short run on three labels, and the report of it beside phi3-nano on 500 held-out rows."""
    home, run = tmp_path_factory.mktemp("topics"), "topics"
    folder = labels.write(home / "data" / run, train=160, test=500)
    trained = call(home, "train", "--dataset", str(folder), "--name", run, "--epochs", "2", "--json")
    assert trained.code == 0, trained.errors
    answer = call(home, "evaluate", "phi3-nano", run, "--dataset", str(folder), "--max-new-tokens", "8", "--json")
    assert answer.code == 0, answer.errors
    return Scored(home, run, answer.json)


@pytest.fixture(scope="session")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        reason = "no Chromium: install it (Debian: apt-get install chromium) or set CHROMIUM to its path"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """One for all tests that look at the page: Playwright runs once in a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()
