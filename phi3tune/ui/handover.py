"""From one tab to the next: a finished step hands its model over, with the pickers set and the tab opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from phi3tune import iterate, jobs
from phi3tune.config import TrainConfig
from phi3tune.engines import models
from phi3tune.jobs import JobView
from phi3tune.ui import build_card, evaluate, live, path_card, render_jobs
from phi3tune.ui.dialogue import SIDES
from phi3tune.ui.wire import ACTION, Updates, base_of, dataset_choices, toasts
from phi3tune.ui.words import t

if TYPE_CHECKING:
    from phi3tune.ui.page import Page

Refresh = Callable[[Callable[..., Any]], None]


def in_hand(page: Page, ref: str) -> Updates:
    """Every picker set to one model, next to the base it is compared with."""
    model = models.resolve(ref, page.workspace)
    base = base_of(model, page.workspace)
    left, right, _ = SIDES
    return {
        page.header.model: gr.update(value=ref),
        page.train.settings.model: gr.update(value=base),
        page.evaluate.models: gr.update(value=list(dict.fromkeys([base, ref]))),
        **page.deploy.in_hand(model),
        page.playground.models[left]: gr.update(value=base),
        page.playground.models[right]: gr.update(value=ref),
    }


def compare(page: Page, run: str) -> Updates:
    """The run beside its base, on the data that it was trained on."""
    config = jobs.read_config(page.workspace.run(run))
    dataset = config.dataset if isinstance(config, TrainConfig) else None
    return {**in_hand(page, run), page.evaluate.dataset: dataset, page.tabs: gr.Tabs(selected="evaluate")}


def step(page: Page, name: str) -> Updates:
    """Where a step of the path is done, with the newest finished run in hand."""
    run = path_card.progress(jobs.runs(page.workspace), page.workspace).run
    if name == "compare" and run:
        return compare(page, run)
    places = {"data": "data", "train": "train", "compare": "evaluate", "export": "deploy", "talk": "playground"}
    if name not in places:
        return {page.tabs: gr.skip()}
    held = in_hand(page, run) if run and name in ("export", "talk") else {}
    return {**held, page.tabs: gr.Tabs(selected=places[name])}


def job_place(page: Page, job: JobView | None) -> Updates:
    """The tab, and the choice in it, where a job is shown."""
    if job is None:
        return {page.tabs: gr.skip()}
    if job.kind == "evaluate":
        report = live.key(job, page.workspace)
        return {page.tabs: gr.Tabs(selected="evaluate"), page.evaluate.report: report}
    if job.kind == "prompts":
        return {page.tabs: gr.Tabs(selected="playground")}
    if job.kind == "export":
        return {page.tabs: gr.Tabs(selected="deploy")}
    if job.kind == "download":
        return {page.tabs: gr.Tabs(selected="train")}
    return {page.tabs: gr.Tabs(selected="train"), page.train.live.run: job.id}


def connect(page: Page, refresh: Refresh) -> None:
    """Attach what leads from one tab to another. `refresh(trigger)` has the page look at the disk again."""
    workspace, card, tabs = page.workspace, page.train.live, page.tabs
    pickers = [*page.model_pickers, page.evaluate.dataset, tabs]
    _connect_steps(page, pickers)
    _connect_header(page, refresh)
    _connect_forms(page)

    def chat(run: str) -> Updates:
        return {**in_hand(page, workspace.run(run).name), tabs: gr.Tabs(selected="playground")}

    def export(report: str) -> Updates:
        return {**in_hand(page, evaluate.to_export(str(report), workspace)), tabs: gr.Tabs(selected="deploy")}

    def talk(build: str) -> Updates:
        sides = build_card.side_by_side(str(build), workspace)
        return {
            **dict(zip(page.playground.models.values(), sides, strict=False)),
            tabs: gr.Tabs(selected="playground"),
        }

    def play(report: str, place: object) -> Updates:
        refs, prompt = evaluate.prompt_of(str(report), place if isinstance(place, int) else -1, workspace)
        sides = dict(zip(page.playground.models.values(), [refs[0], refs[-1]], strict=False)) if refs else {}
        return {**page.playground.begin(prompt), **sides, tabs: gr.Tabs(selected="playground")}

    card.compare.click(toasts(lambda run: compare(page, run)), card.run, pickers, **ACTION)
    card.chat.click(toasts(chat), card.run, pickers, **ACTION)
    page.evaluate.export.click(toasts(export), page.evaluate.report, pickers, **ACTION)
    sides = [*page.playground.models.values(), tabs]
    page.deploy.builds.talk.click(toasts(talk), page.deploy.builds.chosen, sides, **ACTION)
    begun = [*page.playground.models.values(), *page.playground.begun, tabs]
    page.evaluate.play.click(toasts(play), [page.evaluate.report, page.evaluate.opened], begun, **ACTION)


def _connect_steps(page: Page, pickers: list[Any]) -> None:
    def to_step(event: gr.EventData) -> Updates:
        return step(page, str(getattr(event, "step", "")))

    page.path.click(toasts(to_step), None, pickers, **ACTION)
    page.data.use.click(lambda: gr.Tabs(selected="train"), None, page.tabs, **ACTION)
    page.train.change.click(lambda: gr.Tabs(selected="data"), None, page.tabs, **ACTION)


def _connect_header(page: Page, refresh: Refresh) -> None:
    workspace = page.workspace

    def put_in_hand(ref: object) -> Updates:
        return {**in_hand(page, str(ref or "")), page.header.model: gr.skip()}

    def open_job(cursor: live.Cursor) -> Updates:
        return job_place(page, render_jobs.foremost(jobs.active(workspace)) or cursor.ended)

    def stop_job(cursor: live.Cursor) -> None:
        """The job that this browser's header names, not whichever took its place since."""
        job = render_jobs.foremost([job for job in jobs.active(workspace) if live.key(job, workspace) == cursor.named])
        if job is not None:
            jobs.stop(job.folder, workspace)
            gr.Info(t("{name} is asked to stop; what it has saved is kept.", name=render_jobs.title(job)))

    def interrupted(cursor: live.Cursor, event: gr.EventData) -> None:
        folder = jobs.find(str(getattr(event, "job", "")), workspace)
        cursor.sent.pop("inventory", None)
        if getattr(event, "act", "") == "resume":
            jobs.resume(folder, workspace)
            gr.Info(t("{name} goes on from what it had saved.", name=render_jobs.title(jobs.view(folder))))
        else:
            jobs.dismiss(folder)

    header = page.header
    header.model.input(toasts(put_in_hand), header.model, page.model_pickers, **ACTION)
    places = [page.tabs, page.train.live.run, page.evaluate.report]
    refresh(header.chip.click(toasts(open_job), page.cursor, places, **ACTION).then)
    refresh(header.stop.click(toasts(stop_job), page.cursor, None, **ACTION).then)
    refresh(page.interrupted.click(toasts(interrupted), page.cursor, None, **ACTION).then)


def _connect_forms(page: Page) -> None:
    """Runs that begin where another one is: the form is filled with its settings."""
    card, workspace = page.train.live, page.workspace
    form = [page.data.dataset, *page.train.settings.values]

    def form_of(config: TrainConfig) -> Updates:
        known = {value for _, value in dataset_choices(workspace)}
        dataset = {page.data.dataset: config.dataset} if config.dataset in known else {}
        return {**page.train.settings.filled(config), **dataset}

    def further(run: str) -> Updates:
        config = iterate.continued(workspace.run(run).name, workspace)
        gr.Info(t("The settings above train {run} further; change them, then press Start training.", run=run))
        return form_of(config)

    def clone(run: str) -> Updates:
        config = iterate.cloned(workspace.run(run).name, workspace)
        gr.Info(t("The settings above are those of {run}; change them, then press Start training.", run=run))
        return form_of(config)

    card.further.click(toasts(further), card.run, form, **ACTION)
    card.clone.click(toasts(clone), card.run, form, **ACTION)
