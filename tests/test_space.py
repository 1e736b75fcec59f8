"""What a Hugging Face Space makes of the repository: its front matter, and `app.py` run as a Space runs it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "space.md").read_text(encoding="utf-8")
FRONT = yaml.safe_load(README.split("---\n")[1])
# https://huggingface.co/docs/hub/spaces-config-reference
KEYS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "python_version", "sdk_version", "suggested_hardware", "app_file",
    "app_port", "app_build_command", "base_path", "fullWidth", "header", "short_description", "models", "datasets",
    "tags", "thumbnail", "pinned", "hf_oauth", "hf_oauth_scopes", "hf_oauth_expiration_minutes",
    "hf_oauth_authorized_org", "disable_embedding", "startup_duration_timeout", "custom_headers", "preload_from_hub",
    "license",
}  # fmt: skip
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def hardware() -> set[str]:
    from huggingface_hub import SpaceHardware

    return {each.value for each in SpaceHardware}


def test_the_front_matter_has_documented_keys_and_values() -> None:
    assert README.startswith("---\n")
    assert set(FRONT) <= KEYS
    assert {FRONT["colorFrom"], FRONT["colorTo"]} <= COLOURS
    assert FRONT["sdk"] == "gradio"
    assert (ROOT / FRONT["app_file"]).is_file()
    assert FRONT["suggested_hardware"] in hardware()
    assert len(FRONT["short_description"]) <= 60
    assert FRONT["license"] == "apache-2.0"
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", model) for model in FRONT["models"])


def test_the_space_has_the_versions_that_the_app_needs() -> None:
    assert f"gradio=={FRONT['sdk_version']}\n" in (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert tuple(int(part) for part in FRONT["python_version"].split(".")) >= (3, 11)


def test_the_guide_changes_a_copy_for_zero_gpu(tmp_path: Path) -> None:
    """Its commands, run as they stand, pin the PyTorch of ZeroGPU and nothing else."""
    for name in ("README.md", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    commands = re.findall(r"^sed -i .+$", GUIDE, re.MULTILINE)
    assert len(commands) == 2
    subprocess.run(["bash", "-ec", "\n".join(commands)], cwd=tmp_path, check=True)
    before, after = ((folder / "requirements.txt").read_text().splitlines() for folder in (ROOT, tmp_path))
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 1 and changed[0][0].startswith("torch==")
    assert changed[0][1] in ("torch==2.8.0", "torch==2.9.1", "torch==2.10.0", "torch==2.11.0")
    front = yaml.safe_load((tmp_path / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front == {**FRONT, "suggested_hardware": "zero-a10g"}
    assert front["python_version"] == "3.12.12"  # the one of the two that ZeroGPU has which the app can run on


def test_the_guide_names_every_limit_and_its_default() -> None:
    from phi3tune.config import HostedConfig

    for name, field in HostedConfig.model_fields.items():
        default = field.default or "none"
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        assert f"| `PHI3TUNE_HOSTED_{name.upper()}` | {shown} |" in GUIDE, name


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """`python app.py` with the variables of a Space; yields its port and process."""
    folder = tmp_path_factory.mktemp("space")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "SYSTEM": "spaces",
        "SPACE_ID": "someone/phi3tune",
        "SPACE_HOST": "someone-phi3tune.hf.space",
        "SPACE_AUTHOR_NAME": "someone",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_SSR_MODE": "True",
        "PHI3TUNE_HOME": str(folder / "home"),
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
    }
    with (folder / "app.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env={**os.environ, **variables}, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + 90
        while True:
            try:
                assert fetch(port)[0] == 200
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (folder / "app.log").read_text()
                assert time.monotonic() < end, "the app does not answer"
                time.sleep(0.1)
        yield port, process
    finally:
        process.terminate()
        process.wait(20)


def fetch(port: int, path: str = "/") -> tuple[int, str]:
    """Status and text, asked for as the Space's proxy asks."""
    headers = {"Host": "someone-phi3tune.hf.space", "X-Forwarded-Proto": "https"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return answer.status, answer.read().decode()


@pytest.mark.slow
def test_the_app_answers_under_the_name_of_the_space(space: tuple[int, subprocess.Popen[bytes]]) -> None:
    status, page = fetch(space[0])
    assert status == 200
    assert "phi3tune" in page


@pytest.mark.slow
def test_no_node_renders_the_page(space: tuple[int, subprocess.Popen[bytes]]) -> None:
    started = psutil.Process(space[1].pid).children(recursive=True)
    assert [each.name() for each in started if "node" in each.name()] == []


@pytest.mark.slow
def test_the_health_check_of_an_image_passes_there_too(space: tuple[int, subprocess.Popen[bytes]]) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{space[0]}/", timeout=10) as answer:
        assert answer.status == 200
