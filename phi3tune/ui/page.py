"""The page: header and tabs put together, and the tick that keeps every browser true to the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from phi3tune import jobs
from phi3tune.config import TrainConfig
from phi3tune.engines import models
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace
from phi3tune.ui import evaluate, header, live, playground, train
from phi3tune.ui.live import BUSY_TICK, IDLE_TICK, Cursor, Logs
from phi3tune.ui.wire import ACTION, POLL, Updates, base_of, dataset_choices, model_choices, toasts

TITLE = "phi3tune"
CACHE_SECONDS = (3600, 86400)


class Page:
    """The components of the page and its handlers. It keeps nothing of a job but what it read from its folder."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.logs = Logs()
        self.header = header.build()
        with gr.Tabs(selected="train", elem_id="tabs") as self.tabs:
            with gr.Tab("Train", id="train"):
                self.train = train.build()
            with gr.Tab("Evaluate", id="evaluate"):
                self.evaluate = evaluate.build()
            with gr.Tab("Playground", id="playground"):
                self.playground = playground.build()
        self.timer = gr.Timer(BUSY_TICK)
        self.cursor = gr.State(Cursor())

    # What is shown

    def tick(self, cursor: Cursor, run: object, smoothing: object, report: object) -> Updates:
        """Everything that changed since this browser was last told."""
        jobs.dispatch(self.workspace)
        active, runs = jobs.active(self.workspace), jobs.runs(self.workspace)
        shown = self._shown_run(cursor, run, runs)
        factor = float(smoothing) if isinstance(smoothing, int | float) else 0.0
        updates: Updates = {self.timer: gr.skip()}
        updates |= self.header.update(cursor, active)
        updates |= self.train.live.update(cursor, self.logs, runs, shown, factor, self.workspace)
        updates |= self.evaluate.update(cursor, report, self.workspace)
        inventory = tuple((job.id, job.state) for job in [*runs, *active])
        if cursor.fresh("inventory", inventory):
            updates |= self._choices()
        interval = BUSY_TICK if active else IDLE_TICK
        if cursor.fresh("interval", interval):
            updates[self.timer] = gr.Timer(interval)
        return updates

    def _shown_run(self, cursor: Cursor, chosen: object, runs: list[JobView]) -> str:
        """The run a browser looks at: what was chosen there, or a run that has started since, or the newest."""
        names = [job.id for job in runs]
        running = [job.id for job in runs if job.active]
        new = [name for name in running if name not in cursor.known_runs]
        cursor.known_runs = frozenset(names)
        busy = isinstance(chosen, str) and chosen in running
        if new and not busy:
            return new[-1]
        if isinstance(chosen, str) and chosen in names:
            return chosen
        return (running or names or [""])[-1]

    def _choices(self) -> Updates:
        """What there is to choose from in every picker; what is chosen stays."""
        every, whole = model_choices(self.workspace), model_choices(self.workspace, "torch")
        pickers = [self.header.model, self.evaluate.models, *self.playground.models.values()]
        return {**{picker: gr.update(choices=every) for picker in pickers}, self.train.model: gr.update(choices=whole)}

    def open(self, cursor: Cursor, request: gr.Request) -> Updates:
        """A page that was just loaded: its pickers' first choices, then the same as a tick."""
        datasets = dataset_choices(self.workspace)
        first = datasets[0][1] if datasets else None
        base = TrainConfig().model
        last = next((job.id for job in reversed(jobs.runs(self.workspace)) if job.state == "completed"), base)
        updates = self.tick(cursor, None, None, None)
        values: Updates = {
            self.header.model: last,
            self.train.model: base,
            self.train.data.dataset: first,
            self.evaluate.dataset: first,
            self.evaluate.models: list(dict.fromkeys([base, last])),
            self.playground.models["left"]: base,
            self.playground.models["right"]: last,
        }
        choices = {**self._choices(), **dict.fromkeys((self.train.data.dataset, self.evaluate.dataset), gr.update(choices=datasets))}
        return {**updates, **{part: {**choices[part], "value": value} for part, value in values.items()}}
