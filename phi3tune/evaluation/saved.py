"""The files of a finished evaluation, and how they are read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phi3tune.engines.folders import read_json
from phi3tune.errors import UserError

REPORT = "report.json"
ROWS = "rows.jsonl"
PAGE = "report.html"
SECTION = "report.md"
SCHEMA = 2


def load_report(folder: Path) -> dict[str, Any]:
    """The report of a finished evaluation; `UserError` when there is none that this version reads."""
    report = read_json(folder / REPORT)
    if report.get("schema") == 1:
        return _from_schema_1(report)
    if report.get("schema") != SCHEMA:
        raise UserError(f"{folder / REPORT} has schema {report.get('schema')}, this version reads 1 and {SCHEMA}")
    return report


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every row with its prompt, its reference and each model's answer; `UserError` when they cannot be read."""
    path = folder / ROWS
    try:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    for row in found:
        for answer in row["answers"]:
            if "metrics" not in answer:  # schema 1
                answer["metrics"] = {name: float(answer[name]) for name in ("exact_match", "token_f1")}
    return found


def _from_schema_1(report: dict[str, Any]) -> dict[str, Any]:
    from phi3tune.evaluation.metrics import METRICS

    names = list(report["models"][0]["metrics"])
    return {
        **report,
        "schema": SCHEMA,
        "metric": "exact_match",
        "labels": None,
        "metrics": [METRICS[name].describe() for name in names],
        "models": [{**entry, "intervals": {}, "labels": None} for entry in report["models"]],
        "comparisons": [],
        "judge": None,
        "safety": None,
        "benchmarks": None,
    }
