from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from phi3tune.errors import UserError
from phi3tune.server.endpoint import Endpoints
from phi3tune.ui import launch

ROOT = Path(__file__).parents[2]


def run(*code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def test_port_in_use_is_told_in_one_line_before_gradio_is_imported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("-X", "importtime", "app.py", GRADIO_SERVER_PORT=str(port))
    said = [line for line in ended.stderr.splitlines() if not line.startswith("import time:")]
    assert ended.returncode == 2
    assert len(said) == 1 and f"port {port}" in said[0]
    assert "gradio" not in ended.stderr.replace(said[0], "")


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", ""])
def test_a_port_is_a_number(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    with pytest.raises(UserError, match="GRADIO_SERVER_PORT"):
        launch.serve(Endpoints)


def test_the_page_needs_no_model_library() -> None:
    code = (
        "import sys; from phi3tune.paths import Workspace; from phi3tune.ui.page import create_ui;"
        "from phi3tune.server.endpoint import Endpoints; workspace = Workspace.current();"
        "create_ui(workspace, Endpoints(workspace));"
        "print([name for name in ('torch', 'transformers', 'trl', 'peft', 'onnxruntime_genai') if name in sys.modules])"
    )
    ended = run("-c", code)
    assert ended.stdout.strip().splitlines()[-1:] == ["[]"], ended.stderr
