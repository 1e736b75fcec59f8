"""The request log as an endpoint writes it: never waited for, written in batches by a thread of its own."""

from __future__ import annotations

import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import Any

from phi3tune.monitor.profiles import LONGEST, Profiles
from phi3tune.monitor.ratings import Rating, rate
from phi3tune.monitor.records import RequestRecord, connect, database, insert, purge_on
from phi3tune.paths import Workspace

_logger = logging.getLogger(__name__)
_WAITING = 10_000  # records; more are dropped and counted, rather than held in memory
_BATCH = 500
_PAUSE = 0.2  # seconds in which a batch is collected
_PURGE_EVERY = 3600.0
_DAY = 86_400.0


class RequestLog:
    """Writes requests to the workspace's `requests.db`. Safe to use from any thread, `add` from an event loop too.

    keep_content    keep the texts of questions and answers
    retention_days  requests older than this are removed, at the start and every hour while the log is open

    A log that cannot be written never disturbs an answer: what was lost is counted in `dropped`, and logged.
    """

    def __init__(self, workspace: Workspace, *, keep_content: bool = False, retention_days: float = 30.0) -> None:
        self.dropped = 0
        self._workspace = workspace
        self._keep_content = keep_content
        self._retention = retention_days * _DAY
        self._profiles = Profiles(workspace)
        self._queue: queue.Queue[RequestRecord | threading.Event | None] = queue.Queue(_WAITING)
        self._connection: sqlite3.Connection | None = None
        self._purged: float | None = None
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._thread.start()

    def add(self, record: RequestRecord) -> None:
        """Hand over a request; returns at once."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def flush(self) -> None:
        """Wait until all that was added so far is in the file."""
        written = threading.Event()
        self._queue.put(written)
        while self._thread.is_alive() and not written.wait(_PAUSE):
            pass

    def rate(self, request_id: str, rating: int) -> Rating:
        """`monitor.rate` of an answer that may just have been given. Raises as it does."""
        self.flush()
        return rate(request_id, rating, self._workspace)

    def close(self) -> None:
        """Write what is left, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        from phi3tune.evaluation.safety import refused

        self._refused = refused
        records: list[RequestRecord] = []
        waiting: list[threading.Event] = []
        goes_on = True
        while True:
            try:
                self._write(records)
            except Exception:  # whatever it is, the next requests are logged and whoever waits is told
                self.dropped += len(records)
                _logger.exception("the request log lost %d requests", len(records))
                self._disconnect()
            for each in waiting:
                each.set()
            if not goes_on:
                break
            records, waiting, goes_on = self._collect()
        self._disconnect()

    def _collect(self) -> tuple[list[RequestRecord], list[threading.Event], bool]:
        """The records of the next batch, who waits for it, and whether there will be another one."""
        records: list[RequestRecord] = []
        until = time.monotonic() + _PURGE_EVERY
        while len(records) < _BATCH:
            try:
                item = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if item is None:
                return records, [], False
            if isinstance(item, threading.Event):
                return records, [item], True
            records.append(item)
            if len(records) == 1:
                until = time.monotonic() + _PAUSE
        return records, [], True

    def _write(self, records: Sequence[RequestRecord]) -> None:
        if not database(self._workspace).exists():  # a person may delete it at any time
            self._disconnect()
        connection = self._connection = self._connection or connect(self._workspace)
        rows = [self._counts(record) for record in records]
        with connection:
            for record, counts in zip(records, rows, strict=True):
                insert(connection, record, counts, content=self._content(record))
        if self._purged is None or time.monotonic() - self._purged >= _PURGE_EVERY:
            purge_on(connection, time.time() - self._retention)
            self._purged = time.monotonic()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _counts(self, record: RequestRecord) -> dict[str, Any]:
        """What drift is told by: words, words that training did not have, and whether the answer was a refusal."""
        if record.status >= 400:
            return {"words": None, "unseen_words": None, "refused": None}
        words, unseen = self._profiles.new_words(record.model, record.messages)
        said = record.kind != "classify" and bool(record.answer)
        return {
            "words": words,
            "unseen_words": unseen,
            "refused": self._refused(record.answer[:LONGEST]) if said else None,
        }

    def _content(self, record: RequestRecord) -> tuple[str, str] | None:
        if not self._keep_content or not (record.messages or record.answer):
            return None
        messages = [{"role": m["role"], "content": m["content"][:LONGEST]} for m in record.messages]
        return json.dumps(messages, ensure_ascii=False), record.answer[:LONGEST]
