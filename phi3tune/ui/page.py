"""The page: header and tabs put together, and the tick that keeps every browser true to the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from phi3tune import hosted, jobs
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace
from phi3tune.ui import (
    banner,
    data_actions,
    data_tab,
    deploy,
    evaluate,
    handover,
    header,
    live,
    path_card,
    playground,
    render_jobs,
    runs,
    storage_card,
    train,
)
from phi3tune.ui.endpoint_card import Endpoints
from phi3tune.ui.live import BUSY_TICK, IDLE_TICK, Cursor, Logs
from phi3tune.ui.wire import (
    POLL,
    Updates,
    checkpoint_choices,
    dataset_choices,
    model_choices,
    stored_choices,
)
from phi3tune.ui.words import building, localise, t

TITLE = "phi3tune"
CACHE_SECONDS = (3600, 86400)
# What is put into the element is read out; the element itself stays.
ANNOUNCER = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');"
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
        rules = hosted.rules(workspace)
        self.banner = banner.build(rules)
        self.header = header.build()
        self.storage = storage_card.build()
        self.interrupted = gr.HTML(elem_id="interrupted", js_on_load=header.PRESSED)
        self.path = path_card.build()
        with gr.Tabs(selected="data", elem_id="tabs", overflow_behavior="wrap") as self.tabs:
            with gr.Tab(t("Data"), id="data"):
                self.data = data_tab.build(rules)
            with gr.Tab(t("Train"), id="train"):
                self.train = train.build(rules)
            with gr.Tab(t("Evaluate"), id="evaluate"):
                self.evaluate = evaluate.build(rules)
            with gr.Tab(t("Playground"), id="playground"):
                self.playground = playground.build(rules)
            with gr.Tab(t("Deploy"), id="deploy"):
                self.deploy = deploy.build(endpoints, rules)
            with gr.Tab(t("Runs"), id="runs"):
                self.runs = runs.build(rules)
        # Out of its tab: what lies in a tab that was never opened does not read what the browser remembers.
        kept: Any = self.playground.files.kept
        kept.unrender()
        kept.render()
        # Read out by screen readers; the page's own script makes a notice of the browser from it.
        self.announcer = gr.HTML(elem_id="announcer", elem_classes="pt-hidden", js_on_load=ANNOUNCER)
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

    @property
    def told(self) -> list[Any]:
        """Everything that `tick` may change."""
        own: list[Any] = [self.interrupted, self.path, self.announcer, self.timer]
        own += [self.banner.line] if self.banner is not None else []
        own += [*self.header.parts, *self.train.live.parts, *self.evaluate.parts, *self.runs.parts]
        own += [*self.deploy.parts, *self.playground.parts, *self.model_pickers]
        return list(dict.fromkeys(own))

    def tick(self, cursor: Cursor, run: object, smoothing: object, *looks: Any) -> Updates:
        """Everything that changed since this browser was last told."""
        jobs.dispatch(self.workspace)
        active = jobs.active(self.workspace)
        waiting = {job.folder: job for job in active}  # these know their place in the queue
        trained = [waiting.get(job.folder, job) for job in jobs.runs(self.workspace)]
        shown = _shown_run(cursor, run, trained)
        of_reports, of_builds = len(self.evaluate.looks), len(self.deploy.looks)
        factor = float(smoothing) if isinstance(smoothing, int | float) else 0.0
        updates: Updates = {self.timer: gr.skip()}
        updates |= self._ended(cursor, active)
        updates |= self.header.update(cursor, active)
        updates |= self.train.live.update(cursor, self.logs, trained, shown, factor, self.workspace)
        updates |= self.evaluate.update(cursor, self.workspace, *looks[:of_reports])
        updates |= self.runs.update(cursor, trained, active, self.workspace, *looks[of_reports:-of_builds])
        updates |= self.deploy.update(cursor, active, self.workspace, *looks[-of_builds:])
        updates |= self.playground.update(cursor, self.workspace)
        if self.banner is not None:
            updates |= self.banner.update(cursor, self.workspace)
        inventory = tuple((job.id, job.state) for job in [*trained, *active])
        if cursor.fresh("inventory", (inventory, live.written(self.workspace))):
            updates |= self._choices() | self._above(cursor, trained)
            # The first look at the votes makes their table.
            cursor.sent["inventory"] = (inventory, live.written(self.workspace))
        interval = BUSY_TICK if active or self.deploy.busy else IDLE_TICK
        if cursor.fresh("interval", interval):
            updates[self.timer] = gr.Timer(interval)
        return updates

    def _ended(self, cursor: Cursor, active: list[JobView]) -> Updates:
        """Tell of the jobs that this browser saw running and that have ended."""
        ended = cursor.follow(active, self.workspace)
        if not ended:
            return {}
        said = "".join(render_jobs.announced(job, live.key(job, self.workspace)) for job in ended)
        return {self.announcer: said}

    def _above(self, cursor: Cursor, trained: list[JobView]) -> Updates:
        """What stands above the tabs and changes only when a job begins or ends, or something is written down."""
        dead = [(live.key(job, self.workspace), job) for job in jobs.interrupted(self.workspace)]
        new = {
            self.interrupted: render_jobs.interrupted(dead),
            self.path: path_card.path(path_card.progress(trained, self.workspace)),
        }
        return {part: text for part, text in new.items() if cursor.fresh(part.elem_id, text)}

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
        return [*self.data.part_files.values(), self.evaluate.safety]

    def open(self, cursor: Cursor) -> Updates:
        """A page that was just loaded: first choices of its pickers, and all that a tick would tell."""
        updates = self.tick(cursor, None, None, *[None] * len(self.looks))
        datasets = dataset_choices(self.workspace)
        first = next((value for _, value in datasets if value == FIRST_DATASET), None)
        for picker in (self.data.dataset, self.evaluate.dataset):
            updates[picker] = gr.update(choices=datasets, value=first)
        files = [(t("none"), data_tab.NO_FILE), *stored_choices(self.workspace)]
        updates |= {picker: gr.update(choices=files) for picker in self.file_pickers}
        known = [ref for _, ref in model_choices(self.workspace)]
        tuned = [job.id for job in jobs.runs(self.workspace) if job.id in known]
        if last := (tuned or known[:1]):
            choices, held = self._choices(), handover.in_hand(self, last[-1])
            updates |= {picker: {**choices[picker], **value} for picker, value in held.items()}
        return updates

    def connect(self, demo: gr.Blocks) -> None:
        """Attach every handler."""
        workspace, card = self.workspace, self.train.live
        looks, told = [self.cursor, card.run, card.smoothing, *self.looks], self.told

        def refresh(trigger: Callable[..., Any]) -> None:
            trigger(self.tick, looks, told, **POLL)

        def opened(run: str) -> Updates:
            return {card.run: run, self.tabs: gr.Tabs(selected="train")}

        def swept(sweep: str) -> Updates:
            return {self.runs.sweep: gr.update(choices=[sweep], value=sweep), self.tabs: gr.Tabs(selected="runs")}

        datasets = [self.data.dataset, self.evaluate.dataset]
        loaded = demo.load(self.open, self.cursor, [*told, *datasets, *self.file_pickers], **POLL)
        refresh(self.timer.tick)
        settings = self.train.settings
        data_actions.connect(self.data, self.train.data, settings.model, settings.widgets["max_length"], workspace)
        train.connect(self.train, self.data, swept, [self.runs.sweep, self.tabs], refresh, workspace)
        evaluate.connect(self.evaluate, refresh, workspace)
        playground.connect(self.playground, datasets, refresh, loaded.then, workspace, self.deploy.endpoints)
        deploy.connect(self.deploy, refresh, workspace)
        runs.connect(self.runs, opened, [card.run, self.tabs], refresh, workspace)
        storage_card.connect(self.storage, self.header.storage, refresh, workspace)
        handover.connect(self, refresh)


def _shown_run(cursor: Cursor, chosen: object, runs: list[JobView]) -> str:
    """The run that a browser looks at: what was chosen there, or a run that began since, or the newest."""
    names = [job.id for job in runs]
    running = [job.id for job in runs if job.active]
    begun = [name for name in running if name not in cursor.known_runs]
    cursor.known_runs = frozenset(names)
    if isinstance(chosen, str) and chosen in names and (chosen in running or not begun):
        return chosen
    return (begun or running or names or [""])[-1]
