"""Models answer and score the same held-out rows; one report says how each did."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3tune.config import EvalConfig
from phi3tune.data import Conversation
from phi3tune.engines.base import Completion, Engine, Request, Sampling
from phi3tune.engines.folders import read_json
from phi3tune.engines.models import ModelRef, resolve
from phi3tune.errors import UserError
from phi3tune.evaluation import rows as held_out
from phi3tune.evaluation.metrics import TokenScore, exact_match, mean, token_f1
from phi3tune.events import Notice, Phase, Progress, Reporter
from phi3tune.paths import Workspace, write_json, write_text

if TYPE_CHECKING:
    from phi3tune.engines.torch_engine import TorchEngine

REPORT = "report.json"
ROWS = "rows.jsonl"
REPORT_SCHEMA = 1
_SLICE = 32  # rows between two looks at the stop file


@dataclass
class _Result:
    """What one model did with the rows."""

    answers: dict[int, Completion] = field(default_factory=dict)
    unanswered: dict[int, str] = field(default_factory=dict)
    tokens: TokenScore = field(default_factory=TokenScore)
    truncated: int = 0
    answering: float = 0.0
    scoring: float = 0.0


def evaluate(config: EvalConfig, out_dir: Path, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """Answer the last turn of every held-out row greedily, score all assistant turns, and write the report.

    Returns the report with its `path`, or `{"status": "stopped"}` when the user stopped it; nothing is written
    then. Raises `UserError` for unknown models and datasets, and when there is no row.
    """
    reporter.emit(Phase(name="reading the dataset"))
    refs = [resolve(model, workspace) for model in config.models]
    chosen = held_out.choose(config, refs, workspace)
    if chosen.left_out:
        reporter.emit(
            Notice(
                code="rows_left_out",
                message=f"{chosen.left_out} rows are left out: a model was trained on the same text",
            )
        )
    progress = _Counter(reporter, len(chosen.rows) * len(refs))
    models: dict[int, dict[str, Any]] = {}
    results: dict[int, _Result] = {}
    for group in _groups(refs):
        reporter.emit(Phase(name=f"loading {', '.join(refs[index].label for index in group)}"))
        with _opened([refs[index] for index in group]) as engines:
            for index, engine in zip(group, engines, strict=True):
                reporter.emit(Phase(name=f"evaluating {refs[index].label}"))
                result = _run(engine, chosen.rows, config.max_new_tokens, progress)
                if result is None:
                    return {"status": "stopped"}
                results[index] = result
                models[index] = _summary(refs[index], engine, chosen.rows, result)
    report = {
        "schema": REPORT_SCHEMA,
        "dataset": {"name": chosen.dataset.name, "source": chosen.dataset.source, "sha256": chosen.dataset.sha256},
        "split": config.split,
        "max_new_tokens": config.max_new_tokens,
        "rows": len(chosen.rows),
        "left_out": chosen.left_out,
        "models": [models[index] for index in range(len(refs))],
    }
    lines = (
        _row(number, chat, [(ref, results[index]) for index, ref in enumerate(refs)])
        for number, chat in enumerate(chosen.rows)
    )
    write_text(out_dir / ROWS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    write_json(out_dir / REPORT, report)  # last: a folder with a report is complete
    return {"path": str(out_dir.absolute()), **report}


def load_report(folder: Path) -> dict[str, Any]:
    """The report of a finished evaluation; `UserError` when there is none that this version reads."""
    report = read_json(folder / REPORT)
    if report.get("schema") != REPORT_SCHEMA:
        raise UserError(f"{folder / REPORT} has schema {report.get('schema')}, this version reads {REPORT_SCHEMA}")
    return report


def load_rows(folder: Path) -> list[dict[str, Any]]:
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


@contextmanager
def _opened(refs: Sequence[ModelRef]) -> Iterator[list[Engine]]:
    """Engines of models with the same weights, in order; closed at the end."""
    from phi3tune.engines import open_engine
    from phi3tune.engines.models import verify

    first = open_engine(refs[0])
    try:
        if len(refs) == 1 or refs[0].kind != "torch":
            yield [first] * len(refs)
            return
        from phi3tune.engines.torch_engine import TorchEngine

    finally:
        first.close()


class _Counter:
    """Rows done over all models, with the time that the rest will take at the pace so far."""

    def __init__(self, reporter: Reporter, total: int) -> None:
        self.reporter = reporter
        self._total = total
        self._done = 0
        self._busy = 0.0

    def add(self, rows: int, seconds: float) -> None:
        self._done += rows
        self._busy += seconds
        left = self._busy / self._done * (self._total - self._done)
        self.reporter.emit(Progress(done=self._done, total=self._total, unit="rows", eta_seconds=left))
