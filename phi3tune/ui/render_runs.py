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
from phi3tune.ui.render import Column, counted, duration, empty, esc, number, share, table

STATES = render_jobs.STATES
SHARES = ("accuracy", "macro_f1", "match")


def runs(found: Sequence[JobView]) -> str:
    """All training runs, newest first; a click on a name opens that run."""
    if not found:
        return empty("No runs yet. Choose a dataset in the Train tab and press Start training.")
    columns = [
        Column("Run", html=True),
        Column("Status"),
        Column("Base"),
        Column("Data"),
        Column("Project"),
        Column("Tags"),
        Column("Steps", numeric=True),
        Column("Training loss", numeric=True),
        Column("Validation loss", numeric=True),
        Column("Time", numeric=True),
        Column("Started"),
    ]
    rows = [
        [
            _name(job),
            render_jobs.doing(job),
            *_origin(job.folder, job.created),
            job.project or "",
            ", ".join(job.tags),
            f"{job.step:,} of {job.steps:,}" if job.steps else "–",
            number(job.result.get("train_loss")),
            number(job.result.get("eval_loss")),
            duration((job.ended or time.time()) - job.started) if job.started else "–",
            time.strftime("%d %b %H:%M", time.localtime(job.started or job.created)),
        ]
        for job in sorted(found, key=lambda job: (-job.created, job.id))
    ]
    return table(columns, rows)


@lru_cache(maxsize=1024)
def _origin(run: Path, created: float) -> tuple[str, str]:
    """What a run was tuned from, and on what. Another run of the same name was created at another time."""
    config = jobs.read_config(run)
    return (config.model, Path(config.dataset).name) if isinstance(config, TrainConfig) else ("", "")


def _name(job: JobView) -> str:
    """The run's id as a button that opens it, below the title that it was given."""
    title = f'<span class="pt-sub"> {esc(job.title)}</span>' if job.title and job.title != job.id else ""
    return f'<button type="button" class="pt-link" data-run="{esc(job.id)}">{esc(job.id)}</button>{title}'


def queue(active: Sequence[JobView], workspace: Workspace) -> str:
    """What runs and what waits, each waiting job with buttons for its place."""
    if not active:
        return empty("Nothing runs and nothing waits.")
    rows = []
    for job in active:
        waits = job.state == "queued" and job.queue_position is not None
        buttons = [("cancel", "Cancel")] if waits else []
        if waits and (job.queue_position or 0) > 1:
            buttons = [("up", "Earlier"), ("first", "First"), *buttons]
        # Named, not counted: the queue may have moved since this was drawn.
        acts = " ".join(
            f'<button type="button" class="pt-open" data-act="{act}" data-job="{esc(live.key(job, workspace))}">'
            f"{text}</button>"
            for act, text in buttons
        )
        rows.append([render_jobs.title(job), render_jobs.doing(job), render_jobs.left(job), acts])
    return table([Column("Job"), Column("State"), Column("When"), Column("Place", html=True)], rows)


def settings(differences: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """Settings that are not the same in all runs: setting -> run -> value."""
    if not differences:
        return empty("These runs have the same settings.")
    columns = [Column("Setting"), *(Column(name) for name in names)]
    return table(
        columns, [[field, *(_value(by_run.get(name)) for name in names)] for field, by_run in differences.items()]
    )


def results(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What came of runs, beside each other: run -> figure -> value."""
    figures = list(next(iter(found.values()), {}))
    rows = [
        [_title(figure), *(_figure(figure, by_name.get(figure)) for by_name in found.values())] for figure in figures
    ]
    return table([Column("Result"), *(Column(name, numeric=True) for name in found)], rows)


def _title(figure: str) -> str:
    return figure.replace("_", " ").capitalize()


def _figure(figure: str, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if figure.endswith("seconds"):
            return duration(value)
        return share(value) if figure.endswith(SHARES) else number(value)
    return _value(value)


def _value(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def sweep(found: Mapping[str, Any] | None) -> str:
    """A sweep's trials, best first; a click on a name opens that run."""
    if found is None:
        return empty("No sweep yet. In the Train tab, open Try several settings and name what to vary.")
    fields = list(dict.fromkeys(name for row in found["rows"] for name in row["settings"]))
    columns = [Column("Rank", numeric=True), Column("Run", html=True), *(Column(name) for name in fields)]
    columns += [Column(_title(found["metric"]), numeric=True), Column("Status"), Column("Steps", numeric=True)]
    rows = [
        [
            str(row["rank"] or "–"),
            f'<button type="button" class="pt-link" data-run="{esc(row["run"])}">{esc(row["run"])}</button>',
            *(_value(row["settings"].get(name)) for name in fields),
            _figure(found["metric"], row["value"]),
            STATES.get(row["status"], row["status"]),
            f"{row['step']:,} of {row['steps']:,}" if row["steps"] else "–",
        ]
        for row in found["rows"]
    ]
    return table(columns, rows, caption=f"{found['completed']} of {counted(found['trials'], 'trial')} finished")
