"""What people thought of an answer: good or bad, by the id of its request."""

from __future__ import annotations

import time
from dataclasses import dataclass

from phi3tune.errors import UserError
from phi3tune.monitor.records import reading
from phi3tune.paths import Workspace
from phi3tune.store import transaction

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ratings (
    request TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    rating INTEGER NOT NULL CHECK (rating IN (-1, 1)),
    time REAL NOT NULL
)
"""


@dataclass(frozen=True)
class Rating:
    """`rating` is 1 for good and -1 for bad; `time` in seconds since 1970."""

    request: str
    model: str
    rating: int
    time: float


def rate(request_id: str, rating: int, workspace: Workspace) -> Rating:
    """Rate the answer of a request, 1 or -1; a later rating takes the place of an earlier one.

    Raises `UserError` for another rating, and for a request that is not in the log.
    """
    if rating not in (1, -1):
        raise UserError(f"rating {rating!r} is not accepted: give 1 for a good answer or -1 for a bad one")
    with reading(workspace) as log:
        row = log.execute("SELECT model FROM requests WHERE id = ? AND status < 400", (request_id,)).fetchone()
    if row is None:
        raise UserError(
            f"request {request_id[:80]!r} is not in the log: give the id of an answer of an endpoint, as its `id` says"
        )
    found = Rating(request_id, row["model"], rating, time.time())
    # In the workspace's lasting database: a rating outlives the request, which is removed in time.
    with transaction(workspace.database, _SCHEMA) as table:
        values = (found.request, found.model, found.rating, found.time)
        table.execute("INSERT OR REPLACE INTO ratings VALUES (?, ?, ?, ?)", values)
    return found


def ratings(workspace: Workspace, since: float = 0.0) -> list[Rating]:
    """Ratings that were given since a time, newest first."""
    if not workspace.database.exists():
        return []
    query = "SELECT request, model, rating, time FROM ratings WHERE time >= ? ORDER BY time DESC"
    with transaction(workspace.database, _SCHEMA) as table:
        return [Rating(*row) for row in table.execute(query, (since,))]
