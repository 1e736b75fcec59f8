from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from huggingface_hub import constants

from phi3tune import doctor, system
from phi3tune.paths import Workspace
from tests.fake_hub import fake_hub


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


def test_the_line_that_installs_calibration_is_told(
    workspace: Workspace, no_torch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "gptqmodel" else version(name))
    report = doctor.examine(workspace)
    assert "pip install --no-build-isolation gptqmodel" in report.calibration
    assert report.problems == []


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


def test_a_token_is_told_of_and_never_told(
    workspace: Workspace, no_torch: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert doctor.examine(workspace).hub_token is None
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    report = doctor.examine(workspace)
    assert report.hub_token == "HF_TOKEN"
    assert "hf_canary" not in str(report.as_dict())


def test_the_hub_answers_or_not(workspace: Workspace, no_torch: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "HF_HUB_OFFLINE" in doctor.examine(workspace).hub
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with fake_hub({}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        assert doctor.examine(workspace).hub == f"{hub.endpoint} answers"
    assert "does not answer" in doctor.examine(workspace).hub


def test_optional_packages_and_both_disks_are_told(workspace: Workspace, no_torch: None) -> None:
    report = doctor.examine(workspace)
    assert set(report.optional) == set(doctor.OPTIONAL)
    assert report.cache == constants.HF_HUB_CACHE
    assert report.cache_disk_free > 0
    assert report.problems == []
