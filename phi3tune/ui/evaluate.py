"""The Evaluate tab: several models on the same held-out rows, as a verdict, a table and every answer."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from phi3tune import jobs
from phi3tune.config import DatasetConfig, EvalConfig, HostedConfig
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace
from phi3tune.ui import forms, live, render_extras, render_report, render_rows
from phi3tune.ui.live import Cursor
from phi3tune.ui.render import section
from phi3tune.ui.render_report import Report
from phi3tune.ui.wire import ACTION, Updates, known_dataset, place_of, stored_file, toasts
from phi3tune.ui.words import N, t

if TYPE_CHECKING:
    from phi3tune.chat import Message

# The page opens no path that a client names: files are chosen from those that were uploaded.
PATHS = ("json_schema", "benchmark_tasks", "key_variable", "safety")
# What reaches other hosts, from where visitors must not send it.
ELSEWHERE = ("judge", "judge_rows", "benchmarks", "benchmark_limit")
SIMPLE = forms.fields(EvalConfig, "simple", without=("dataset", "models"))
ADVANCED = forms.fields(EvalConfig, "advanced", without=[*DatasetConfig.model_fields, *PATHS])
FILES = {
    "report.html": N("Report (HTML)"),
    "report.json": N("Figures (JSON)"),
    "report.md": N("Markdown for the model card"),
}
NO_SAFETY = "none"
OPEN_ROW = (
    "element.addEventListener('click', e => { const row = e.target.closest('[data-place]');"
    " if (row) trigger('click', {place: Number(row.dataset.place)}); })"
)


@dataclass
class EvaluateTab:
    models: gr.Dropdown
    dataset: gr.Dropdown
    fields: dict[str, forms.Widget]
    safety: gr.Dropdown
    run: gr.Button
    stop: gr.Button
    resume: gr.Button
    report: gr.Dropdown
    status: gr.HTML
    verdict: gr.HTML
    table: gr.HTML
    charts: gr.HTML
    more: gr.HTML
    export: gr.Button
    files: dict[str, gr.DownloadButton]
    keep: gr.Radio
    order: gr.Radio
    rows: gr.HTML
    detail: gr.HTML
    opened: gr.State
    play: gr.Button

    @property
    def parts(self) -> list[Component]:
        """Everything that `update` may change."""
        shown = [self.status, self.verdict, self.table, self.charts, self.more, self.export, *self.files.values()]
        return [self.report, self.stop, self.resume, *shown, self.keep, self.order, self.rows, self.detail, self.play]

    @property
    def looks(self) -> list[gr.Dropdown | gr.Radio]:
        """What a person has chosen to see."""
        return [self.report, self.keep, self.order]

    def update(self, cursor: Cursor, workspace: Workspace, chosen: object, keep: object, order: object) -> Updates:
        """What this browser must be sent so that it shows the chosen evaluation as it is now."""
        found = live.evaluations(workspace)
        keys = [live.key(job, workspace) for job in found]
        begun = [key for key, job in zip(keys, found, strict=True) if job.active and key not in cursor.known_reports]
        cursor.known_reports = frozenset(keys)
        shown = next(iter(begun), chosen if chosen in keys else next(iter(keys), None))
        choices = [(render_report.name(job), key) for job, key in zip(found, keys, strict=True)]
        job = found[keys.index(shown)] if shown is not None else None
        active, again = job is not None and job.active, job is not None and job.state in ("stopped", "failed")
        status = render_report.status(job)
        new: dict[Any, tuple[object, Any]] = {
            self.report: ((choices, shown), gr.update(choices=choices, value=shown)),
            self.stop: (active, gr.update(visible=active)),
            self.resume: (again, gr.update(visible=again)),
            self.status: (status, status),
        }
        updates = {part: value for part, (seen, value) in new.items() if cursor.fresh(part.elem_id, seen)}
        state = job.state if job is not None else ""
        filter_name = keep if keep in render_rows.FILTERS else render_rows.ALL
        sorting = order if order in render_rows.ORDERS else render_rows.WORST
        other = cursor.fresh("report", (shown, state))
        if cursor.fresh("report rows", (shown, state, filter_name, sorting)):
            report = render_report.read(job) if job is not None else None
            updates[self.rows] = render_rows.rows(report, str(filter_name), str(sorting))
            if other:
                updates |= self._report(job, report, workspace)
        return updates

    def _report(self, job: JobView | None, report: Report | None, workspace: Workspace) -> Updates:
        """Everything of a report but its table of rows."""
        counts = render_rows.counts(report) if report is not None else {}
        choices = [
            (t("{name} ({count})", name=t(render_rows.NAMES[name]), count=f"{count:,}"), name)
            for name, count in counts.items()
        ]
        better = better_model(report, workspace) if report is not None else None
        updates: Updates = {
            self.verdict: render_report.verdict(report),
            self.table: render_report.metrics(report),
            self.charts: render_report.charts(report),
            self.more: render_report.labels(report) + render_extras.sections(report),
            self.export: gr.Button(t("Export {model}", model=better), visible=True)
            if better
            else gr.Button(visible=False),
            self.keep: gr.Radio(choices, visible=True) if counts else gr.Radio(visible=False),
            self.order: gr.Radio(visible=bool(counts)),
            self.detail: "",
            self.play: gr.Button(visible=False),
        }
        for name, button in self.files.items():
            path = job.folder / name if job is not None and report is not None else None
            there = path is not None and path.is_file()
            updates[button] = gr.DownloadButton(value=_copy(path) if path and there else None, visible=there)
        return updates


def _copy(path: Path) -> str:
    """A copy outside the workspace: the page serves no file of it."""
    folder = Path(tempfile.mkdtemp(prefix="phi3tune-report-"))
    return str(shutil.copy(path, folder / f"{path.parent.name}-{path.name}"))


def build(rules: HostedConfig | None) -> EvaluateTab:
    """`rules` are those of a hosted app, where nothing may reach another host; None for the person at the machine."""
    advanced = [name for name in ADVANCED if rules is None or name not in ELSEWHERE]
    with gr.Row(equal_height=False):
        with gr.Column(elem_classes="pt-card", scale=2, min_width=320):
            gr.HTML(section("", t("Compare models"), t("on rows that no training run has seen")))
            chosen = gr.Dropdown(
                [],
                value=[],
                multiselect=True,
                label=t("Models"),
                info=t("The first is what the others are measured against: put the base model there."),
                elem_id="eval-models",
                allow_custom_value=rules is None,
            )
            dataset = gr.Dropdown(
                [],
                value=None,
                label=t("Dataset"),
                info=t("A run's own division of this dataset is used again, so that what it learned from is left out."),
                elem_id="eval-dataset",
                allow_custom_value=True,
            )
            fields = {name: forms.widget(EvalConfig, name, elem_id=f"eval-{name}") for name in SIMPLE}
            title = t("Verdict, judge, safety and benchmarks") if rules is None else t("Verdict and safety")
            with gr.Accordion(title, open=False, elem_id="eval-advanced"), gr.Row():
                fields |= {name: forms.widget(EvalConfig, name, elem_id=f"eval-{name}") for name in advanced}
                safety = gr.Dropdown(
                    [(t("none"), NO_SAFETY)],
                    value=NO_SAFETY,
                    label=t("Safety prompts"),
                    info=t("An uploaded CSV with the columns prompt and label (safe or unsafe), such as XSTest."),
                    elem_id="eval-safety",
                )
            with gr.Row(elem_classes="pt-buttons"):
                run = gr.Button(t("Evaluate"), variant="primary", elem_id="eval-run", elem_classes="pt-main")
                stop = gr.Button(t("Stop"), variant="stop", elem_id="eval-stop", visible=False)
                resume = gr.Button(t("Continue"), elem_id="eval-resume", visible=False)
        with gr.Column(elem_classes="pt-card", scale=3, min_width=340):
            report = gr.Dropdown(
                [],
                value=None,
                label=t("Report"),
                elem_id="eval-report",
                allow_custom_value=True,
                info=t("Newest first."),
            )
            status = gr.HTML(elem_id="eval-status")
            verdict = gr.HTML(render_report.verdict(None), elem_id="eval-verdict")
            with gr.Row(elem_classes="pt-buttons"):
                export = gr.Button(t("Export"), variant="primary", size="sm", elem_id="eval-export", visible=False)
                files = {
                    name: gr.DownloadButton(
                        t(title), visible=False, size="sm", elem_id=f"eval-file-{name.rpartition('.')[2]}"
                    )
                    for name, title in FILES.items()
                }
            table = gr.HTML(elem_id="eval-table")
            charts = gr.HTML(elem_id="eval-charts")
            more = gr.HTML(elem_id="eval-more")
    with gr.Column(elem_classes="pt-card"):
        with gr.Row():
            names = [(t(title), name) for name, title in render_rows.NAMES.items()]
            keep = gr.Radio(names, value=render_rows.ALL, label=t("Rows"), elem_id="eval-filter", visible=False)
            orders = [(t(order), order) for order in render_rows.ORDERS]
            order = gr.Radio(orders, value=render_rows.WORST, label=t("Order"), elem_id="eval-order", visible=False)
        rows = gr.HTML(render_rows.rows(None, render_rows.ALL), elem_id="eval-rows", js_on_load=OPEN_ROW)
        detail = gr.HTML(elem_id="eval-detail")
        play = gr.Button(t("Open this row in the playground"), elem_id="eval-play", size="sm", visible=False)
    return EvaluateTab(
        chosen, dataset, fields, safety, run, stop, resume, report, status, verdict, table, charts, more, export, files,
        keep, order, rows, detail, gr.State(None), play,
    )  # fmt: skip


def open_row(report: str, place: int, workspace: Workspace) -> str:
    """One row of a finished evaluation in full, its reference coloured by each model's losses."""
    from phi3tune import evaluation

    job = jobs.view(jobs.find(report, workspace))
    found = render_report.read(job)
    if found is None or not 0 <= place < len(found.rows):
        return ""
    losses = [evaluation.token_losses(job.folder, index, place) for index in range(len(found.models))]
    return render_rows.detail(found, place, losses)


def prompt_of(report: str, place: int, workspace: Workspace) -> tuple[list[str], list[Message]]:
    """The models of an evaluation and the chat of one of its rows, without the reference."""
    found = render_report.read(jobs.view(jobs.find(report, workspace)))
    if found is None or not 0 <= place < len(found.rows):
        return [], []
    return [entry["model"] for entry in found.report["models"]], found.rows[place]["prompt"]


def better_model(found: Report, workspace: Workspace) -> str | None:
    """The model of a comparison to go on with: the one that was better than the first by most, and else the last.

    None where that is no model that a build can be made from, such as a build or a model that is gone.
    """
    won = [entry for entry in found.report["comparisons"] if entry["verdict"] == "better"]
    won.sort(key=lambda entry: abs(entry["differences"][entry["metric"]]["difference"]))
    names = [entry["model"] for entry in found.report["models"]]
    name = won[-1]["model"] if won else names[-1]
    try:
        ref = models.resolve(name, workspace, download=False)
    except UserError:
        return None
    return ref.ref if ref.kind == "torch" else None


def to_export(report: str, workspace: Workspace) -> str:
    """The model that a finished comparison hands over to be built. Raises `UserError` when there is none."""
    found = render_report.read(jobs.view(jobs.find(report, workspace)))
    model = better_model(found, workspace) if found is not None else None
    if model is None:
        raise UserError(t("No model of this report can be built from; choose one in the Deploy tab."))
    return model


def connect(tab: EvaluateTab, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    names = list(tab.fields)

    def start(chosen: object, dataset: object, safety: object, *values: Any) -> str:
        given = [str(name) for name in chosen] if isinstance(chosen, list) else []
        refs = [models.resolve(name, workspace).ref for name in given]
        prompts = None if safety in (None, "", NO_SAFETY) else stored_file(safety, workspace)
        config = forms.read(
            EvalConfig, names, values, models=refs, dataset=known_dataset(dataset, workspace), safety=prompts
        )
        folder = jobs.submit("evaluate", config, workspace)
        gr.Info(t("The evaluation has started: its progress is shown beside the form."))
        return live.key(jobs.view(folder), workspace)

    def stop(report: str) -> None:
        jobs.stop(jobs.find(str(report), workspace), workspace)
        gr.Info(
            t("The evaluation stops after the rows it is at. Press Continue to go on: the answers so far are kept.")
        )

    def resume(report: str) -> None:
        jobs.resume(jobs.find(str(report), workspace), workspace)
        gr.Info(t("The evaluation goes on after the rows that were answered."))

    def show_row(report: str, event: gr.EventData) -> Updates:
        place = place_of(event)
        text = open_row(str(report), place, workspace)
        return {tab.detail: text, tab.opened: place, tab.play: gr.Button(visible=bool(text))}

    inputs = [tab.models, tab.dataset, tab.safety, *tab.fields.values()]
    refresh(tab.run.click(toasts(start), inputs, tab.report, **ACTION).then)
    refresh(tab.stop.click(toasts(stop), tab.report, None, **ACTION).then)
    refresh(tab.resume.click(toasts(resume), tab.report, None, **ACTION).then)
    tab.rows.click(toasts(show_row), tab.report, [tab.detail, tab.opened, tab.play], **ACTION)
    for choice in tab.looks:
        refresh(choice.input)
