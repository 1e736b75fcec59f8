"""Who may ask: hosts, origins, keys, on every route."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from phi3tune import keys
from phi3tune.errors import UserError
from phi3tune.monitor import RequestLog
from phi3tune.paths import Workspace
from tests.server.conftest import HELLO
from tests.server.fake_pool import FakePool

CHAT = "/v1/chat/completions"
CANARY = "sk-canary-3f9a1c77"
Make = Callable[..., TestClient]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text(f"# ours\n\n{CANARY}\nsecond-key\n")
    return path


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
def test_a_foreign_host_is_refused(client: Make, host: str) -> None:
    make = client()
    for answer in (make.get("/v1/models", headers={"host": host}), make.post(CHAT, json=HELLO, headers={"host": host})):
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "bad_host"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:9", "lamp.example:8000"])
def test_own_hosts_are_answered(client: Make, host: str) -> None:
    assert client(allowed_hosts="lamp.example").get("/v1/models", headers={"host": host}).status_code == 200


def test_an_endpoint_for_others_answers_to_numbers_but_to_no_foreign_name(client: Make) -> None:
    make = client(host="0.0.0.0", require_key=False)
    assert make.get("/v1/models", headers={"host": "192.168.1.7:8000"}).status_code == 200
    assert make.get("/v1/models", headers={"host": "evil.example"}).status_code == 400


def test_a_foreign_origin_may_not_write(client: Make, pool: FakePool) -> None:
    make = client(allowed_origins="https://lamp.example")
    for origin in ("https://evil.example", "null", "http://localhost:9999"):
        answer = make.post(CHAT, json=HELLO, headers={"origin": origin})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "bad_origin"
    assert pool.requests == []
    own = make.post(CHAT, json=HELLO, headers={"origin": "http://127.0.0.1:8000"})
    friend = make.post(CHAT, json=HELLO, headers={"origin": "https://lamp.example"})
    assert (own.status_code, friend.status_code) == (200, 200)
    assert friend.headers["access-control-allow-origin"] == "https://lamp.example"
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in make.options(CHAT, headers=asked).headers


def test_without_a_key_only_health_answers(client: Make, key_file: Path) -> None:
    make = client(api_key_file=key_file)
    app: Any = make.app
    routes = [(route.path, method) for route in app.routes for method in route.methods]
    assert {"/health", "/metrics", "/openapi.json", CHAT} <= {path for path, _ in routes}
    for path, method in [*routes, ("/nowhere", "GET"), (CHAT, "OPTIONS"), ("/health/", "GET"), ("//health", "GET")]:
        answer = make.request(method, path.replace("{model:path}", "phi3-nano"))
        assert (answer.status_code == 401) == (path != "/health"), (path, method, answer.status_code)
    assert make.get("/health", headers={"host": "evil.example"}).status_code == 200


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {CANARY}", CANARY, f"Bearer {CANARY}x"])
def test_wrong_keys(client: Make, key_file: Path, header: str | None) -> None:
    answer = client(api_key_file=key_file).get("/v1/models", headers={"authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] in ("missing_api_key", "invalid_api_key")


def test_keys_that_are_made_and_revoked_while_it_runs(client: Make, workspace: Workspace) -> None:
    make = client()
    assert make.get("/v1/models").status_code == 200  # nobody has a key yet, and it is local
    plain = keys.make("laptop", workspace)
    good = {"authorization": f"Bearer {plain}"}
    assert make.get("/v1/models").status_code == 401
    assert make.get("/v1/models", headers=good).status_code == 200
    keys.make("other", workspace)
    keys.revoke("laptop", workspace)
    assert make.get("/v1/models", headers=good).status_code == 401


def test_others_are_not_served_without_keys(client: Make, workspace: Workspace) -> None:
    with pytest.raises(UserError, match="keys make"):
        client(host="0.0.0.0")
    assert client(host="0.0.0.0", require_key=False).get("/v1/models").status_code == 200
    keys.make("laptop", workspace)
    assert client(host="0.0.0.0").get("/v1/models").status_code == 401


def test_a_key_is_written_nowhere(
    client: Make, key_file: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture, pool: FakePool
) -> None:
    caplog.set_level(0)
    log = RequestLog(workspace, keep_content=True)
    make = client(api_key_file=key_file, log=log)
    good = {"authorization": f"Bearer {CANARY}"}
    answers = [make.post(CHAT, json=HELLO, headers=good), make.post(CHAT, json={}, headers=good)]
    pool.fault = lambda request: RuntimeError("broken")
    answers += [make.post(CHAT, json=HELLO, headers=good), make.get("/metrics", headers=good)]
    answers.append(make.get("/v1/models", headers={"authorization": f"Bearer {CANARY}wrong"}))
    plain = keys.make("laptop", workspace)
    answers.append(make.post(CHAT, json=HELLO, headers={"authorization": f"Bearer {plain}"}))
    log.close()
    assert [answer.status_code for answer in answers] == [200, 400, 500, 200, 401, 500]
    told = caplog.text + "".join(answer.text + str(answer.headers) for answer in answers)
    for secret in (CANARY, plain):
        assert secret not in told
        for file in workspace.root.rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file
