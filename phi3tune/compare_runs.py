"""Runs side by side: the settings in which they differ, what came of them, and their curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phi3tune import jobs
from phi3tune.errors import UserError
from phi3tune.events import Metrics, read_events
from phi3tune.paths import Workspace
from phi3tune.training.summary import kept_metrics

# Words about a run, which are no settings of its training.
_WORDS = {"name", "project", "tags", "note", "price_per_hour"}
RESULTS = ("steps", "train_loss", "eval_loss", "best_step", "best_value", "tokens", "train_seconds", "learning_rate")


def compare(names: Sequence[str], workspace: Workspace) -> dict[str, Any]:
    """Two runs or more, in any state, as one JSON-ready table. Raises `UserError` when one does not exist.

    settings  {setting: {run: value}}, only where two runs differ
    results   {run: {status, and the keys of `RESULTS`}}; None for what is not known (yet)
    curves    {metric: {run: [[step, value], ...]}}, every logged point
    """
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        raise UserError(f"{len(names)} run cannot be compared; name two or more different ones")
    folders = {name: workspace.run(name) for name in names}
    settings = {name: jobs.read_config(folder).model_dump(mode="json") for name, folder in folders.items()}
    fields = [field for field in settings[names[0]] if field not in _WORDS]
    by_field = {field: {name: settings[name].get(field) for name in names} for field in fields}
    metrics = {name: kept_metrics(read_events(folder / jobs.EVENTS)[0]) for name, folder in folders.items()}
    return {
        "runs": names,
        "settings": {
            field: values
            for field, values in by_field.items()
            if any(value != values[names[0]] for value in values.values())
        },
        "results": {name: result(jobs.view(folder), metrics[name]) for name, folder in folders.items()},
        "curves": _curves(metrics),
    }


def result(job: jobs.JobView, metrics: Sequence[Metrics]) -> dict[str, Any]:
    """What came of a run; of one that works still, or ended early, what its last metrics say."""
    last = {name: value for each in metrics for name, value in each.values.items()}
    known = {"steps": job.step, "eval_loss": last.get("eval_loss"), "train_loss": last.get("loss"), **job.result}
    return {"status": job.state, "title": job.title, **{name: known.get(name) for name in RESULTS}}


def _curves(metrics: dict[str, list[Metrics]]) -> dict[str, dict[str, list[list[float]]]]:
    found: dict[str, dict[str, list[list[float]]]] = {}
    for run, points in metrics.items():
        for point in points:
            for name, value in point.values.items():
                found.setdefault(name, {}).setdefault(run, []).append([point.step, value])
    return found
