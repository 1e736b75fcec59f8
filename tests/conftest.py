"""Every test gets a workspace of its own, and nothing in a test may reach the network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from phi3tune.paths import NANO, Workspace
from tests.fakes import tiny_phi3


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
