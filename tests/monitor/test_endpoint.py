"""The log as an endpoint fills it: what a person asks is counted, rated and found again, and its text is nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from phi3tune import guardrails, monitor
from phi3tune.monitor import RequestLog
from phi3tune.monitor.records import database, reading
from phi3tune.paths import Workspace
from phi3tune.server import create_app
from tests.server.conftest import settings, wait_for
from tests.server.fake_pool import FakePool

CANARY = "canary-4711@example.com"
GUARDS = """
- {name: emails, type: personal_data, action: mask}
- {name: words, type: block_list, action: block, on: input, words: [bomb]}
- {name: lamps, type: block_list, action: flag, on: output, words: [lamp]}
"""


def ask(client: TestClient, text: str, **more: Any) -> Any:
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, **more}
    return client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize("keep_content", [False, True])
def test_requests_are_logged_masked_and_rated(workspace: Workspace, tmp_path: Path, keep_content: bool) -> None:
    (tmp_path / "guards.yaml").write_text(GUARDS)
    guards = guardrails.load(tmp_path / "guards.yaml", workspace)
    log = RequestLog(workspace, keep_content=keep_content)
    pool = FakePool(f"It is a lamp of {CANARY}, yes.")
    app = create_app(settings(), workspace, cast(Any, pool), guards=guards, log=log)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        wait_for(app.state.server.models.ended.is_set)
        answer = ask(client, f"Who has {CANARY}?").json()
        streamed = ask(client, "And who else?", stream=True).text
        blocked = ask(client, "A bomb")
        rated = client.post("/v1/feedback", json={"id": answer["id"], "rating": -1})
    log.close()
    assert answer["choices"][0]["message"]["content"] == "It is a lamp of [emails], yes."
    assert "4711" not in streamed
    assert (blocked.status_code, rated.status_code) == (400, 200)
    found = monitor.summary(workspace)
    assert (found["requests"], found["errors"], found["ratings"]["down"]) == (3, 1, 1)
    assert {(hit["guard"], hit["action"], hit["requests"]) for hit in found["guards"]} == {
        ("emails", "mask", 2),
        ("words", "block", 1),
        ("lamps", "flag", 2),
    }
    assert found["contents"] == (2 if keep_content else 0)  # of a question that is blocked nothing is left
    with reading(workspace) as connection:
        kept = [tuple(row) for row in connection.execute("SELECT messages, answer FROM contents")]
    assert ("lamp of [emails]" in str(kept)) == keep_content
    files = b"".join(path.read_bytes() for path in database(workspace).parent.glob("requests.db*"))
    assert CANARY.encode() not in files
