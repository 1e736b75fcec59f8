from __future__ import annotations

from importlib import metadata

import pytest

from phi3tune import doctor, system
from phi3tune.paths import Workspace


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at the device takes seconds and is not what these tests are about."""
    monkeypatch.setattr(doctor, "_device", lambda: ("cpu", "float32"))


def test_this_installation_lacks_nothing(workspace: Workspace, no_torch: None) -> None:
    report = doctor.examine(workspace)
    assert report.problems == []
    assert report.cores == system.cores() >= 1
    assert 0 < report.memory_available <= report.memory_total
    assert report.versions["gradio"] == metadata.version("gradio")


def test_every_floor_is_kept_by_the_installed_version() -> None:
    problems = [doctor._version_problem(name, doctor._version(name)) for name in doctor.FLOORS]
    assert not any(problems)


def test_old_and_missing_packages_are_named(
    workspace: Workspace, no_torch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_version", {"gradio": "6.19.2", "torch": "2.10.0+cpu"}.get)
    problems = doctor.examine(workspace).problems
    assert any(problem.startswith("gradio 6.19.2 is too old: 6.20") for problem in problems)
    assert any(problem.startswith("trl is not installed") for problem in problems)
    assert not any(problem.startswith("torch ") for problem in problems)


def test_a_full_disk_is_a_problem(workspace: Workspace, no_torch: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "disk_free", lambda path: 10_000_000)
    assert any("free" in problem for problem in doctor.examine(workspace).problems)
