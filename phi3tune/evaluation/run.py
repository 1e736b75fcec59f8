"""Models answer and score the same held-out rows; one report says how each did, and which is better."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phi3tune.config import EvalConfig
from phi3tune.data.split import key
from phi3tune.engines.models import ModelRef, resolve
from phi3tune.evaluation import extras, html, markdown, progress, report, saved, scoring
from phi3tune.evaluation.compare import Comparison
from phi3tune.evaluation.held_out import HeldOut, choose
from phi3tune.evaluation.measures import Measures
from phi3tune.events import Notice, Phase, Reporter
from phi3tune.paths import Workspace, write_json, write_text


def evaluate(config: EvalConfig, out_dir: Path, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """Answer the last turn of every held-out row greedily, score all assistant turns, and write the report.

    Returns the report and its `path`, or `{"status": "stopped"}` when the user stopped it. Answers are kept batch by
    batch: called again for the same folder, it goes on where it was. Raises `UserError` for unknown models and
    datasets, and when there is no row.
    """
    extras.check(config)
    reporter.emit(Phase(name="reading the dataset"))
    refs = [resolve(model, workspace) for model in config.models]
    extras.check_models(config, refs)
    for ref in refs:
        if ref.failing:
            message = f"{ref.ref} does not answer like the model that it was built from"
            reporter.emit(Notice(code="fails_parity", message=message, action=f"See phi3tune builds show {ref.ref}"))
    held_out = choose(config, refs, workspace)
    if held_out.left_out:
        message = f"{held_out.left_out} rows are left out: a model was trained on the same text"
        reporter.emit(Notice(level="info", code="rows_left_out", message=message))
    done = _answer(config, refs, held_out, out_dir, reporter)
    if done is None:
        return {"status": "stopped"}
    reporter.emit(Phase(name="comparing the models"))
    found, lines = _report(config, refs, held_out, done)
    if not extras.run(config, refs, found, lines, out_dir, workspace, reporter):
        return {"status": "stopped"}
    write_text(out_dir / saved.PAGE, html.page(found, lines))
    write_text(out_dir / saved.SECTION, markdown.section(found))
    write_text(out_dir / saved.ROWS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    write_json(out_dir / saved.REPORT, found)  # last: a folder with a report is complete
    return {"path": str(out_dir.absolute()), **found}


def _answer(
    config: EvalConfig, refs: Sequence[ModelRef], held_out: HeldOut, out_dir: Path, reporter: Reporter
) -> list[progress.Progress] | None:
    """What every model did with the rows, taken up where an earlier call ended; None when the user stopped it."""
    rows = held_out.rows
    done = [
        progress.Progress(progress.path(out_dir, place), _question(config, ref, held_out))
        for place, ref in enumerate(refs)
    ]
    counter = scoring.RowCounter(reporter, len(rows) * len(refs))
    counter.skip(sum(len(each.answers) for each in done))
    for group in scoring.groups(refs):
        group = [place for place in group if len(done[place].answers) < len(rows)]
        if not group:
            continue
        reporter.emit(Phase(name="loading " + ", ".join(refs[place].label for place in group)))
        with scoring.opened([refs[place] for place in group], key_variable=config.key_variable) as engines:
            for place, engine in zip(group, engines, strict=True):
                reporter.emit(Phase(name=f"evaluating {refs[place].label}"))
                done[place].begin(scoring.facts(engine))
                if not scoring.run(engine, rows, config.max_new_tokens, done[place], counter):
                    return None
    return done


def _question(config: EvalConfig, ref: ModelRef, held_out: HeldOut) -> str:
    """Hash of everything that a model's answers depend on: rows, longest answer, and the model's own files."""
    folders = [folder for folder in (ref.folder, ref.adapter) if folder is not None]
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.is_file()]
    asked = {
        "model": [ref.kind, ref.ref],
        "files": [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "rows": [key(row.messages).hex() for row in held_out.rows],
        "max_new_tokens": config.max_new_tokens,
    }
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _report(
    config: EvalConfig, refs: Sequence[ModelRef], held_out: HeldOut, done: Sequence[progress.Progress]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report without its extras, and the lines of rows.jsonl."""
    dataset, plan, rows = held_out.dataset, held_out.plan, held_out.rows
    found: dict[str, Any] = {
        "schema": saved.SCHEMA,
        "dataset": None,
        "split": config.split,
        "max_new_tokens": config.max_new_tokens,
        "rows": len(rows),
        "left_out": held_out.left_out,
        "metric": None,
        "labels": None,
        "metrics": [],
        "models": [report.without_rows(ref) for ref in refs],
        "comparisons": [],
        "judge": None,
        "safety": None,
        "benchmarks": None,
    }
    if dataset is None or plan is None:
        return found, []
    entries = [
        report.Entry(ref, each.engine or {}, each.answers, Measures(plan, rows, each.answers))
        for ref, each in zip(refs, done, strict=True)
    ]
    comparison = Comparison(plan, [entry.measures for entry in entries], refs, config)
    found |= {
        "dataset": {"name": dataset.name, "source": dataset.source, "sha256": dataset.sha256},
        "metric": plan.primary.name,
        "labels": list(plan.labels) if plan.labels is not None else None,
        "metrics": [metric.describe() for metric in plan.metrics],
        "models": [report.model(entry, plan, comparison.intervals(place)) for place, entry in enumerate(entries)],
        "comparisons": [comparison.against_first(place) for place in range(1, len(refs))],
    }
    return found, list(report.row_lines(rows, entries, plan))
