"""The database of a workspace: the order of the queue, and the hashes of API keys. Losing it loses no run."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from phi3tune import system
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, visitors

NEEDED_BYTES = 2**20
_SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    folder TEXT NOT NULL UNIQUE,
    lane TEXT NOT NULL,
    pid INTEGER,
    started REAL
)
"""
_KEYS_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    name TEXT PRIMARY KEY,
    hash BLOB NOT NULL,
    created REAL NOT NULL,
    revoked REAL
)
"""


@dataclass(frozen=True)
class Entry:
    """One job that waits (`pid` is None) or was started as process `pid` at `started`."""

    folder: Path
    lane: str
    pid: int | None
    started: float | None


class Queue:
    """Jobs in the order in which they were given, inside one `transaction`; with `fair`, those of several visitors in
    turns."""

    def __init__(self, connection: sqlite3.Connection, root: Path, *, fair: bool = False) -> None:
        self._connection = connection
        self._root = root
        self._fair = fair

    def entries(self) -> list[Entry]:
        """All jobs, in the order in which they run: in a fair queue the first one of every visitor, whether it runs or
        waits, comes before anybody's second."""
        rows = self._connection.execute("SELECT folder, lane, pid, started FROM queue ORDER BY position")
        found = [Entry(self._root / folder, lane, pid, started) for folder, lane, pid, started in rows]
        if not self._fair:
            return found
        turns: Counter[tuple[str, str]] = Counter()
        ordered = []
        for place, entry in enumerate(found):
            visitor = entry.folder.relative_to(visitors(self._root)).parts[0]
            ordered.append((turns[visitor, entry.lane], place, entry))
            turns[visitor, entry.lane] += 1
        return [entry for _, _, entry in sorted(ordered, key=lambda each: each[:2])]

    def add(self, folder: Path, lane: str) -> None:
        self._connection.execute("INSERT OR IGNORE INTO queue (folder, lane) VALUES (?, ?)", (self._key(folder), lane))

    def waiting(self, lane: str) -> list[Path]:
        """Folders of the jobs of one lane that wait, the next to run first."""
        return [entry.folder for entry in self.entries() if entry.pid is None and entry.lane == lane]

    def move(self, folder: Path, position: int) -> None:
        """Put a waiting job at `position`, from 1, among the waiting jobs of its lane."""
        [lane] = self._connection.execute("SELECT lane FROM queue WHERE folder = ?", (self._key(folder),)).fetchone()
        rows = self._connection.execute(
            "SELECT position FROM queue WHERE lane = ? AND pid IS NULL ORDER BY position", (lane,)
        )
        places = [place for (place,) in rows]
        order = [other for other in self.waiting(lane) if other != folder]
        order.insert(position - 1, folder)
        # Negative first: two rows never have one place.
        for place, waiting in zip(places, order, strict=True):
            self._connection.execute("UPDATE queue SET position = ? WHERE folder = ?", (-place, self._key(waiting)))
        self._connection.execute("UPDATE queue SET position = -position WHERE position < 0")

    def mark_started(self, folder: Path, pid: int) -> None:
        self._connection.execute(
            "UPDATE queue SET pid = ?, started = ? WHERE folder = ?", (pid, time.time(), self._key(folder))
        )

    def remove(self, folder: Path) -> None:
        self._connection.execute("DELETE FROM queue WHERE folder = ?", (self._key(folder),))

    def _key(self, folder: Path) -> str:
        # Relative, so that a workspace can be moved.
        return folder.relative_to(self._root).as_posix()


class QueueUnavailableError(UserError):
    """The disk is too full for SQLite to work. Jobs that run go on without the queue."""


@contextmanager
def queue(workspace: Workspace) -> Iterator[Queue]:
    """The queue that a workspace has a part in, locked against every other process until the block ends.

    Raises `QueueUnavailableError` on a full disk, where SQLite cannot even read.
    """
    database = workspace.queue_database
    try:
        with transaction(database, _SCHEMA) as connection:
            yield Queue(connection, workspace.queue_root, fair=workspace.shared is not None)
    except sqlite3.OperationalError as error:
        free = system.disk_free(database.parent)
        if free >= NEEDED_BYTES:
            raise
        raise QueueUnavailableError(
            f"the queue {database} cannot be used ({error}): {free / 1e6:,.1f} MB are free and "
            f"{NEEDED_BYTES / 1e6:,.1f} MB are needed; free some space"
        ) from None


@contextmanager
def keys(database: Path) -> Iterator[sqlite3.Connection]:
    """The table `keys`, in a transaction: name, sha256 of the key, times in seconds since 1970."""
    with transaction(database, _KEYS_SCHEMA) as connection:
        yield connection


@contextmanager
def transaction(database: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """The workspace's database with the tables of `schema`, locked for writing until the block ends; kept unless it
    raises."""
    database.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(database, timeout=30, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(schema)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    finally:
        connection.close()
