"""The Runs tab: every run, what waits, runs beside each other, sweeps, archives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from phi3tune import archive, compare_runs, jobs, sweeps
from phi3tune.config import HostedConfig
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace
from phi3tune.ui import charts, render_runs
from phi3tune.ui.live import Cursor
from phi3tune.ui.render import section
from phi3tune.ui.wire import ACTION, Updates, toasts
from phi3tune.ui.words import N, t

ALL_PROJECTS = N("all projects")
COMPARED = 6
OPEN_RUN = (
    "element.addEventListener('click', e => { const run = e.target.closest('[data-run]');"
    " if (run) trigger('click', {run: run.dataset.run}); })"
)
MOVE_JOB = (
    "element.addEventListener('click', e => { const act = e.target.closest('[data-act]');"
    " if (act) trigger('click', {act: act.dataset.act, job: act.dataset.job}); })"
)


@dataclass
class RunsTab:
    """`upload` is None, and the queue keeps its order, where the page serves visitors."""

    project: gr.Dropdown
    runs: gr.HTML
    queue: gr.HTML
    compared: gr.Dropdown
    compare: gr.Button
    metric: gr.Radio
    curves: gr.LinePlot
    differences: gr.HTML
    results: gr.HTML
    sweep: gr.Dropdown
    trials: gr.HTML
    upload: gr.UploadButton | None

    @property
    def parts(self) -> list[Any]:
        """Everything that `update` may change."""
        return [self.project, self.runs, self.queue, self.compared, self.sweep, self.trials]

    @property
    def looks(self) -> list[Any]:
        """What a browser has chosen here: the inputs of `update`."""
        return [self.project, self.sweep]

    def update(
        self, cursor: Cursor, runs: list[JobView], active: list[JobView], workspace: Workspace, *looks: Any
    ) -> Updates:
        """What has changed since this browser was last told."""
        project, chosen = looks
        names = tuple(job.id for job in reversed(runs))
        projects = (ALL_PROJECTS, *sorted({job.project for job in runs if job.project}))
        listed = [job for job in runs if project not in projects[1:] or job.project == project]
        table = render_runs.runs(listed)
        line = render_runs.queue(active, workspace, movable=self.upload is not None)
        new: dict[Any, tuple[object, Any]] = {
            self.project: (projects, gr.update(choices=[(t(ALL_PROJECTS), ALL_PROJECTS), *projects[1:]])),
            self.runs: (table, table),
            self.queue: (line, line),
            self.compared: (names, gr.update(choices=names)),
        }
        known = tuple(found.id for found in reversed(sweeps.every(workspace)))
        shown = chosen if chosen in known else (known[0] if known else None)
        new[self.sweep] = ((known, shown), gr.update(choices=known, value=shown, visible=bool(known)))
        trials = _trials(shown, workspace)
        new[self.trials] = (trials, trials)
        return {part: value for part, (seen, value) in new.items() if cursor.fresh(f"runs-{part._id}", seen)}


def _trials(name: str | None, workspace: Workspace) -> str:
    return render_runs.sweep(None if name is None else sweeps.table(sweeps.find(name, workspace), workspace))


def build(rules: HostedConfig | None) -> RunsTab:
    """`rules` are those of a hosted app, where nobody moves another one's place; None for the person at the machine."""
    upload = None
    with gr.Column(elem_classes="pt-card"):
        with gr.Row(elem_classes="pt-bar-row"):
            gr.HTML(section("", t("Runs"), t("newest first; press a name to open it")))
            project = gr.Dropdown(
                [(t(ALL_PROJECTS), ALL_PROJECTS)],
                value=ALL_PROJECTS,
                label=t("Project"),
                elem_id="runs-project",
                min_width=180,
                scale=0,
            )
            if rules is None:
                with gr.Row(elem_classes="pt-buttons"):
                    upload = gr.UploadButton(t("Import a run"), file_types=[".zip"], size="sm", elem_id="import-run")
        runs = gr.HTML(render_runs.runs([]), elem_id="runs", js_on_load=OPEN_RUN)
    with gr.Column(elem_classes="pt-card"):
        hint = t("one training run at a time; evaluations and builds have a line of their own")
        gr.HTML(section("", t("Queue"), hint))
        queue = gr.HTML(elem_id="queue", js_on_load=MOVE_JOB)
    with gr.Column(elem_classes="pt-card"):
        gr.HTML(section("", t("Compare runs"), t("their curves, the settings that differ, and what came of them")))
        with gr.Row(elem_classes="pt-bar-row"):
            compared = gr.Dropdown(
                [],
                value=[],
                multiselect=True,
                max_choices=COMPARED,
                label=t("Runs to compare"),
                info=t("Two to six."),
                elem_id="compared",
            )
            curves_of = [(t(name), name) for name in charts.COMPARED]
            metric = gr.Radio(curves_of, value=next(iter(charts.COMPARED)), label=t("Curve"), elem_id="compared-metric")
            compare = gr.Button(t("Compare"), variant="primary", elem_id="compare-runs", scale=0, min_width=120)
        curves = gr.LinePlot(
            x="step",
            y="value",
            color="series",
            x_title=t("step"),
            y_title=" ",
            color_title=" ",
            height=340,
            elem_id="compared-curves",
            show_label=False,
            buttons=[],
            visible=False,
        )
        with gr.Row():
            differences = gr.HTML(elem_id="compared-settings")
            results = gr.HTML(elem_id="compared-results")
    with gr.Column(elem_classes="pt-card"):
        gr.HTML(section("", t("Sweeps"), t("several runs that try settings, started in the Train tab; the best first")))
        sweep = gr.Dropdown([], value=None, label=t("Sweep"), elem_id="sweep", visible=False)
        trials = gr.HTML(render_runs.sweep(None), elem_id="trials", js_on_load=OPEN_RUN)
    return RunsTab(project, runs, queue, compared, compare, metric, curves, differences, results, sweep, trials, upload)


def connect(
    tab: RunsTab, opened: Callable[[str], Any], shown: list[Any], refresh: Callable[[Any], None], workspace: Workspace
) -> None:
    """`opened(run)` gives what `shown` is set to, so that a run is looked at in its own tab."""

    def open_run(event: gr.EventData) -> Any:
        return opened(workspace.run(str(getattr(event, "run", ""))).name)

    def move(event: gr.EventData) -> None:
        folder = jobs.find(str(getattr(event, "job", "")), workspace)
        act = getattr(event, "act", None)
        if act == "cancel":
            jobs.cancel(folder, workspace)
        elif tab.upload is None:
            return
        elif act == "first":
            jobs.reorder(folder, workspace, 1)
        elif act == "up":
            position = next((job.queue_position for job in jobs.active(workspace) if job.folder == folder), None)
            jobs.reorder(folder, workspace, max(1, (position or 1) - 1))

    def compare(names: list[str], metric: str) -> Updates:
        found = compare_runs.compare(names, workspace)
        curves = charts.overlay(found["curves"].get(charts.COMPARED.get(metric, metric), {}))
        return {
            tab.differences: render_runs.settings(found["settings"], found["runs"]),
            tab.results: render_runs.results(found["results"]),
            tab.curves: gr.update(value=curves, title=t(metric), visible=not curves.empty),
        }

    def redraw(names: list[str]) -> Updates:
        return {tab.curves: gr.update(color_title=charts.legend(map(str, names)))}

    def take(path: str) -> None:
        name = archive.import_run(Path(path), workspace)
        gr.Info(t("The run was imported as {name}; press its name to open it.", name=name))

    for table in (tab.runs, tab.trials):
        refresh(table.click(toasts(open_run), None, shown, **ACTION).then)
    refresh(tab.queue.click(toasts(move), None, None, **ACTION).then)
    outputs = [tab.differences, tab.results, tab.curves]
    asked = [tab.compared, tab.metric]
    compared = gr.on([tab.compare.click, tab.metric.input], toasts(compare), asked, outputs, **ACTION)
    compared.success(redraw, tab.compared, [tab.curves], **ACTION)
    if tab.upload is not None:
        refresh(tab.upload.upload(toasts(take), tab.upload, None, **ACTION).then)
    for chosen in (tab.project, tab.sweep):
        refresh(chosen.input)
