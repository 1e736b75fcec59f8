"""The first half of the Deploy tab: make builds, see their proof, take them along, publish or delete them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from phi3tune import builds, jobs
from phi3tune.config import ExportConfig
from phi3tune.engines import pool
from phi3tune.errors import UserError
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace, slug
from phi3tune.ui import forms, live, push_card, render_builds
from phi3tune.ui.download import Download
from phi3tune.ui.live import Cursor
from phi3tune.ui.push_card import PushCard
from phi3tune.ui.render import section, size
from phi3tune.ui.wire import ACTION, Updates, toasts

SIMPLE = forms.fields(ExportConfig, "simple", without=("model",))
ADVANCED = forms.fields(ExportConfig, "advanced")
SETTINGS = [*SIMPLE, *ADVANCED]
OPEN_BUILD = (
    "element.addEventListener('click', e => { const build = e.target.closest('[data-build]');"
    " if (build) trigger('click', {build: build.dataset.build}); })"
)
CONFIRM = "build => confirm(`Move ${build} to the trash?`) ? build : null"


@dataclass
class BuildCard:
    model: gr.Dropdown
    settings: dict[str, forms.Widget]
    start: gr.Button
    stop: gr.Button
    status: gr.HTML
    table: gr.HTML
    chosen: gr.Dropdown
    actions: gr.Column
    detail: gr.HTML
    report: Download
    pack: Download
    delete: gr.Button
    push: PushCard

    @property
    def parts(self) -> list[Any]:
        """Everything that `update` may change."""
        return [self.status, self.stop, self.table, self.chosen, self.actions, self.detail]

    def update(self, cursor: Cursor, active: list[JobView], workspace: Workspace, chosen: object) -> Updates:
        """What has changed since this browser was last told."""
        found = builds.list_builds(workspace)
        exports = [job for job in active if job.kind == "export"]
        last = next(iter(live.exports(workspace)), None)
        failed = last if last is not None and last.state == "failed" else None
        status, table = render_builds.running(exports, failed), render_builds.builds(found)
        choices = tuple((build.label, build.ref) for build in found)
        shown = next((build for build in found if build.ref == chosen), found[0] if found else None)
        detail = render_builds.detail(shown)
        new: dict[Any, tuple[object, Any]] = {
            self.status: (status, status),
            self.stop: (bool(exports), gr.Button(visible=bool(exports))),
            self.table: (table, table),
            self.chosen: ((choices, shown and shown.ref), gr.Dropdown(choices, value=shown.ref if shown else None)),
            self.actions: (bool(found), gr.Column(visible=bool(found))),
            self.detail: (detail, detail),
        }
        return {part: value for part, (seen, value) in new.items() if cursor.fresh(f"builds-{part._id}", seen)}


def _widget(name: str) -> forms.Widget:
    return forms.widget(ExportConfig, name, elem_id=f"build-{name.replace('_', '-')}", min_width=240)


def build() -> BuildCard:
    with gr.Column(elem_classes="pt-card"):
        gr.HTML(section("1", "Build", "another form of a model, proven to answer like it"))
        model = gr.Dropdown([], value=None, label="Model to build", elem_id="build-model", allow_custom_value=True)
        with gr.Row():
            settings = {
                name: forms.widget(ExportConfig, name, elem_id=f"build-{name}", min_width=240) for name in SIMPLE
            }
        with gr.Accordion("Device, 4-bit weights and the check", open=False), gr.Row():
            settings |= {name: _widget(name) for name in ADVANCED}
        with gr.Row(elem_classes="pt-buttons"):
            start = gr.Button("Build", variant="primary", elem_id="build-start")
            stop = gr.Button("Stop building", variant="stop", elem_id="build-stop", visible=False)
        status = gr.HTML(elem_id="build-status")
    with gr.Column(elem_classes="pt-card"):
        gr.HTML(section("2", "Builds", "newest first; press a name to see its proof"))
        table = gr.HTML(render_builds.builds([]), elem_id="builds", js_on_load=OPEN_BUILD)
        with gr.Column(visible=False, elem_id="build-chosen") as actions:
            with gr.Row(elem_classes="pt-bar-row"):
                chosen = gr.Dropdown([], value=None, label="Build", elem_id="build-name", min_width=240)
                with gr.Row(elem_classes="pt-buttons"):
                    report = Download.build("Report", "build-report")
                    pack = Download.build("Download", "build-pack")
                    delete = gr.Button("Delete", variant="stop", size="sm", elem_id="build-delete")
            detail = gr.HTML(elem_id="build-detail")
            push = push_card.build()
    return BuildCard(model, settings, start, stop, status, table, chosen, actions, detail, report, pack, delete, push)


def connect(
    card: BuildCard, served: Callable[[], Sequence[str]], refresh: Callable[[Any], None], workspace: Workspace
) -> None:
    """`served` tells what the app's endpoint serves, which is not to be deleted."""
    widgets = [card.settings[name] for name in SETTINGS]

    def start(model: str | None, *values: Any) -> None:
        if not model:
            raise UserError("Choose a model to build first.")
        config = forms.read(ExportConfig, SETTINGS, values, model=model)
        jobs.submit("export", config, workspace)
        gr.Info(f"The build of {model} has been started.")

    def stop() -> None:
        for job in jobs.active(workspace):
            if job.kind == "export":
                jobs.stop(job.folder, workspace)
        gr.Info("The build is being stopped; nothing of it is kept.")

    def open_build(event: gr.EventData) -> str:
        return builds.find(str(getattr(event, "build", "")), workspace).ref

    def report(name: str) -> str:
        from phi3tune.export.page import FILE

        found = builds.find(name, workspace)
        page = found.path / FILE
        if not page.is_file():
            raise UserError(f"{found.label} has no report: nothing of it was compared.")
        return str(shutil.copy(page, Path(tempfile.mkdtemp(prefix="phi3tune-report-")) / f"{found.name}-parity.html"))

    def pack(name: str) -> str:
        found = builds.find(name, workspace)
        folder = Path(tempfile.mkdtemp(prefix="phi3tune-build-"))
        return str(builds.archive(found, workspace, folder / f"{slug(found.label)}.zip"))

    def delete(name: str | None) -> None:
        if name is None:  # the question whether to was answered with no
            return
        found = builds.find(name, workspace)
        if found.ref in served():
            raise UserError(f"The endpoint serves {found.label}; stop it first.")
        builds.delete(found, workspace, pool=pool.shared())
        gr.Info(f"{found.label} ({size(found.size_bytes)}) was moved to the trash folder of the workspace.")

    refresh(card.start.click(toasts(start), [card.model, *widgets], None, **ACTION).then)
    refresh(card.stop.click(toasts(stop), None, None, **ACTION).then)
    refresh(card.table.click(toasts(open_build), None, card.chosen, **ACTION).then)
    refresh(card.chosen.input)
    card.report.connect(report, card.chosen)
    card.pack.connect(pack, card.chosen)
    refresh(card.delete.click(toasts(delete), card.chosen, None, js=CONFIRM, **ACTION).then)
    push_card.connect(card.push, card.chosen, workspace)
