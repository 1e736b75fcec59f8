"""Which of several answers people prefer: votes in the workspace's database, and what they add up to.

No text of a chat is kept, only which models answered and which answer was chosen.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.store import transaction

TIE, BAD = "=tie", "=bad"  # no model is called like that
LEVEL = 0.95
_SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    models TEXT NOT NULL,
    choice TEXT NOT NULL,
    named INTEGER NOT NULL DEFAULT 0
)
"""
# Databases of before votes with names in sight.
_ADD_NAMED = "ALTER TABLE votes ADD COLUMN named INTEGER NOT NULL DEFAULT 0"


@dataclass(frozen=True)
class Share:
    """`wins` of `decided` votes, and the interval that holds the true share with 95 % confidence."""

    wins: int
    decided: int

    @property
    def value(self) -> float | None:
        return self.wins / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (1927, https://doi.org/10.1080/01621459.1927.10502953); (0, 1) without votes."""
        if not self.decided:
            return 0.0, 1.0
        z = NormalDist().inv_cdf((1 + LEVEL) / 2)
        n, p = self.decided, self.wins / self.decided
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Pair:
    """What was said of two models that answered together; `share` is the first one's, ties left out."""

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    both_bad: int

    @property
    def share(self) -> Share:
        return Share(self.wins, self.wins + self.losses)


@dataclass(frozen=True)
class Record:
    """One model over all votes in which it took part; `share` counts those that had a winner."""

    model: str
    votes: int
    share: Share


@dataclass(frozen=True)
class Tally:
    """All votes, `named` of them given with the models' names in sight."""

    votes: int
    pairs: tuple[Pair, ...]
    models: tuple[Record, ...]
    named: int = 0

    def pair(self, first: str, second: str) -> Pair | None:
        """What was said of two models, the first one's side of it; None when nothing was."""
        for found in self.pairs:
            if (found.first, found.second) == (first, second):
                return found
            if (found.first, found.second) == (second, first):
                return Pair(first, second, found.losses, found.wins, found.ties, found.both_bad)
        return None


def add(models: Sequence[str], choice: str, workspace: Workspace, *, named: bool = False) -> None:
    """Keep a vote: `choice` is the model whose answer is the best, `TIE`, or `BAD` when none is any good.

    `named`: who gave which answer could be seen.

    Raises `UserError` when the models are not two or more different ones, or the choice is none of theirs.
    """
    if len(set(models)) != len(models) or len(models) < 2:
        raise UserError(f"a vote is between two or more different models, not {', '.join(models) or 'none'}")
    if choice not in (*models, TIE, BAD):
        raise UserError(f"{choice!r} cannot be voted for; choose one of {', '.join(models)}, {TIE} or {BAD}")
    row = (time.time(), json.dumps(list(models)), choice, named)
    with _database(workspace) as connection:
        connection.execute("INSERT INTO votes (time, models, choice, named) VALUES (?, ?, ?, ?)", row)


def tally(workspace: Workspace) -> Tally:
    """All votes of the workspace: pairs that met most often first, then the models that win most often."""
    if not workspace.database.exists():
        return Tally(0, (), ())
    with _database(workspace) as connection:
        rows = connection.execute("SELECT models, choice, named FROM votes ORDER BY id").fetchall()
    votes = [(json.loads(models), choice) for models, choice, _ in rows]
    pairs: dict[tuple[str, str], list[int]] = {}
    records: dict[str, list[int]] = {}
    for models, choice in votes:
        for model in models:
            votes_wins_decided = records.setdefault(model, [0, 0, 0])
            votes_wins_decided[0] += 1
            votes_wins_decided[1] += choice == model
            votes_wins_decided[2] += choice in models
        for one, other in combinations(sorted(models), 2):
            counts = pairs.setdefault((one, other), [0, 0, 0, 0])
            kinds = {one: 0, other: 1, TIE: 2, BAD: 3}
            if choice in kinds:  # of three answers, the best says nothing of how the other two compare
                counts[kinds[choice]] += 1
    found = [Pair(one, other, *counts) for (one, other), counts in pairs.items() if any(counts)]
    found.sort(key=lambda pair: (-(pair.wins + pair.losses + pair.ties + pair.both_bad), pair.first, pair.second))
    models = [Record(model, count, Share(wins, decided)) for model, (count, wins, decided) in records.items()]
    models.sort(key=lambda record: (-(record.share.value or 0.0), -record.votes, record.model))
    return Tally(len(votes), tuple(found), tuple(models), sum(named for _, _, named in rows))


@contextmanager
def _database(workspace: Workspace) -> Iterator[sqlite3.Connection]:
    with transaction(workspace.database, _SCHEMA) as connection:
        if "named" not in [name for _, name, *_ in connection.execute("PRAGMA table_info(votes)")]:
            connection.execute(_ADD_NAMED)
        yield connection
