"""The Runs tab as HTML: the table of runs, the queue, runs beside each other, sweeps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from phi3tune import jobs
from phi3tune.config import TrainConfig
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace
from phi3tune.ui import live, render_jobs
from phi3tune.ui.render import NONE, Column, counted, duration, empty, esc, number, share, table
from phi3tune.ui.words import N, t

STATES = render_jobs.STATES
SHARES = ("accuracy", "macro_f1", "match")
# What came of a run, by its name in `compare_runs`.
FIGURES = {
    "status": N("Status"),
    "title": N("Title"),
    "steps": N("Steps"),
    "train_loss": N("Training loss"),
    "eval_loss": N("Validation loss"),
    "eval_token_accuracy": N("Validation token accuracy"),
    "eval_accuracy": N("Validation accuracy"),
    "eval_macro_f1": N("Macro F1"),
    "best_step": N("Best step"),
    "best_value": N("Best validation value"),
    "tokens": N("Tokens trained on"),
    "train_seconds": N("Time"),
    "learning_rate": N("Learning rate"),
}


def runs(found: Sequence[JobView]) -> str:
    """All training runs, newest first; a click on a name opens that run."""
    if not found:
        return empty(t("No runs yet. Choose a dataset in the Data tab, then press Start training."), picture="table")
    listed = sorted(found, key=lambda job: (-job.created, job.id))
    # What nobody has filled in takes no column.
    projects, tags = any(job.project for job in found), any(job.tags for job in found)
    columns = [
        Column(t("Run"), html=True),
        Column(t("Status")),
        Column(t("Base")),
        Column(t("Data")),
        *([Column(t("Project"))] if projects else []),
        *([Column(t("Tags"))] if tags else []),
        Column(t("Steps"), numeric=True),
        Column(t("Training loss"), numeric=True),
        Column(t("Validation loss"), numeric=True),
        Column(t("Time"), numeric=True),
        Column(t("Started")),
    ]
    rows = [
        [
            _name(job),
            render_jobs.doing(job),
            *_origin(job.folder, job.created),
            *([job.project or ""] if projects else []),
            *([", ".join(job.tags)] if tags else []),
            _steps(job.step, job.steps),
            number(job.result.get("train_loss")),
            number(job.result.get("eval_loss")),
            duration((job.ended or time.time()) - job.started) if job.started else NONE,
            time.strftime(t("%d %b %H:%M"), time.localtime(job.started or job.created)),
        ]
        for job in listed
    ]
    return table(columns, rows)


def _steps(done: int, steps: int) -> str:
    return t("{n} of {total}", n=f"{done:,}", total=f"{steps:,}") if steps else NONE


@lru_cache(maxsize=1024)
def _origin(run: Path, created: float) -> tuple[str, str]:
    """What a run was tuned from, and on what. Another run of the same name was created at another time."""
    config = jobs.read_config(run)
    return (config.model, Path(config.dataset).name) if isinstance(config, TrainConfig) else ("", "")


def _name(job: JobView) -> str:
    """The run's id as a button that opens it, below the title that it was given."""
    title = f'<span class="pt-sub"> {esc(job.title)}</span>' if job.title and job.title != job.id else ""
    return f'<button type="button" class="pt-link" data-run="{esc(job.id)}">{esc(job.id)}</button>{title}'


def queue(active: Sequence[JobView], workspace: Workspace, *, movable: bool = True) -> str:
    """What runs and what waits, each waiting job with buttons that cancel it and, if `movable`, change its place."""
    if not active:
        return empty(t("Nothing runs and nothing waits. What you start stands here until its turn comes."))
    rows = []
    for job in active:
        waits = job.state == "queued" and job.queue_position is not None
        name = render_jobs.title(job)
        buttons = [("cancel", t("Cancel"), t("Cancel {name}", name=name))] if waits else []
        if movable and waits and (job.queue_position or 0) > 1:
            earlier = ("up", t("Earlier"), t("Earlier: move {name} one place forward", name=name))
            buttons = [earlier, ("first", t("First"), t("First: move {name} to the front", name=name)), *buttons]
        # Named, not counted: the queue may have moved since this was drawn.
        acts = " ".join(
            f'<button type="button" class="pt-open" data-act="{act}" data-job="{esc(live.key(job, workspace))}" '
            f'aria-label="{esc(label)}">{esc(text)}</button>'
            for act, text, label in buttons
        )
        rows.append([name, render_jobs.doing(job), render_jobs.left(job), acts])
    return table([Column(t("Job")), Column(t("State")), Column(t("When")), Column(t("Place"), html=True)], rows)


def settings(differences: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """Settings that are not the same in all runs: setting -> run -> value."""
    if not differences:
        return empty(t("These runs have the same settings."))
    columns = [Column(t("Setting")), *(Column(name) for name in names)]
    return table(
        columns, [[field, *(_value(by_run.get(name)) for name in names)] for field, by_run in differences.items()]
    )


def results(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What came of runs, beside each other: run -> figure -> value."""
    figures = list(next(iter(found.values()), {}))
    rows = [
        [_title(figure), *(_figure(figure, by_name.get(figure)) for by_name in found.values())] for figure in figures
    ]
    return table([Column(t("Result")), *(Column(name, numeric=True) for name in found)], rows)


def _title(figure: str) -> str:
    return t(FIGURES[figure]) if figure in FIGURES else figure.replace("_", " ").capitalize()


def _figure(figure: str, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if figure.endswith("seconds"):
            return duration(value)
        return share(value) if figure.endswith(SHARES) else number(value)
    return t(STATES[value]) if figure == "status" and value in STATES else _value(value)


def _value(value: Any) -> str:
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return t("yes") if value else t("no")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def sweep(found: Mapping[str, Any] | None) -> str:
    """A sweep's trials, best first; a click on a name opens that run."""
    if found is None:
        return empty(
            t("No sweep yet. In the Train tab, open Try several settings and name what to vary."), picture="table"
        )
    fields = list(dict.fromkeys(name for row in found["rows"] for name in row["settings"]))
    columns = [Column(t("Rank"), numeric=True), Column(t("Run"), html=True), *(Column(name) for name in fields)]
    columns += [Column(_title(found["metric"]), numeric=True), Column(t("Status")), Column(t("Steps"), numeric=True)]
    rows = [
        [
            str(row["rank"] or NONE),
            f'<button type="button" class="pt-link" data-run="{esc(row["run"])}">{esc(row["run"])}</button>',
            *(_value(row["settings"].get(name)) for name in fields),
            _figure(found["metric"], row["value"]),
            t(STATES.get(row["status"], row["status"])),
            _steps(row["step"], row["steps"]),
        ]
        for row in found["rows"]
    ]
    count = t("{n} of {trials} finished", n=found["completed"], trials=counted(found["trials"], "trial"))
    return table(columns, rows, caption=count)
