"""Rows of a report as a person looks through them: what broke, what was fixed, what is still wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
# What the names mean for the first model of a row and its last one.
GROUPS = {
    "broken": "right before, wrong now",
    "fixed": "wrong before, right now",
    "both wrong": "wrong before and now",
    "differ": "right before and now, in other words",
    "wrong": "not right",
}


def right(answer: Mapping[str, Any], metric: str) -> bool:
    """Whether an answer is right by the verdict's metric where that is yes or no for a row, else by exact match."""
    score = answer["metrics"].get(metric)
    return bool(score) if score in (0, 1) else bool(answer["exact_match"])


def grouped(rows: Sequence[Row], metric: str, better: str | None = "higher") -> dict[str, list[Row]]:
    """Rows by group, each row in one, the worst first; groups without a row are left out.

    Worst is what lost most against the first model, then what the last model did worst by `metric`. Rows that both
    models got right in the same words are in no group, nor are those of plain text, which ask for no answer.
    """
    found: dict[str, list[Row]] = {name: [] for name in GROUPS}
    for row in rows:
        name = _group(row, metric)
        if name is not None:
            found[name].append(row)
    sign = -1.0 if better == "lower" else 1.0

    def merit(row: Row) -> tuple[float, float]:
        first, last = (_score(row["answers"][place], metric) * sign for place in (0, -1))
        return last - first, last

    return {name: sorted(kept, key=merit) for name, kept in found.items() if kept}


def _group(row: Row, metric: str) -> str | None:
    answers = row["answers"]
    if all(answer["exact_match"] is None for answer in answers):
        return None
    before, now = right(answers[0], metric), right(answers[-1], metric)
    if len(answers) == 1:
        return None if now else "wrong"
    if before != now:
        return "fixed" if now else "broken"
    if not now:
        return "both wrong"
    return "differ" if len({answer["answer"] for answer in answers}) > 1 else None


def _score(answer: Mapping[str, Any], metric: str) -> float:
    score = answer["metrics"].get(metric, answer["token_f1"])
    return float(score or 0.0)
