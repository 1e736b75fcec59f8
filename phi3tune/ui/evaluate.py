"""The Evaluate tab: several models on the same held-out rows, as a verdict, a table and every answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from phi3tune import jobs
from phi3tune.config import EvalConfig
from phi3tune.engines import models
from phi3tune.paths import Workspace
from phi3tune.ui import forms, live, render_report
from phi3tune.ui.live import Cursor
from phi3tune.ui.render import section
from phi3tune.ui.wire import ACTION, Updates, known_dataset, toasts

FIELDS = forms.fields(EvalConfig, "simple", without=("dataset", "models"))


@dataclass
class EvaluateTab:
    models: gr.Dropdown
    dataset: gr.Dropdown
    fields: dict[str, forms.Widget]
    run: gr.Button
    stop: gr.Button
    report: gr.Dropdown
    status: gr.HTML
    verdict: gr.HTML
    table: gr.HTML
    keep: gr.Radio
    rows: gr.HTML

    @property
    def parts(self) -> list[Component]:
        """Everything that `update` may change."""
        return [self.report, self.stop, self.status, self.verdict, self.table, self.keep, self.rows]

    def update(self, cursor: Cursor, chosen: object, keep: object, workspace: Workspace) -> Updates:
        """What this browser must be sent so that it shows the chosen evaluation as it is now."""
        found = live.evaluations(workspace)
        keys = [live.key(job, workspace) for job in found]
        begun = [key for key, job in zip(keys, found, strict=True) if job.active and key not in cursor.known_reports]
        cursor.known_reports = frozenset(keys)
        shown = next(iter(begun), chosen if chosen in keys else next(iter(keys), None))
        choices = [(render_report.name(job), key) for job, key in zip(found, keys, strict=True)]
        new: dict[Any, tuple[object, Any]] = {
            self.report: ((choices, shown), gr.Dropdown(choices, value=shown)),
        }
        job = found[keys.index(shown)] if shown is not None else None
        new[self.stop] = ((job is not None and job.active), gr.Button(visible=job is not None and job.active))
        status = render_report.status(job)
        new[self.status] = (status, status)
        filter_name = keep if keep in render_report.FILTERS else render_report.ALL
        state = (shown, job.state if job is not None else "", filter_name)
        updates = {part: value for part, (seen, value) in new.items() if cursor.fresh(part.elem_id, seen)}
        if cursor.fresh("report", state):
            report = render_report.read(job) if job is not None else None
            updates[self.verdict] = render_report.verdict(report)
            updates[self.table] = render_report.metrics(report)
            updates[self.rows] = render_report.rows(report, filter_name)
            updates[self.keep] = gr.Radio(visible=report is not None)
        return updates


def build() -> EvaluateTab:
    with gr.Row(equal_height=False):
        with gr.Column(elem_classes="pt-card", scale=2, min_width=320):
            gr.HTML(section("", "Compare models", "on rows that no training run has seen"))
            chosen = gr.Dropdown(
                [],
                value=[],
                multiselect=True,
                label="Models",
                info=f"{forms.sentence(EvalConfig, 'models')} The first is what the others are measured against.",
                elem_id="eval-models",
                allow_custom_value=True,
            )
            dataset = gr.Dropdown(
                [],
                value=None,
                label="Dataset",
                info="A run's own division of this dataset is used again, so that what it learned from is left out.",
                elem_id="eval-dataset",
                allow_custom_value=True,
            )
            fields = {name: forms.widget(EvalConfig, name, elem_id=f"eval-{name}") for name in FIELDS}
            with gr.Row(elem_classes="pt-buttons"):
                run = gr.Button("Evaluate", variant="primary", elem_id="eval-run")
                stop = gr.Button("Stop", variant="stop", elem_id="eval-stop", visible=False)
        with gr.Column(elem_classes="pt-card", scale=3, min_width=340):
            report = gr.Dropdown(
                [], value=None, label="Report", elem_id="eval-report", allow_custom_value=True, info="Newest first."
            )
            status = gr.HTML(elem_id="eval-status")
            verdict = gr.HTML(render_report.verdict(None), elem_id="eval-verdict")
            table = gr.HTML(elem_id="eval-table")
    with gr.Column(elem_classes="pt-card"):
        keep = gr.Radio(
            list(render_report.FILTERS),
            value=render_report.ALL,
            label="Rows",
            elem_id="eval-filter",
            visible=False,
        )
        rows = gr.HTML(render_report.rows(None, render_report.ALL), elem_id="eval-rows")
    return EvaluateTab(chosen, dataset, fields, run, stop, report, status, verdict, table, keep, rows)


def connect(tab: EvaluateTab, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    def start(chosen: object, dataset: object, *values: Any) -> str:
        names = [str(name) for name in chosen] if isinstance(chosen, list) else []
        refs = [models.resolve(name, workspace).ref for name in names]
        config = forms.read(EvalConfig, FIELDS, values, models=refs, dataset=known_dataset(dataset, workspace))
        folder = jobs.submit("evaluate", config, workspace)
        gr.Info("The evaluation has been started.")
        return live.key(jobs.view(folder), workspace)

    def stop(report: str) -> None:
        jobs.stop(jobs.find(str(report), workspace), workspace)
        gr.Info("The evaluation stops after the row it is at.")

    inputs = [tab.models, tab.dataset, *tab.fields.values()]
    refresh(tab.run.click(toasts(start), inputs, tab.report, **ACTION).then)
    refresh(tab.stop.click(toasts(stop), tab.report, None, **ACTION).then)
    refresh(tab.report.input)
    refresh(tab.keep.input)
