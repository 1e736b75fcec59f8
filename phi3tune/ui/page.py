"""The page: header and tabs put together, and the tick that keeps every browser true to the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from phi3tune import iterate, jobs
from phi3tune.config import TrainConfig
from phi3tune.engines import models
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace
from phi3tune.ui import deploy, evaluate, header, live, playground, runs, train, train_data
from phi3tune.ui.dialogue import SIDES
from phi3tune.ui.endpoint_card import Endpoints
from phi3tune.ui.live import BUSY_TICK, IDLE_TICK, Cursor, Logs
from phi3tune.ui.wire import (
    ACTION,
    POLL,
    Updates,
    base_of,
    checkpoint_choices,
    dataset_choices,
    model_choices,
    stored_choices,
    toasts,
)
from phi3tune.ui.words import building, localise

TITLE = "phi3tune"
CACHE_SECONDS = (3600, 86400)
FIRST_DATASET = "lantern-support"


def create_ui(workspace: Workspace, endpoints: Endpoints) -> gr.Blocks:
    """The whole page over a workspace; nothing is read from disk before a browser opens it.

    `endpoints` is the server's side of the Deploy tab, which the page does not import.
    """
    demo = gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=CACHE_SECONDS)
    with building(), demo:
        Page(workspace, endpoints).connect(demo)
        localise(demo)
    return demo


class Page:
    """The components of the page and their handlers. It keeps nothing of a job but what it read from its folder."""

    def __init__(self, workspace: Workspace, endpoints: Endpoints) -> None:
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
            with gr.Tab("Deploy", id="deploy"):
                self.deploy = deploy.build(endpoints)
            with gr.Tab("Runs", id="runs"):
                self.runs = runs.build()
        self.timer = gr.Timer(BUSY_TICK)
        self.cursor = gr.State(Cursor())

    @property
    def model_pickers(self) -> list[gr.Dropdown]:
        """Every picker of models that a model in hand is put into."""
        own = [self.header.model, self.train.settings.model, self.evaluate.models, *self.playground.models.values()]
        return [*own, *self.deploy.model_pickers]

    @property
    def looks(self) -> list[Any]:
        """What a browser has chosen in the tabs that show it: the last inputs of `tick`."""
        return [*self.evaluate.looks, *self.runs.looks, *self.deploy.looks]

    def tick(self, cursor: Cursor, run: object, smoothing: object, *looks: Any) -> Updates:
        """Everything that changed since this browser was last told."""
        jobs.dispatch(self.workspace)
        active, trained = jobs.active(self.workspace), jobs.runs(self.workspace)
        shown = _shown_run(cursor, run, trained)
        of_reports, of_builds = len(self.evaluate.looks), len(self.deploy.looks)
        factor = float(smoothing) if isinstance(smoothing, int | float) else 0.0
        updates: Updates = {self.timer: gr.skip()}
        updates |= self.header.update(cursor, active)
        updates |= self.train.live.update(cursor, self.logs, trained, shown, factor, self.workspace)
        updates |= self.evaluate.update(cursor, self.workspace, *looks[:of_reports])
        updates |= self.runs.update(cursor, trained, active, self.workspace, *looks[of_reports:-of_builds])
        updates |= self.deploy.update(cursor, active, self.workspace, *looks[-of_builds:])
        updates |= self.playground.update(cursor, self.workspace)
        if cursor.fresh("inventory", tuple((job.id, job.state) for job in [*trained, *active])):
            updates |= self._choices()
        interval = BUSY_TICK if active or self.deploy.busy else IDLE_TICK
        if cursor.fresh("interval", interval):
            updates[self.timer] = gr.Timer(interval)
        return updates

    def _choices(self) -> Updates:
        """What there is to choose from; what is chosen stays."""
        every, trainable = model_choices(self.workspace), model_choices(self.workspace, "torch")
        choices = {picker: gr.update(choices=every) for picker in self.model_pickers}
        with_checkpoints = [*every, *checkpoint_choices(self.workspace)]
        choices |= {picker: gr.update(choices=with_checkpoints) for picker in self.playground.models.values()}
        choices[self.deploy.builds.model] = gr.update(choices=trainable)
        return {**choices, self.train.settings.model: gr.update(choices=trainable)}

    @property
    def file_pickers(self) -> list[gr.Dropdown]:
        """Every picker of an uploaded file."""
        return [*self.train.data.part_files.values(), self.evaluate.safety]

    def open(self, cursor: Cursor) -> Updates:
        """A page that was just loaded: first choices of its pickers, and all that a tick would tell."""
        updates = self.tick(cursor, None, None, *[None] * len(self.looks))
        datasets = dataset_choices(self.workspace)
        first = next((value for _, value in datasets if value == FIRST_DATASET), None)
        for picker in (self.train.data.dataset, self.evaluate.dataset):
            updates[picker] = gr.update(choices=datasets, value=first)
        files = [("none", train_data.NO_FILE), *stored_choices(self.workspace)]
        updates |= {picker: gr.update(choices=files) for picker in self.file_pickers}
        known = [ref for _, ref in model_choices(self.workspace)]
        tuned = [job.id for job in jobs.runs(self.workspace) if job.id in known]
        if last := (tuned or known[:1]):
            choices = self._choices()
            updates |= {picker: {**choices[picker], **value} for picker, value in self._in_hand(last[-1]).items()}
        return updates

    def _in_hand(self, ref: str) -> Updates:
        """Every picker set to one model, next to the base it is compared with."""
        model = models.resolve(ref, self.workspace)
        base = base_of(model, self.workspace)
        left, right, _ = SIDES
        return {
            self.header.model: gr.update(value=ref),
            self.train.settings.model: gr.update(value=base),
            self.evaluate.models: gr.update(value=list(dict.fromkeys([base, ref]))),
            **self.deploy.in_hand(model),
            self.playground.models[left]: gr.update(value=base),
            self.playground.models[right]: gr.update(value=ref),
        }

    def connect(self, demo: gr.Blocks) -> None:
        """Attach every handler."""
        workspace, card = self.workspace, self.train.live
        looks = [self.cursor, card.run, card.smoothing, *self.looks]
        told = [
            *self.header.parts,
            *card.parts,
            *self.evaluate.parts,
            *self.runs.parts,
            *self.deploy.parts,
            *self.playground.parts,
            *self.model_pickers,
            self.timer,
        ]
        told = list(dict.fromkeys(told))

        def refresh(trigger: Callable[..., Any]) -> None:
            trigger(self.tick, looks, told, **POLL)

        def in_hand(ref: object) -> Updates:
            return {**self._in_hand(str(ref or "")), self.header.model: gr.skip()}

        def compare(run: str) -> Updates:
            config = jobs.read_config(workspace.run(run))
            dataset = config.dataset if isinstance(config, TrainConfig) else None
            return {**self._in_hand(run), self.evaluate.dataset: dataset, self.tabs: gr.Tabs(selected="evaluate")}

        def chat(run: str) -> Updates:
            return {**self._in_hand(workspace.run(run).name), self.tabs: gr.Tabs(selected="playground")}

        def opened(run: str) -> Updates:
            return {card.run: run, self.tabs: gr.Tabs(selected="train")}

        def swept(sweep: str) -> Updates:
            return {self.runs.sweep: gr.update(choices=[sweep], value=sweep), self.tabs: gr.Tabs(selected="runs")}

        def form_of(config: TrainConfig, done: str) -> Updates:
            gr.Info(done)
            known = {value for _, value in dataset_choices(workspace)}
            dataset = {self.train.data.dataset: config.dataset} if config.dataset in known else {}
            return {**self.train.settings.filled(config), **dataset}

        def further(run: str) -> Updates:
            config = iterate.continued(workspace.run(run).name, workspace)
            return form_of(config, f"The settings above train {run} further; change them, then press Start training.")

        def clone(run: str) -> Updates:
            config = iterate.cloned(workspace.run(run).name, workspace)
            return form_of(config, f"The settings above are those of {run}; change them, then press Start training.")

        def open_job() -> Updates:
            return self._job_place()

        def play(report: str, place: object) -> Updates:
            refs, prompt = evaluate.prompt_of(str(report), place if isinstance(place, int) else -1, workspace)
            pickers = dict(zip(self.playground.models.values(), [refs[0], refs[-1]], strict=False)) if refs else {}
            return {**self.playground.begin(prompt), **pickers, self.tabs: gr.Tabs(selected="playground")}

        pickers = [self.train.data.dataset, self.evaluate.dataset, *self.file_pickers]
        loaded = demo.load(self.open, self.cursor, [*told, *pickers], **POLL)
        refresh(self.timer.tick)
        train.connect(self.train, swept, [self.runs.sweep, self.tabs], refresh, workspace)
        evaluate.connect(self.evaluate, refresh, workspace)
        playground.connect(
            self.playground, [self.train.data.dataset, self.evaluate.dataset], refresh, loaded.then, workspace
        )
        deploy.connect(self.deploy, refresh, workspace)
        runs.connect(self.runs, opened, [card.run, self.tabs], refresh, workspace)
        form = [self.train.data.dataset, *self.train.settings.values]
        card.further.click(toasts(further), card.run, form, **ACTION)
        card.clone.click(toasts(clone), card.run, form, **ACTION)
        self.header.model.input(toasts(in_hand), self.header.model, self.model_pickers, **ACTION)
        card.compare.click(toasts(compare), card.run, [*self.model_pickers, self.evaluate.dataset, self.tabs], **ACTION)
        card.chat.click(toasts(chat), card.run, [*self.model_pickers, self.tabs], **ACTION)
        opened = self.header.chip.click(toasts(open_job), None, [self.tabs, card.run, self.evaluate.report], **ACTION)
        refresh(opened.then)
        begun = [*self.playground.models.values(), *self.playground.begun, self.tabs]
        self.evaluate.play.click(toasts(play), [self.evaluate.report, self.evaluate.opened], begun, **ACTION)

    def _job_place(self) -> Updates:
        """The tab, and the choice in it, where the running job is shown."""
        active = jobs.active(self.workspace)
        job = next((job for job in active if job.state == "running"), next(iter(active), None))
        if job is None:
            return {self.tabs: gr.skip()}
        if job.kind == "evaluate":
            report = live.key(job, self.workspace)
            return {self.tabs: gr.Tabs(selected="evaluate"), self.evaluate.report: report}
        if job.kind == "prompts":
            return {self.tabs: gr.Tabs(selected="playground")}
        if job.kind == "export":
            return {self.tabs: gr.Tabs(selected="deploy")}
        run = job.id if job.kind == "train" else getattr(jobs.read_config(job.folder), "model", "").partition("/")[0]
        return {self.tabs: gr.Tabs(selected="train"), self.train.live.run: run}


def _shown_run(cursor: Cursor, chosen: object, runs: list[JobView]) -> str:
    """The run that a browser looks at: what was chosen there, or a run that began since, or the newest."""
    names = [job.id for job in runs]
    running = [job.id for job in runs if job.active]
    begun = [name for name in running if name not in cursor.known_runs]
    cursor.known_runs = frozenset(names)
    if isinstance(chosen, str) and chosen in names and (chosen in running or not begun):
        return chosen
    return (begun or running or names or [""])[-1]
