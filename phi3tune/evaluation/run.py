"""Models answer and score the same held-out rows; one report says how each did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phi3tune.config import EvalConfig
from phi3tune.engines.folders import read_json
from phi3tune.engines.models import ModelRef, resolve
from phi3tune.errors import UserError
from phi3tune.evaluation import scoring
from phi3tune.evaluation.held_out import choose
from phi3tune.events import Notice, Phase, Reporter
from phi3tune.paths import Workspace, write_json, write_text

REPORT = "report.json"
ROWS = "rows.jsonl"
REPORT_SCHEMA = 1


def evaluate(config: EvalConfig, out_dir: Path, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """Answer the last turn of every held-out row greedily, score all assistant turns, and write the report.

    Returns the report and its `path`, or `{"status": "stopped"}` when the user stopped it; nothing is written
    then. Raises `UserError` for unknown models and datasets, and when there is no row.
    """
    reporter.emit(Phase(name="reading the dataset"))
    refs = [resolve(model, workspace) for model in config.models]
    held_out = choose(config, refs, workspace)
    chats = held_out.rows
    if held_out.left_out:
        message = f"{held_out.left_out} rows are left out: a model was trained on the same text"
        reporter.emit(Notice(level="info", code="rows_left_out", message=message))
    counter = scoring.RowCounter(reporter, len(chats) * len(refs))
    results: dict[int, scoring.Result] = {}
    models: dict[int, dict[str, Any]] = {}
    for group in _groups(refs):
        reporter.emit(Phase(name="loading " + ", ".join(refs[index].label for index in group)))
        with scoring.opened([refs[index] for index in group]) as engines:
            for index, engine in zip(group, engines, strict=True):
                reporter.emit(Phase(name=f"evaluating {refs[index].label}"))
                result = scoring.run(engine, chats, config.max_new_tokens, counter)
                if result is None:
                    return {"status": "stopped"}
                results[index] = result
                models[index] = scoring.summary(refs[index], engine, chats, result)
    dataset = held_out.dataset
    report = {
        "schema": REPORT_SCHEMA,
        "dataset": {"name": dataset.name, "source": dataset.source, "sha256": dataset.sha256},
        "split": config.split,
        "max_new_tokens": config.max_new_tokens,
        "rows": len(chats),
        "left_out": held_out.left_out,
        "models": [models[index] for index in range(len(refs))],
    }
    pairs = [(ref, results[index]) for index, ref in enumerate(refs)]
    lines = (scoring.row(place, chat, pairs) for place, chat in enumerate(chats))
    write_text(out_dir / ROWS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    write_json(out_dir / REPORT, report)  # last: a folder with a report is complete
    return {"path": str(out_dir.absolute()), **report}


def load_report(folder: Path) -> dict[str, Any]:
    """The report of a finished evaluation; `UserError` when there is none that this version reads."""
    report = read_json(folder / REPORT)
    if report.get("schema") != REPORT_SCHEMA:
        raise UserError(f"{folder / REPORT} has schema {report.get('schema')}, this version reads {REPORT_SCHEMA}")
    return report


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every row with its prompt, its reference and each model's answer; `UserError` when they cannot be read."""
    path = folder / ROWS
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _groups(refs: Sequence[ModelRef]) -> list[list[int]]:
    """Places of the models that share weights: a base and the adapters on it are loaded once."""
    groups: dict[tuple[str, Path], list[int]] = {}
    for index, ref in enumerate(refs):
        groups.setdefault((ref.kind, ref.base.resolve()), []).append(index)
    return list(groups.values())
