"""The first half of the Deploy tab: make builds, see their proof, take them along, publish or delete them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from phi3tune import builds, jobs
from phi3tune.config import ExportConfig, HostedConfig
from phi3tune.engines import models, pool
from phi3tune.errors import UserError
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace, slug
from phi3tune.ui import forms, live, push_card, render_builds
from phi3tune.ui.download import Download
from phi3tune.ui.live import Cursor
from phi3tune.ui.push_card import PushCard
from phi3tune.ui.render import section, size
from phi3tune.ui.wire import ACTION, Updates, base_of, toasts
from phi3tune.ui.words import in_browser, t
from phi3tune.ui.work import Work

SIMPLE = forms.fields(ExportConfig, "simple", without=("model",))
ADVANCED = forms.fields(ExportConfig, "advanced")
SETTINGS = [*SIMPLE, *ADVANCED]
OPEN_BUILD = (
    "element.addEventListener('click', e => { const build = e.target.closest('[data-build]');"
    " if (build) trigger('click', {build: build.dataset.build}); })"
)
SHOW_ENDPOINT = "() => document.getElementById('serve-start').scrollIntoView({block: 'center'})"


@dataclass
class BuildCard:
    """`serve` and `push` are None where the page serves visitors."""

    model: gr.Dropdown
    settings: dict[str, forms.Widget]
    start: gr.Button
    stop: gr.Button
    status: gr.HTML
    table: gr.HTML
    chosen: gr.Dropdown
    actions: gr.Column
    detail: gr.HTML
    talk: gr.Button
    serve: gr.Button | None
    report: Download
    pack: Download
    stop_pack: gr.Button
    packing: gr.HTML
    delete: gr.Button
    push: PushCard | None

    @property
    def parts(self) -> list[Any]:
        """Everything that `update` may change."""
        return [self.status, self.stop, self.table, self.chosen, self.actions, self.detail]

    def update(self, cursor: Cursor, active: list[JobView], workspace: Workspace, chosen: object) -> Updates:
        """What has changed since this browser was last told. A build that was just finished is the chosen one."""
        found = builds.list_builds(workspace)
        exports = [job for job in active if job.kind == "export"]
        last = next(iter(live.exports(workspace)), None)
        failed = last if last is not None and last.state == "failed" else None
        status, table = render_builds.running(exports, failed), render_builds.builds(found)
        choices = tuple((build.label, build.ref) for build in found)
        known = cursor.sent.get("known builds")
        cursor.sent["known builds"] = frozenset(build.ref for build in found)
        made = [build for build in found if isinstance(known, frozenset) and build.ref not in known]
        shown = next(iter([*made, *(build for build in found if build.ref == chosen), *found]), None)
        detail = render_builds.detail(shown)
        new: dict[Any, tuple[object, Any]] = {
            self.status: (status, status),
            self.stop: (bool(exports), gr.update(visible=bool(exports))),
            self.table: (table, table),
            self.chosen: ((choices, shown and shown.ref), gr.update(choices=choices, value=shown and shown.ref)),
            self.actions: (bool(found), gr.update(visible=bool(found))),
            self.detail: (detail, detail),
        }
        return {part: value for part, (seen, value) in new.items() if cursor.fresh(f"builds-{part._id}", seen)}


def _widget(name: str) -> forms.Widget:
    return forms.widget(ExportConfig, name, elem_id=f"build-{name.replace('_', '-')}", min_width=240)


def build(rules: HostedConfig | None) -> BuildCard:
    """`rules` are those of a hosted app, where nothing is served or published; None for the person at the machine."""
    with gr.Column(elem_classes="pt-card"):
        gr.HTML(section("1", t("Build"), t("another form of a model, proven to answer like it")))
        model = gr.Dropdown([], value=None, label=t("Model to build"), elem_id="build-model", allow_custom_value=True)
        with gr.Row(elem_id="build-settings"):
            settings = {name: _widget(name) for name in SIMPLE}
        with gr.Accordion(t("Device, 4-bit weights and the check"), open=False, elem_id="build-advanced"), gr.Row():
            settings |= {name: _widget(name) for name in ADVANCED}
        with gr.Row(elem_classes="pt-buttons"):
            start = gr.Button(t("Build"), variant="primary", elem_id="build-start", elem_classes="pt-main")
            stop = gr.Button(t("Stop building"), variant="stop", elem_id="build-stop", visible=False)
        status = gr.HTML(elem_id="build-status")
    with gr.Column(elem_classes="pt-card"):
        gr.HTML(section("2", t("Builds"), t("newest first; press a name to see its proof")))
        table = gr.HTML(render_builds.builds([]), elem_id="builds", js_on_load=OPEN_BUILD)
        with gr.Column(visible=False, elem_id="build-chosen") as actions:
            with gr.Row(elem_classes="pt-bar-row"):
                chosen = gr.Dropdown([], value=None, label=t("Build"), elem_id="build-name", min_width=240)
                with gr.Row(elem_classes="pt-buttons"):
                    talk = gr.Button(t("Talk to it"), variant="primary", size="sm", elem_id="build-talk")
                    serve = gr.Button(t("Serve it"), size="sm", elem_id="build-serve") if rules is None else None
                    report = Download.build(t("Report"), "build-report")
                    pack = Download.build(t("Download"), "build-pack")
                    stop_pack = gr.Button(t("Stop"), variant="stop", size="sm", elem_id="pack-stop", visible=False)
                    delete = gr.Button(t("Delete"), variant="stop", size="sm", elem_id="build-delete")
            packing = gr.HTML(elem_id="build-packing")
            detail = gr.HTML(elem_id="build-detail")
            push = push_card.build() if rules is None else None
    return BuildCard(
        model, settings, start, stop, status, table, chosen, actions, detail, talk, serve, report, pack, stop_pack,
        packing, delete, push,
    )  # fmt: skip


def side_by_side(name: str, workspace: Workspace) -> tuple[str, str]:
    """What a build is talked to beside, and the build: the model it was made from, or that one's base."""
    found = builds.find(name, workspace)
    ref = models.resolve(found.ref, workspace, download=False)
    known = {each.ref for each in models.list_models(workspace)}
    made_from = found.model if found.form != "merged" and found.model in known else base_of(ref, workspace)
    return made_from, ref.ref


def connect_serve(card: BuildCard, served: gr.Dropdown, workspace: Workspace) -> None:
    """The button that puts the chosen build into `served`, the models of the endpoint."""

    def serve(name: str) -> list[str]:
        ref = models.resolve(builds.find(name, workspace).ref, workspace, download=False).ref
        gr.Info(t("{name} is chosen below: press Start the endpoint.", name=ref))
        return [ref]

    assert card.serve is not None, "there is an endpoint"
    card.serve.click(toasts(serve), card.chosen, served, **ACTION).success(None, js=SHOW_ENDPOINT)


def connect(
    card: BuildCard, served: Callable[[], Sequence[str]], refresh: Callable[[Any], None], workspace: Workspace
) -> None:
    """`served` tells what the app's endpoint serves, which is not to be deleted."""
    widgets = [card.settings[name] for name in SETTINGS]
    question = in_browser("Move BUILD to the trash?")
    confirm = f"build => confirm({question}.replace('BUILD', build)) ? build : null"

    def start(model: str | None, *values: Any) -> None:
        if not model:
            raise UserError(t("Choose a model to build first."))
        config = forms.read(ExportConfig, SETTINGS, values, model=model)
        jobs.submit("export", config, workspace)
        gr.Info(t("The build of {model} has started: its progress is shown below the form.", model=model))

    def stop() -> None:
        for job in jobs.active(workspace):
            if job.kind == "export":
                jobs.stop(job.folder, workspace)
        gr.Info(t("The build is being stopped; nothing of it is kept. Press Build to start again."))

    def open_build(event: gr.EventData) -> str:
        return builds.find(str(getattr(event, "build", "")), workspace).ref

    def report(name: str) -> str:
        from phi3tune.export.page import FILE

        found = builds.find(name, workspace)
        page = found.path / FILE
        if not page.is_file():
            raise UserError(t("{build} has no report: nothing of it was compared.", build=found.label))
        return str(shutil.copy(page, Path(tempfile.mkdtemp(prefix="phi3tune-report-")) / f"{found.name}-parity.html"))

    def pack(name: str) -> Iterator[Updates]:
        here = workspace.here()
        found = builds.find(name, here)
        out = Path(tempfile.mkdtemp(prefix="phi3tune-build-")) / f"{slug(found.label)}.zip"
        work = Work(lambda report: builds.archive(found, here, out, progress=lambda done, total: report((done, total))))
        yield {card.packing: render_builds.packing(0, 0), card.stop_pack: gr.Button(visible=True)}
        ended: Updates = {card.packing: "", card.stop_pack: gr.Button(visible=False)}
        try:
            for _, done in work:
                yield {card.packing: render_builds.packing(*(done or (0, 0)))}
            path = str(work.result)
        except Exception:
            yield ended
            raise
        yield {card.pack.file: path, **ended}

    def stop_pack() -> Updates:
        gr.Info(t("The download was stopped; press Download to start again."))
        return {card.packing: "", card.stop_pack: gr.Button(visible=False)}

    def delete(name: str | None) -> None:
        if name is None:  # the question whether to was answered with no
            return
        found = builds.find(name, workspace)
        if found.ref in served():
            raise UserError(t("The endpoint serves {build}; stop it first.", build=found.label))
        builds.delete(found, workspace, pool=pool.shared())
        space = size(found.size_bytes)
        gr.Info(t("{build} ({size}) was moved to the trash of the workspace.", build=found.label, size=space))

    refresh(card.start.click(toasts(start), [card.model, *widgets], None, **ACTION).then)
    refresh(card.stop.click(toasts(stop), None, None, **ACTION).then)
    refresh(card.table.click(toasts(open_build), None, card.chosen, **ACTION).then)
    refresh(card.chosen.input)
    card.report.connect(report, card.chosen)
    packing = [card.packing, card.stop_pack]
    packed = card.pack.connect_steps(pack, card.chosen, packing)
    card.stop_pack.click(stop_pack, None, packing, cancels=[packed], **ACTION)
    refresh(card.delete.click(toasts(delete), card.chosen, None, js=confirm, **ACTION).then)
    if card.push is not None:
        push_card.connect(card.push, card.chosen, workspace)
