"""The Dockerfile, read as Docker reads it; its health check is run as it stands."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """Keyword and the rest of each instruction, comments left out and continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


INSTRUCTIONS = instructions()
FINAL = INSTRUCTIONS[max(place for place, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]


def only(word: str) -> str:
    [found] = [rest for name, rest in FINAL if name == word]
    return found


def test_cpu_and_cuda_are_a_build_argument() -> None:
    stages = [rest.split() for word, rest in INSTRUCTIONS if word == "FROM"]
    assert [stage[-1] for stage in stages] == ["cpu", "cuda", "${DEVICE}"]
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+", stage[0]) and not stage[0].endswith(":latest") for stage in stages[:2])
    assert ("ARG", "DEVICE=cpu") in INSTRUCTIONS


def test_nothing_runs_as_root_and_the_workspace_is_a_volume_of_that_user() -> None:
    assert only("USER") == "1000:1000"
    words = [word for word, _ in FINAL]
    assert words.index("USER") > max(place for place, word in enumerate(words) if word == "RUN")
    assert only("VOLUME") == "/workspace"
    assert any("--owner=1000" in rest and "/workspace" in rest for word, rest in FINAL if word == "RUN")
    assert "PHI3TUNE_HOME=/workspace" in only("ENV").split()


def test_only_pinned_packages_are_installed_from_where_pip_looks_anyway() -> None:
    installs = [rest for word, rest in INSTRUCTIONS if word == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert "--requirement /src/requirements.txt --constraint /src/requirements.lock" in installs[0]
    assert "--no-deps" in installs[1]
    assert not re.search(r"https?://", " ".join(rest for word, rest in INSTRUCTIONS if word in ("RUN", "ARG", "ENV")))


def test_what_the_build_reads_is_sent_to_it_and_nothing_private() -> None:
    patterns = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#")
    ]

    def sent(name: str) -> bool:
        kept = True
        for pattern in patterns:
            if fnmatch.fnmatch(name, pattern.lstrip("!")):
                kept = pattern.startswith("!")
        return kept

    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSES", "requirements.txt", "requirements.lock"):
        assert sent(name) and (ROOT / name).exists(), name
    assert sent("phi3tune") and sent("datasets") and sent("deploy")
    for name in ("workspace", ".venv", ".git", ".env", "tests"):
        assert not sent(name), name


def test_the_image_holds_what_the_launch_file_for_kubernetes_starts() -> None:
    [command] = [line for line in (ROOT / "deploy" / "kubernetes.yaml").read_text().splitlines() if "exec bash" in line]
    [(given, place)] = [rest.split() for word, rest in FINAL if word == "COPY"]
    assert command.split()[-1] == place
    assert (ROOT / given).is_file()


def test_it_is_ended_by_a_signal_that_python_hears_as_process_one() -> None:
    assert json.loads(only("CMD")) == ["phi3tune", "app"]
    assert only("STOPSIGNAL") == "SIGINT"


@contextmanager
def page(status: int) -> Iterator[int]:
    """A server that answers every request so; yields its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def health(port: int) -> int:
    check = only("HEALTHCHECK")
    argv = json.loads(check.partition(" CMD ")[2])
    assert argv[0] == "python"
    env = {**os.environ, "GRADIO_SERVER_PORT": str(port), "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.run([sys.executable, *argv[1:]], env=env, capture_output=True, timeout=10, check=False).returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, True), (400, False), (500, False)])
def test_the_health_check_tells_a_page_that_answers_from_one_that_does_not(status: int, healthy: bool) -> None:
    with page(status) as port:
        assert (health(port) == 0) is healthy


def test_the_health_check_fails_where_nothing_listens() -> None:
    with page(200) as port:
        pass
    assert health(port) != 0
