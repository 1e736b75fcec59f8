"""Which conversations an evaluation may use: none that a model taking part was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from phi3tune import data
from phi3tune.config import EvalConfig, Part, read_yaml
from phi3tune.data import Conversation
from phi3tune.data.split import key
from phi3tune.engines.classifier import labels_of_ref
from phi3tune.engines.folders import read_json
from phi3tune.engines.models import ModelRef, resolve
from phi3tune.errors import UserError
from phi3tune.evaluation.labels import classes, label_set
from phi3tune.evaluation.metrics import Plan, plan
from phi3tune.paths import Workspace


@dataclass(frozen=True)
class HeldOut:
    """The rows of one part, and how many were left out because a model had been trained on their text.

    Dataset and plan are None, and there are no rows, where only safety or benchmarks were asked for.
    """

    dataset: data.Dataset | None
    rows: list[Conversation]
    left_out: int
    plan: Plan | None


def choose(config: EvalConfig, refs: Sequence[ModelRef], workspace: Workspace) -> HeldOut:
    """The rows to answer, in the order of the file, and what to measure on them.

    A run's own reading and division of the same data is taken over. Where several runs divided it differently, or a
    test file repeats training text, rows whose text any of them was trained on are left out.
    Raises `UserError` when no row remains, and when the metric that is asked for cannot be had.
    """
    if not config.dataset and (config.safety is not None or config.benchmarks):
        return HeldOut(None, [], 0, None)
    records = _records(refs, data.fingerprint(config.dataset, workspace), workspace)
    loads = [data.load(_as_read_by(config, record), workspace, saved=record) for record in records]
    dataset = loads[0] if loads else data.load(config, workspace)
    rows = dataset.parts[config.split]
    left_out = 0
    if config.split != "train":
        trained = {key(c.messages) for load in loads for c in load.parts["train"]}
        kept = [c for c in rows if key(c.messages) not in trained]
        rows, left_out = kept, len(rows) - len(kept)
    if not rows:
        why = f"; {left_out} rows were left out because a model was trained on their text" if left_out else ""
        parts = ", ".join(f"{part} {len(dataset.parts[part])}" for part in get_args(Part))
        raise UserError(f"the {config.split} part of {dataset.name!r} has no rows to evaluate ({parts}){why}")
    rows = rows[: config.limit]
    return HeldOut(dataset, rows, left_out, plan(config, rows, _labels(refs, dataset)))


def _labels(refs: Sequence[ModelRef], dataset: data.Dataset) -> tuple[str, ...] | None:
    """The dataset's labels; with a classifier among the models, its own too, as it can answer with them."""
    classifiers = [ref for ref in refs if ref.task == "classification"]
    if not classifiers:
        return label_set(dataset.conversations)
    known = {*classes(dataset.conversations), *(label for ref in classifiers for label in labels_of_ref(ref))}
    return tuple(sorted(known))


def _records(refs: Sequence[ModelRef], sha256: str, workspace: Workspace) -> list[dict[str, Any]]:
    """`dataset.json` of every run behind the models that was trained on this very data."""
    found = {}
    for ref in refs:
        for run in lineage(ref, workspace):
            path = workspace.runs / run / "dataset.json"
            if run not in found and path.is_file():
                found[run] = read_json(path)
    return [record for record in found.values() if record.get("own_sha256", record.get("sha256")) == sha256]


def _as_read_by(config: EvalConfig, record: dict[str, Any]) -> EvalConfig:
    """The config with the run's format and columns, and its validation and test files, where none are given."""
    read = record["config"]
    files = {name: getattr(config, name) or read.get(name) for name in ("validation_file", "test_file")}
    if config.format != "auto" or config.columns:
        return config.model_copy(update=files)
    return config.model_copy(update={"format": read["format"], "columns": read["columns"], **files})


def lineage(ref: ModelRef, workspace: Workspace) -> list[str]:
    """The run that made a model, then the run that one started from, and so on."""
    runs: list[str] = []
    run = ref.run
    while run is not None and run not in runs:
        runs.append(run)
        try:
            base = str(read_yaml(workspace.runs / run / "run.yaml").get("model", ""))
            run = resolve(base, workspace).run if base else None
        except UserError:  # what it started from is gone
            break
    return runs
