"""The request log in numbers, as JSON for the page and the command line."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from phi3tune.monitor.ratings import Rating, ratings
from phi3tune.monitor.records import reading
from phi3tune.paths import Workspace

if TYPE_CHECKING:
    import numpy as np

DAY = 86_400.0
LISTED = 10
_BUCKETS = (60, 300, 900, 3_600, 21_600, 86_400, 604_800)  # seconds
_MOST_POINTS = 300
# Tokens after the first one over the time that they took, where there were two or more.
_SPEED = (
    "CASE WHEN completion_tokens > 1 AND seconds > first_token_seconds "
    "THEN (completion_tokens - 1) / (seconds - first_token_seconds) END"
)
_MEASURES = {
    "first_token": "first_token_seconds",
    "seconds": "seconds",
    "queue": "queue_seconds",
    "tokens_per_second": _SPEED,
}
_SHOWN = (
    "id, time, model, kind, status, error_code, prompt_tokens, completion_tokens, queue_seconds, first_token_seconds, "
    f"seconds, {_SPEED} AS tokens_per_second, finish_reason, key_name"
)


def summary(
    workspace: Workspace, *, since: float | None = None, until: float | None = None, model: str | None = None
) -> dict[str, Any]:
    """How the endpoints of a workspace did between two times, in seconds since 1970; by default in the last day.

    requests, errors    how many, and how many of them were refused or failed (status 400 and more)
    requests_per_minute over the whole stretch of time
    tokens              sums of `prompt`, `completion` and `cached` tokens
    first_token, seconds, queue, tokens_per_second
                        `p5 p50 p95` of answered requests, in seconds or tokens per second, interpolated as
                        numpy.quantile does; null without a value
    series              a point for every `bucket_seconds`, also where nothing came
    models, error_codes, guards
                        the same by model, by status and code, and by guard, action and what was found
    slowest, failed     ten requests each; errors of the server stand before refusals
    ratings             `up`, `down`, `models`, and the requests rated `bad` last
    contents            how many requests have their texts kept
    """
    until = time.time() if until is None else until
    since = until - DAY if since is None else since
    rated = [r for r in ratings(workspace, since) if r.time <= until and model in (None, r.model)]
    with reading(workspace) as log:
        window = _Window(log, since, until, model)
        return {
            "since": since,
            "until": until,
            "model": model,
            **_totals(window),
            **_distributions(window),
            **_groups(window),
            "slowest": window.rows(f"SELECT {_SHOWN} FROM", f"AND status < 400 ORDER BY seconds DESC LIMIT {LISTED}"),
            "failed": window.rows(
                f"SELECT {_SHOWN} FROM", f"AND status >= 400 ORDER BY status < 500, time DESC LIMIT {LISTED}"
            ),
            "ratings": _rated(log, rated),
        }


@dataclass(frozen=True)
class _Window:
    """Requests of one stretch of time, of one model or of all."""

    log: sqlite3.Connection
    since: float
    until: float
    model: str | None

    def select(self, what: str, rest: str = "") -> sqlite3.Cursor:
        """`what` is a query up to its table, `rest` what follows its conditions.

        To SQLite, CROSS JOIN says which table to read first: the small one.
        """
        return self.log.execute(
            f"{what} requests WHERE time BETWEEN :since AND :until AND (:model IS NULL OR model = :model) {rest}",
            {"since": self.since, "until": self.until, "model": self.model},
        )

    def rows(self, what: str, rest: str = "") -> list[dict[str, Any]]:
        return [dict(row) for row in self.select(what, rest)]


def _totals(window: _Window) -> dict[str, Any]:
    [row] = window.rows(
        "SELECT COUNT(*) AS requests, COALESCE(SUM(status >= 400), 0) AS errors, "
        "COALESCE(SUM(prompt_tokens), 0) AS prompt, COALESCE(SUM(completion_tokens), 0) AS completion, "
        "COALESCE(SUM(cached_tokens), 0) AS cached FROM"
    )
    [(contents,)] = window.select("SELECT COUNT(*) FROM contents CROSS JOIN", "AND id = contents.request")
    minutes = (window.until - window.since) / 60
    return {
        "requests": row["requests"],
        "errors": row["errors"],
        "requests_per_minute": row["requests"] / minutes if minutes > 0 else 0.0,
        "tokens": {name: row[name] for name in ("prompt", "completion", "cached")},
        "contents": contents,
    }


def _distributions(window: _Window) -> dict[str, Any]:
    import numpy as np

    length = max(1.0, window.until - window.since)
    bucket = next((each for each in _BUCKETS if length / each <= _MOST_POINTS), _BUCKETS[-1])
    start = window.since // bucket * bucket
    columns = ("time", "status >= 400", "prompt_tokens", "completion_tokens", *_MEASURES.values())
    # Row by row into 64 bytes each: a month may have a million. What is unknown is -1 on the way.
    rows = window.select(f"SELECT {', '.join(f'COALESCE({column}, -1)' for column in columns)} FROM")
    rows.row_factory = None
    table = np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, len(columns))
    table[table < 0] = np.nan
    failed = table[:, 1] > 0
    measures = {name: np.where(failed, np.nan, table[:, 4 + place]) for place, name in enumerate(_MEASURES)}
    places = ((table[:, 0] - start) // bucket).astype(int)
    count = int((window.until - start) // bucket) + 1
    sums = [
        np.bincount(places, weights=np.nan_to_num(column), minlength=count)
        for column in (np.ones(len(table)), failed, table[:, 2], table[:, 3])
    ]
    medians = {name: _medians(places, measures[name], count) for name in ("first_token", "tokens_per_second")}
    series = [
        {
            "time": start + place * bucket,
            **{
                name: int(column[place])
                for name, column in zip(("requests", "errors", "prompt_tokens", "completion_tokens"), sums, strict=True)
            },
            **{name: found[place] for name, found in medians.items()},
        }
        for place in range(count)
    ]
    spread = {name: _quantiles(values) for name, values in measures.items()}
    return {**spread, "bucket_seconds": bucket, "series": series}


def _quantiles(values: np.ndarray) -> dict[str, float | None]:
    import numpy as np

    values = values[np.isfinite(values)]
    names = {"p5": 0.05, "p50": 0.5, "p95": 0.95}
    if not len(values):
        return dict.fromkeys(names)
    return {name: float(found) for name, found in zip(names, np.quantile(values, list(names.values())), strict=True)}


def _medians(places: np.ndarray, values: np.ndarray, count: int) -> list[float | None]:
    """The median of the values at each of `count` places; None where there is none."""
    import numpy as np

    known = np.isfinite(values)
    order = np.argsort(places[known], kind="stable")
    parts = np.split(values[known][order], np.searchsorted(places[known][order], np.arange(1, count)))
    return [float(np.median(part)) if len(part) else None for part in parts]


def _groups(window: _Window) -> dict[str, Any]:
    return {
        "models": window.rows(
            "SELECT model, COUNT(*) AS requests, SUM(status >= 400) AS errors, "
            "SUM(prompt_tokens) AS prompt_tokens, SUM(completion_tokens) AS completion_tokens FROM",
            "GROUP BY model ORDER BY requests DESC, model",
        ),
        "error_codes": window.rows(
            "SELECT status, error_code, COUNT(*) AS requests FROM",
            "AND status >= 400 GROUP BY status, error_code ORDER BY requests DESC, status",
        ),
        "guards": window.rows(
            "SELECT guard, action, what, COUNT(DISTINCT id) AS requests FROM guard_hits CROSS JOIN",
            "AND id = guard_hits.request GROUP BY guard, action, what ORDER BY requests DESC, guard",
        ),
    }


def _rated(log: sqlite3.Connection, rated: Sequence[Rating]) -> dict[str, Any]:
    by_model: dict[str, dict[str, int]] = {}
    for each in rated:
        counts = by_model.setdefault(each.model, {"up": 0, "down": 0})
        counts["up" if each.rating > 0 else "down"] += 1
    bad = [each.request for each in rated if each.rating < 0][:LISTED]
    rows = [log.execute(f"SELECT {_SHOWN} FROM requests WHERE id = ?", (request,)).fetchone() for request in bad]
    return {
        "up": sum(counts["up"] for counts in by_model.values()),
        "down": sum(counts["down"] for counts in by_model.values()),
        "models": [{"model": model, **counts} for model, counts in sorted(by_model.items())],
        "bad": [dict(row) for row in rows if row is not None],  # a request may be gone before its rating
    }
