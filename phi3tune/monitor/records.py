"""The tables of `requests.db`: one row for each request. Nothing of a text is in them unless it is to be kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from phi3tune.chat import Message
from phi3tune.guardrails import Hit
from phi3tune.paths import Workspace

Kind = Literal["chat", "completion", "classify"]
FILE = "requests.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY,
    time REAL NOT NULL,
    model TEXT NOT NULL,
    kind TEXT NOT NULL,
    status INTEGER NOT NULL,
    error_code TEXT,
    stream INTEGER NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cached_tokens INTEGER,
    queue_seconds REAL,
    first_token_seconds REAL,
    seconds REAL NOT NULL,
    finish_reason TEXT,
    key_name TEXT,
    words INTEGER,
    unseen_words INTEGER,
    refused INTEGER
);
CREATE INDEX IF NOT EXISTS requests_time ON requests (time);
CREATE INDEX IF NOT EXISTS requests_model ON requests (model, time);
CREATE TABLE IF NOT EXISTS guard_hits (
    request TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    guard TEXT NOT NULL,
    action TEXT NOT NULL,
    what TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS guard_hits_request ON guard_hits (request);
CREATE TABLE IF NOT EXISTS contents (
    request TEXT PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    messages TEXT NOT NULL,
    answer TEXT NOT NULL
);
"""


# Fields of a record that are columns as they are.
_COLUMNS = (
    "id",
    "time",
    "model",
    "kind",
    "status",
    "error_code",
    "stream",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "queue_seconds",
    "first_token_seconds",
    "seconds",
    "finish_reason",
    "key_name",
)
_LONGEST_NAME = 300


@dataclass(frozen=True)
class RequestRecord:
    """One request as an endpoint answered or refused it. Times in seconds, counts in tokens; None is unknown.

    time        when it came, seconds since 1970
    model       the model's name as it was asked for; for drift it has to resolve to a run or one of its builds
    status      HTTP status; of a stream that broke off the one that it would have had
    seconds     from when it came to the end of the answer; `queue_seconds` of it were spent waiting, and
                `first_token_seconds`, waiting included, until the first token
    messages, answer
                the chat and what was said. The log takes counts from them and keeps the texts themselves only if it
                was made to keep contents.
    """

    id: str
    time: float
    model: str
    kind: Kind
    status: int
    seconds: float
    error_code: str | None = None
    stream: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    queue_seconds: float | None = None
    first_token_seconds: float | None = None
    finish_reason: str | None = None
    key_name: str | None = None
    guard_hits: Sequence[Hit] = ()
    messages: Sequence[Message] = field(default=(), repr=False)
    answer: str = field(default="", repr=False)


def database(workspace: Workspace) -> Path:
    """Where the log of a workspace lies: beside its other database."""
    return workspace.database.with_name(FILE)


@contextmanager
def reading(workspace: Workspace) -> Iterator[sqlite3.Connection]:
    """A connection to read the log with; an empty log where there is none."""
    connection = connect(workspace) if database(workspace).exists() else _prepared(sqlite3.connect(":memory:"))
    try:
        yield connection
    finally:
        connection.close()


def connect(workspace: Workspace) -> sqlite3.Connection:
    """A connection for one thread, to be closed by the caller; the log is made if there is none."""
    path = database(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    return _prepared(sqlite3.connect(path, timeout=30))


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode=WAL")
    # A request is no run: what the last moments before a power cut held may be lost.
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA secure_delete=ON")
    connection.executescript(_SCHEMA)
    return connection


def insert(
    connection: sqlite3.Connection, record: RequestRecord, counts: Mapping[str, Any], *, content: tuple[str, str] | None
) -> None:
    """Add a request inside a transaction: `counts` of its texts, and `content` (messages as JSON, answer) or None."""
    values: dict[str, Any] = {name: getattr(record, name) for name in _COLUMNS} | dict(counts)
    values["model"] = record.model[:_LONGEST_NAME]
    connection.execute(
        f"INSERT OR REPLACE INTO requests ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
        list(values.values()),
    )
    connection.executemany(
        "INSERT INTO guard_hits VALUES (?, ?, ?, ?)",
        [(record.id, hit.guard, hit.action, hit.what) for hit in record.guard_hits],
    )
    if content is not None:
        connection.execute("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", (record.id, *content))


def purge(workspace: Workspace, before: float) -> int:
    """Remove requests from before a time in seconds since 1970, with all that was kept of them; how many they were.

    Their bytes are overwritten in the file, and in the journal beside it.
    """
    if not database(workspace).exists():
        return 0
    connection = connect(workspace)
    try:
        return purge_on(connection, before)
    finally:
        connection.close()


def purge_on(connection: sqlite3.Connection, before: float) -> int:
    """`purge` over an open connection."""
    with connection:
        count = connection.execute("DELETE FROM requests WHERE time < ?", (before,)).rowcount
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return count
