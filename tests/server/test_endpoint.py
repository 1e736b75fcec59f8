"""The endpoint of the app; what it records; guards; readiness; and what people copy."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from starlette.testclient import TestClient

from phi3tune.cli import main
from phi3tune.engines.models import ModelRef
from phi3tune.errors import UserError
from phi3tune.guardrails import load
from phi3tune.monitor import RequestLog, summary
from phi3tune.paths import Workspace
from phi3tune.server import snippets
from phi3tune.server.endpoint import Endpoints, EndpointState
from tests.server.conftest import HELLO, settings, wait_for
from tests.server.fake_pool import ANSWER, FakePool

CHAT = "/v1/chat/completions"
Make = Callable[..., TestClient]


def test_it_starts_and_stops(workspace: Workspace, pool: FakePool) -> None:
    endpoints = Endpoints(workspace, cast(Any, pool))
    assert endpoints.state() == EndpointState()
    url = endpoints.start(settings())
    try:
        endpoints.wait()
        assert endpoints.state().ready
        assert httpx.post(f"{url}/chat/completions", json=HELLO).status_code == 200
        wait_for(lambda: endpoints.state().requests == 1)  # counted when its last byte is sent
        state = endpoints.state()
        assert (state.url, state.models, state.error) == (url, ("phi3-nano",), None)
        assert state.since is not None
        with pytest.raises(UserError, match="runs already"):
            endpoints.start(settings())
    finally:
        endpoints.stop()
    assert endpoints.state() == EndpointState()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/models")
    assert endpoints.start(settings()) != ""  # and again
    endpoints.stop()
    endpoints.stop()


def test_a_taken_port_and_a_missing_model_are_told(workspace: Workspace, pool: FakePool) -> None:
    first, second = (Endpoints(workspace, cast(Any, pool)) for _ in range(2))
    url = first.start(settings())
    try:
        taken = settings().model_copy(update={"port": int(url.rsplit(":", 1)[1].split("/")[0])})
        with pytest.raises(UserError, match="cannot serve on"):
            second.start(taken)
    finally:
        first.stop()
    for models in (["nothing-like-it"], [], ["http://127.0.0.1:1/v1"]):
        with pytest.raises(UserError):
            second.start(settings(models=models))
    assert second.state() == EndpointState()


def test_it_is_ready_when_its_models_are_loaded(client: Make, pool: FakePool) -> None:
    go = threading.Event()
    pool.loading = lambda ref: cast(None, go.wait(10))
    make = client(wait=False)
    health, early = make.get("/health"), make.post(CHAT, json=HELLO)
    assert (health.status_code, health.json()) == (503, {"status": "loading"})
    assert (early.status_code, early.json()["error"]["code"]) == (503, "not_ready")
    assert "retry-after" in early.headers
    assert make.get("/v1/models").status_code == 200
    go.set()
    wait_for(lambda: make.get("/health").status_code == 200)
    assert make.post(CHAT, json=HELLO).status_code == 200


def test_a_model_that_cannot_be_loaded(client: Make, pool: FakePool, workspace: Workspace) -> None:
    def broken(ref: ModelRef) -> None:
        raise UserError("/secret/path was altered")

    pool.loading = broken
    make = client()
    assert make.get("/health").json() == {"status": "failed"}
    answer = make.post(CHAT, json=HELLO)
    assert answer.status_code == 503 and "secret" not in answer.text
    endpoints = Endpoints(workspace, cast(Any, pool))
    endpoints.start(settings())
    wait_for(lambda: endpoints.state().error is not None)
    assert "altered" in str(endpoints.state().error)
    endpoints.stop()


def test_mistakes_end_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments in (
        [],
        ["nothing-like-it"],
        ["phi3-nano", "--host", "0.0.0.0"],
        ["phi3-nano", "--api-key-file", str(tmp_path / "none")],
        ["phi3-nano", "--queue-size", "-1"],
    ):
        assert main(["serve", *arguments]) == 2
        told = capsys.readouterr().err.strip()
        assert told.startswith("phi3tune: ") and "\n" not in told


def test_requests_are_counted_and_logged(client: Make, workspace: Workspace, pool: FakePool) -> None:
    log = RequestLog(workspace)
    make = client(log=log)
    answer = make.post(CHAT, json=HELLO).json()
    make.post(CHAT, json={**HELLO, "stream": True})
    make.post(CHAT, json={**HELLO, "model": "gpt-5"})
    make.post(CHAT, json={**HELLO, "temperature": 5})
    figures = make.get("/metrics").text
    path = 'path="/v1/chat/completions"'
    assert f'phi3tune_requests_total{{model="phi3-nano",{path},status="200"}} 2.0' in figures
    assert f'phi3tune_requests_total{{model="",{path},status="404"}} 1.0' in figures
    assert f'phi3tune_requests_total{{model="phi3-nano",{path},status="400"}} 1.0' in figures
    assert 'phi3tune_tokens_total{kind="completion",model="phi3-nano"}' in figures
    assert "phi3tune_ready 1.0" in figures
    log.flush()
    rated = make.post("/v1/feedback", json={"id": answer["id"], "rating": 1})
    assert rated.json() == {"id": answer["id"], "object": "feedback", "rating": 1}
    assert make.post("/v1/feedback", json={"id": "chatcmpl-0", "rating": 1}).status_code == 404
    log.close()
    told = json.dumps(summary(workspace))
    assert answer["usage"]["prompt_tokens"] > 0 and "phi3-nano" in told
    assert all(b"Hello" not in file.read_bytes() for file in workspace.root.iterdir())


GUARDS = """
guards:
- {name: names, type: block_list, "on": both, action: mask, words: [lamp]}
- {name: bombs, type: block_list, "on": both, action: block, words: [bomb]}
"""


def test_guards_mask_and_block(client: Make, pool: FakePool, tmp_path: Path, workspace: Workspace) -> None:
    file = tmp_path / "guards.yaml"
    file.write_text(GUARDS)
    make = client(guards=load(file, workspace))

    def ask(text: str, **more: Any) -> Any:
        return make.post(CHAT, json={"messages": [{"role": "user", "content": text}], **more})

    masked = ask("my lamp is dark").json()
    assert pool.requests[0].messages == [{"role": "user", "content": "my [names] is dark"}]
    assert masked["choices"][0]["message"]["content"] == ANSWER.replace("lamp", "[names]")
    refused = ask("a bomb")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    pool.text = "Take a bomb and run"
    for stream in (False, True):
        blocked = ask("what now?", stream=stream)
        assert blocked.status_code == 200
        assert "content_filter" in blocked.text and "bomb" not in blocked.text and "run" not in blocked.text
    assert ask("what now?", logprobs=True).json()["error"]["param"] == "logprobs"
    assert pool.active == 0
    assert 'phi3tune_guard_hits_total{action="block",guard="bombs"} 3.0' in make.get("/metrics").text


def test_what_people_copy_is_right(workspace: Workspace, pool: FakePool, tmp_path: Path) -> None:
    programs = snippets("http://127.0.0.1:9/v1", 'run-1/onnx/it\'s "int4"', "sk-$(touch x)'")
    assert list(programs) == ["curl", "python", "javascript"]
    ast.parse(programs["python"])
    if shutil.which("node"):
        script = tmp_path / "ask.mjs"
        script.write_text(programs["javascript"])
        subprocess.run(["node", "--check", str(script)], check=True)
    endpoints = Endpoints(workspace, cast(Any, pool))
    url = endpoints.start(settings())
    try:
        wait_for(lambda: endpoints.state().ready)
        programs = snippets(url, "phi3-nano", "it's")
        shown = subprocess.run(["sh", "-c", programs["curl"]], capture_output=True, text=True, cwd=tmp_path).stdout
        assert json.loads(shown)["choices"][0]["message"]["content"] == ANSWER
        said: list[str] = []
        exec(programs["python"], {"print": lambda *texts, **more: said.extend(texts)})  # noqa: S102
        assert "".join(said) == ANSWER
    finally:
        endpoints.stop()
    assert [path for path in tmp_path.iterdir() if path.name == "x"] == []
