"""The request log: what is written, what never is, and how it goes away."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from phi3tune import monitor
from phi3tune.errors import UserError
from phi3tune.guardrails import Hit
from phi3tune.monitor import RequestLog, RequestRecord
from phi3tune.monitor.records import database, reading
from phi3tune.paths import Workspace

CANARY = "xylophone-canary-4711"
NOW = 1_700_000_000.0


def record(number: int = 0, **changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "id": f"chatcmpl-{number}",
        "time": NOW + number,
        "model": "phi3-nano",
        "kind": "chat",
        "status": 200,
        "seconds": 1.0,
        **changes,
    }
    return RequestRecord(**values)


def written(workspace: Workspace, *records: RequestRecord, **settings: Any) -> None:
    log = RequestLog(workspace, **{"retention_days": 3_650.0, **settings})
    for each in records:
        log.add(each)
    log.close()
    assert log.dropped == 0


def bytes_on_disk(workspace: Workspace) -> bytes:
    return b"".join(path.read_bytes() for path in database(workspace).parent.glob("requests.db*"))


def rows(workspace: Workspace, query: str) -> list[dict[str, Any]]:
    with reading(workspace) as log:
        return [dict(row) for row in log.execute(query)]


def secret_chat(**changes: Any) -> RequestRecord:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": f"It is {CANARY}, twice {CANARY}"},
    ]
    return record(messages=messages, answer=f"I cannot help with {CANARY}.", **changes)


def test_a_record_is_kept_with_its_hits(workspace: Workspace) -> None:
    hits = (Hit("names", "mask", "email_address"), Hit("words", "flag", "phrase"))
    full = record(
        stream=True,
        prompt_tokens=31,
        completion_tokens=12,
        cached_tokens=8,
        queue_seconds=0.1,
        first_token_seconds=0.3,
        finish_reason="stop",
        key_name="team",
        guard_hits=hits,
    )
    written(workspace, full, record(1, status=429, error_code="rate_limit_exceeded"))
    first, second = rows(workspace, "SELECT * FROM requests ORDER BY time")
    for name in (
        "id",
        "time",
        "model",
        "kind",
        "status",
        "prompt_tokens",
        "cached_tokens",
        "key_name",
        "finish_reason",
    ):
        assert first[name] == getattr(full, name)
    assert (second["status"], second["error_code"], second["words"]) == (429, "rate_limit_exceeded", None)
    assert [(hit["guard"], hit["action"], hit["what"]) for hit in rows(workspace, "SELECT * FROM guard_hits")] == [
        ("names", "mask", "email_address"),
        ("words", "flag", "phrase"),
    ]


def test_texts_are_counted_and_not_kept(workspace: Workspace) -> None:
    written(workspace, secret_chat())
    [row] = rows(workspace, "SELECT * FROM requests")
    assert (row["words"], row["unseen_words"], row["refused"]) == (5, None, 1)
    assert rows(workspace, "SELECT * FROM contents") == []
    assert CANARY.encode() not in bytes_on_disk(workspace)


def test_texts_are_kept_when_asked_for_and_are_gone_after_their_time(workspace: Workspace) -> None:
    written(workspace, secret_chat(), record(86_400), keep_content=True)
    [content] = rows(workspace, "SELECT * FROM contents WHERE request = 'chatcmpl-0'")
    assert CANARY in content["messages"]
    assert CANARY in content["answer"]
    assert CANARY.encode() in bytes_on_disk(workspace)
    assert monitor.purge(workspace, before=NOW + 1) == 1
    assert [row["id"] for row in rows(workspace, "SELECT id FROM requests")] == ["chatcmpl-86400"]
    assert rows(workspace, "SELECT * FROM contents") == []
    assert CANARY.encode() not in bytes_on_disk(workspace)


def test_a_log_begins_by_removing_what_is_too_old(workspace: Workspace) -> None:
    now = time.time()
    written(workspace, record(1, time=now - 2 * 86_400), record(2, time=now - 60))
    written(workspace, record(3, time=now), retention_days=1.0)
    assert [row["id"] for row in rows(workspace, "SELECT id FROM requests ORDER BY time")] == [
        "chatcmpl-2",
        "chatcmpl-3",
    ]


def test_an_idle_log_removes_what_becomes_too_old(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3tune.monitor.log._PURGE_EVERY", 0.05)
    log = RequestLog(workspace, keep_content=True, retention_days=1.0)
    now = time.time()
    log.add(secret_chat(time=now))
    log.flush()
    assert CANARY.encode() in bytes_on_disk(workspace)
    monkeypatch.setattr("phi3tune.monitor.log.time.time", lambda: now + 2 * 86_400)
    deadline = time.monotonic() + 20
    while CANARY.encode() in bytes_on_disk(workspace):
        assert time.monotonic() < deadline, "it is still there"
        threading.Event().wait(0.05)
    log.close()
    assert rows(workspace, "SELECT id FROM requests") == []


def test_nothing_is_purged_where_there_is_no_log(workspace: Workspace) -> None:
    assert monitor.purge(workspace, before=NOW) == 0
    assert not database(workspace).exists()


def test_many_threads_lose_nothing(workspace: Workspace) -> None:
    log = RequestLog(workspace, retention_days=3_650.0)

    def add(start: int) -> None:
        for number in range(start, start + 250):
            log.add(record(number))

    threads = [threading.Thread(target=add, args=(250 * place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.flush()
    assert rows(workspace, "SELECT COUNT(*) AS n FROM requests") == [{"n": 2000}]
    log.close()
    assert log.dropped == 0


def test_a_log_that_cannot_be_written_counts_what_it_lost(workspace: Workspace) -> None:
    log = RequestLog(workspace, retention_days=3_650.0)
    log.add(record(1))
    log.flush()
    # A foreign table in the way: every insertion fails until it is gone.
    with sqlite3.connect(database(workspace)) as connection:
        connection.execute("CREATE TRIGGER broken BEFORE INSERT ON requests BEGIN SELECT RAISE(ABORT, 'no'); END")
    log.add(record(2))
    log.flush()
    assert log.dropped == 1
    with sqlite3.connect(database(workspace)) as connection:
        connection.execute("DROP TRIGGER broken")
    log.add(record(3))
    log.close()
    assert [row["id"] for row in rows(workspace, "SELECT id FROM requests ORDER BY time")] == [
        "chatcmpl-1",
        "chatcmpl-3",
    ]


def test_a_log_that_was_deleted_begins_anew(workspace: Workspace) -> None:
    log = RequestLog(workspace, retention_days=3_650.0)
    log.add(record(1))
    log.flush()
    for path in database(workspace).parent.glob("requests.db*"):
        path.unlink()
    log.add(record(2))
    log.close()
    assert log.dropped == 0
    assert [row["id"] for row in rows(workspace, "SELECT id FROM requests")] == ["chatcmpl-2"]


def test_the_log_lies_beside_the_other_database(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHI3TUNE_STATE", str(tmp_path / "state"))
    written(workspace, record())
    assert (tmp_path / "state" / "requests.db").is_file()


# --- Ratings


def test_answers_are_rated_by_their_request(workspace: Workspace) -> None:
    written(workspace, record(1), record(2), record(3, status=500))
    monitor.rate("chatcmpl-1", -1, workspace)
    assert monitor.rate("chatcmpl-1", 1, workspace).model == "phi3-nano"
    monitor.rate("chatcmpl-2", -1, workspace)
    for wrong in ("chatcmpl-3", "nobody"):
        with pytest.raises(UserError, match="is not in the log"):
            monitor.rate(wrong, 1, workspace)
    with pytest.raises(UserError, match="give 1 for a good answer"):
        monitor.rate("chatcmpl-1", 5, workspace)
    told = monitor.summary(workspace, since=NOW)["ratings"]
    assert (told["up"], told["down"]) == (1, 1)
    assert [row["id"] for row in told["bad"]] == ["chatcmpl-2"]


def test_a_rating_outlives_its_request(workspace: Workspace) -> None:
    written(workspace, record(1))
    monitor.rate("chatcmpl-1", -1, workspace)
    monitor.purge(workspace, before=NOW + 10)
    told = monitor.summary(workspace, since=NOW)["ratings"]
    assert told == {"up": 0, "down": 1, "models": [{"model": "phi3-nano", "up": 0, "down": 1}], "bad": []}
