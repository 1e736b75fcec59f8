"""The lower half of the Train tab: the run that is shown, its curves and answers, and what to do with it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from phi3tune import archive, builds, jobs
from phi3tune.config import Config, ExportConfig, TrainConfig
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace
from phi3tune.ui import about_card, charts, forms, live, render_builds, render_jobs, words
from phi3tune.ui.about_card import AboutCard
from phi3tune.ui.download import Download
from phi3tune.ui.live import Cursor, Logs
from phi3tune.ui.render import empty, esc, section
from phi3tune.ui.theme import SERIES_COLORS
from phi3tune.ui.wire import ACTION, Updates, toasts
from phi3tune.ui.words import N, in_browser, t

NO_RUN = N("Nothing has been trained yet. Press Start training, and this place shows the run as it learns.")
TITLES = {
    "loss": N("Loss"),
    "token_accuracy": N("Accuracy"),
    "learning_rate": N("Learning rate"),
    "grad_norm": N("Gradient norm"),
    "entropy": N("Entropy of the predictions (nats)"),
    "tokens_per_second": N("Tokens per second"),
}
MEANINGS = {
    "loss": N("How wrong the model is. Both should fall; validation rising again means learning by heart."),
    "token_accuracy": N("How often its first choice is right, for the next token or for the label."),
    "learning_rate": N("How far each step moves the model: up at first, then slowly down."),
    "grad_norm": N("How strongly a step pulls at the model. Sudden peaks are a sign of bad rows or too high a rate."),
    "entropy": N("How unsure the model is. Near 0 it knows one answer only; it should fall, not collapse."),
    "tokens_per_second": N("How many tokens it learns from in a second."),
}
PAIRS = (("loss", "token_accuracy"), ("learning_rate", "grad_norm"), ("entropy", "tokens_per_second"))
FORMATS = {"token_accuracy": ".1%", "learning_rate": ".1e"}


@dataclass
class LiveCard:
    run: gr.Dropdown
    stop: gr.Button
    stop_now: gr.Button
    pause: gr.Button
    resume: gr.Button
    delete: gr.Button
    status: gr.HTML
    notices: gr.HTML
    about: AboutCard
    ended: gr.Row
    further: gr.Button
    clone: gr.Button
    pack: Download
    after: gr.Column
    compare: gr.Button
    chat: gr.Button
    format: forms.Widget
    precision: forms.Widget
    export: gr.Button
    export_status: gr.HTML
    curves: gr.Column
    smoothing: gr.Slider
    plots: dict[str, gr.LinePlot]
    samples: gr.HTML

    @property
    def parts(self) -> list[Any]:
        """Everything that `update` may change."""
        buttons = [self.stop, self.stop_now, self.pause, self.resume, self.delete]
        panels = [self.status, self.notices, self.ended, self.after, self.export_status, self.curves, self.samples]
        return [self.run, *buttons, *panels, self.format, self.precision, *self.plots.values()]

    def update(
        self, cursor: Cursor, logs: Logs, runs: list[JobView], shown: str, smoothing: float, workspace: Workspace
    ) -> Updates:
        """What this browser must be sent so that it shows `shown` as it is now."""
        new: dict[Any, tuple[object, Any]] = {}
        names = tuple(job.id for job in runs)
        new[self.run] = ((names, shown), gr.update(choices=names[::-1], value=shown or None))
        job = next((job for job in runs if job.id == shown), None)
        log = logs.of(job) if job is not None else None
        if job is None or log is None:
            new[self.status] = ("", empty(t(NO_RUN), picture="chart"))
        else:
            config = jobs.read_config(job.folder)
            text = render_jobs.status(job, log.latest, _description(config))
            new[self.status] = (text, text)
            new[self.notices] = ((found := render_jobs.notices(log.notices)), found)
            new[self.samples] = ((answers := render_jobs.samples(log.samples)), answers)
            made = _builds(job, workspace) if job.state == "completed" else ""
            new[self.export_status] = (made, made)
            classifies = isinstance(config, TrainConfig) and config.task == "classification"
            new[self.format] = (classifies, gr.update(value="portable-onnx" if classifies else "onnx"))
            new[self.precision] = (classifies, gr.update(value="fp32" if classifies else "int4"))
        new |= self._switches(job)
        charted = log is not None and bool(log.metrics)
        new[self.curves] = (charted, gr.update(visible=charted))
        updates = {part: value for part, (seen, value) in new.items() if cursor.fresh(part.elem_id, seen)}
        if job is None or log is None or not log.metrics:
            return updates
        # A chart learns of new series one look after their values: see `charts.legend`.
        drawn = [(plot, cursor.legends.get(name)) for name, plot in self.plots.items()]
        redrawn = [(plot, legend) for plot, legend in drawn if legend and cursor.fresh(f"legend {plot._id}", legend)]
        if redrawn:
            return updates | {plot: gr.update(color_title=legend) for plot, legend in redrawn}
        if cursor.chart_due(job.id, log.version, smoothing, ended=not job.active):
            for name, plot in self.plots.items():
                updates[plot] = curves = charts.frame(log.metrics, name, smoothing)
                cursor.legends[name] = charts.legend(curves["series"])
        return updates

    def _switches(self, job: JobView | None) -> dict[Any, tuple[object, Any]]:
        state = job.state if job is not None else ""
        active = state in ("running", "queued")
        visible = {
            self.stop: active,
            self.stop_now: active,
            self.pause: active,
            self.resume: state in jobs.RESUMABLE_STATES,
            self.delete: bool(state) and not active,
        }
        new: dict[Any, tuple[object, Any]] = {
            button: (wanted, gr.update(visible=wanted)) for button, wanted in visible.items()
        }
        ended = bool(state) and not active
        new[self.ended] = (ended, gr.update(visible=ended))
        new[self.after] = (state == "completed", gr.update(visible=state == "completed"))
        return new


def _builds(job: JobView, workspace: Workspace) -> str:
    built = [build for build in builds.list_builds(workspace) if build.path.is_relative_to(job.folder)]
    return render_builds.exports(live.exports_of(job.id, workspace), built)


def _description(config: Config) -> str:
    if not isinstance(config, TrainConfig):
        return ""
    named = {"model": config.model, "data": config.dataset, "method": config.method, "seed": config.seed}
    if config.method == "lora":
        return t("{model} on {data} · {method}, rank {rank} · seed {seed}", **named, rank=config.lora_rank)
    return t("{model} on {data} · {method} · seed {seed}", **named)


def build() -> LiveCard:
    with gr.Column(elem_classes="pt-card"):
        with gr.Row(elem_classes="pt-bar-row"):
            gr.HTML(section("4", t("Watch it learn")))
            run = gr.Dropdown(
                [], value=None, label=t("Run"), elem_id="run", min_width=200, scale=0, allow_custom_value=True
            )
            with gr.Row(elem_classes="pt-buttons"):
                stop = gr.Button(t("Stop and save"), elem_id="stop", visible=False, size="sm")
                stop_now = gr.Button(t("Stop now"), variant="stop", elem_id="stop-now", visible=False, size="sm")
                pause = gr.Button(t("Pause"), elem_id="pause", visible=False, size="sm")
                resume = gr.Button(t("Resume"), variant="primary", elem_id="resume", visible=False, size="sm")
                delete = gr.Button(t("Delete"), variant="stop", elem_id="delete", visible=False, size="sm")
        status = gr.HTML(empty(t(NO_RUN), picture="chart"), elem_id="live-status")
        gr.HTML(render_jobs.meanings(), elem_id="live-meanings")
        notices = gr.HTML(elem_id="notices")
        with gr.Row(visible=False, elem_id="ended", elem_classes="pt-buttons") as ended:
            further = gr.Button(t("Train further"), elem_id="further", size="sm")
            clone = gr.Button(t("Clone with changes"), elem_id="clone", size="sm")
            pack = Download.build(t("Download the run"), "archive")
        written = about_card.build()
        with gr.Column(visible=False, elem_id="after", elem_classes="pt-after") as after:
            with gr.Row(elem_classes="pt-bar-row"):
                gr.HTML(section("5", t("Use it")))
                with gr.Row(elem_classes="pt-buttons"):
                    compare = gr.Button(t("Compare with the base"), variant="primary", elem_id="compare", size="sm")
                    chat = gr.Button(t("Chat with it"), elem_id="chat", size="sm")
                    export = gr.Button(t("Export"), elem_id="export", size="sm")
            with gr.Row():
                form = forms.widget(ExportConfig, "format", elem_id="export-format", min_width=280)
                precision = forms.widget(ExportConfig, "precision", elem_id="export-precision", min_width=280)
            export_status = gr.HTML(elem_id="export-status")
        with gr.Column(visible=False, elem_id="curves") as curves:
            plots: dict[str, gr.LinePlot] = {}
            for pair in PAIRS:
                with gr.Row():
                    plots |= {name: _plot(name) for name in pair}
            smoothing = gr.Slider(
                0.0,
                0.95,
                value=0.0,
                step=0.05,
                label=t("Smoothing of the training curves"),
                info=t("0 shows every point as it was measured; higher values average over more of the steps before."),
                elem_id="smoothing",
            )
            gr.HTML(
                f'<h3 class="pt-small-heading">{esc(t("Answers to held-out prompts"))}</h3><p class="pt-sub">'
                f"{esc(t('What the model answers to prompts that it does not learn from, at each evaluation.'))}</p>"
            )
            samples = gr.HTML(elem_id="samples")
    return LiveCard(
        run, stop, stop_now, pause, resume, delete, status, notices, written, ended, further, clone, pack, after,
        compare, chat, form, precision, export, export_status, curves, smoothing, plots, samples,
    )  # fmt: skip


def _plot(name: str) -> gr.LinePlot:
    with gr.Column(min_width=320):
        plot = _chart(name)
        gr.HTML(f'<p class="pt-sub">{esc(t(MEANINGS[name]))}</p>')
    return plot


def _chart(name: str) -> gr.LinePlot:
    return gr.LinePlot(
        x="step",
        y="value",
        color="series",
        color_map=_colors(),
        title=t(TITLES[name]),
        x_title=t("step"),
        y_title=" ",
        color_title=" ",
        y_axis_format=FORMATS.get(name),
        height=340,
        min_width=320,
        elem_id=f"chart-{name.replace('_', '-')}",
        show_label=False,
        buttons=[],
    )


def _colors() -> dict[str, str]:
    """Colours of the series under their names in every language."""
    spoken = words.catalogue()
    return {said: color for name, color in SERIES_COLORS.items() for said in (name, spoken.get(name, name))}


def connect(card: LiveCard, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    """`refresh(trigger)` has the page look at the disk again when `trigger` fires: at once, not at the next tick."""

    def stop(run: str) -> None:
        jobs.stop(workspace.run(run), workspace)
        gr.Info(t("{run} finishes its step, saves a checkpoint and stops; Resume goes on from there.", run=run))

    def stop_now(run: str) -> None:
        jobs.stop(workspace.run(run), workspace, now=True)
        gr.Info(t("{run} was stopped; its last checkpoint is kept, and Resume goes on from there.", run=run))

    def pause(run: str) -> None:
        jobs.pause(workspace.run(run), workspace)
        gr.Info(t("{run} saves and gives the device free; Resume puts it in front of the queue.", run=run))

    def resume(run: str) -> None:
        jobs.resume(workspace.run(run), workspace)
        gr.Info(t("{run} goes on from its last checkpoint: watch it below.", run=run))

    def delete(run: str) -> None:
        if run:
            jobs.delete(workspace.run(run), workspace)
            gr.Info(t("{run} was moved to the trash; Storage, above the tabs, empties it.", run=run))

    def export(run: str, *values: str) -> None:
        config = forms.read(ExportConfig, ["format", "precision"], values, model=run)
        jobs.submit("export", config, workspace)
        gr.Info(t("The export of {run} has been started: its proof appears here when it is done.", run=run))

    def pack(run: str) -> str:
        name = workspace.run(run).name
        folder = Path(tempfile.mkdtemp(prefix="phi3tune-run-"))
        return str(archive.export_run(name, workspace, folder / f"{name}.zip"))

    question = in_browser("Move {run} with its checkpoints to the trash?")
    confirm = f"run => run && confirm({question}.replace('{{run}}', run)) ? run : ''"
    actions = ((card.stop, stop), (card.stop_now, stop_now), (card.pause, pause), (card.resume, resume))
    for button, action in actions:
        refresh(button.click(toasts(action), card.run, None, **ACTION).then)
    refresh(card.delete.click(toasts(delete), card.run, None, js=confirm, **ACTION).then)
    refresh(card.export.click(toasts(export), [card.run, card.format, card.precision], None, **ACTION).then)
    card.pack.connect(pack, card.run)
    about_card.connect(card.about, card.run, refresh, workspace)
    refresh(card.run.input)
    refresh(card.smoothing.change)
