"""Above all tabs: the name, the model in hand, the machine, its storage, the language, the running job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from phi3tune import system
from phi3tune.jobs import JobView
from phi3tune.ui import render_jobs
from phi3tune.ui.language import LANGUAGES
from phi3tune.ui.live import Cursor
from phi3tune.ui.render import counted, esc, size
from phi3tune.ui.wire import Updates
from phi3tune.ui.words import t

PRESSED = (
    "element.addEventListener('click', e => { const act = e.target.closest('[data-act]');"
    " if (act) trigger('click', {act: act.dataset.act, job: act.dataset.job || ''}); })"
)


@dataclass
class Header:
    model: gr.Dropdown
    device: gr.HTML
    chip: gr.HTML
    stop: gr.Button
    storage: gr.Button

    @property
    def parts(self) -> list[Component]:
        """Everything that `update` may change."""
        return [self.device, self.chip, self.stop]

    def update(self, cursor: Cursor, active: Sequence[JobView]) -> Updates:
        """What has changed since this browser was last told."""
        chip, device = render_jobs.chip(active, cursor.ended), device_line()
        new = {
            self.chip: (chip, chip),
            self.device: (device, device),
            self.stop: (bool(active), gr.update(visible=bool(active))),
        }
        return {part: value for part, (seen, value) in new.items() if cursor.fresh(part.elem_id, seen)}


def device_line() -> str:
    """`2 cores · 3.1 GB of 24.0 GB in use`."""
    memory = system.memory()
    text = t(
        "{cores} · {used} of {all} memory in use",
        cores=counted(system.cores(), "core"),
        used=size(memory.total - memory.available),
        all=size(memory.total),
    )
    return f'<span class="pt-device">{esc(text)}</span>'


def languages() -> str:
    """Buttons that the page's own script listens to: it sets a cookie and loads the page again."""
    buttons = "".join(
        f'<button type="button" class="pt-link" data-set-language="{code}" lang="{code}">{esc(name)}</button>'
        for code, name in LANGUAGES.items()
    )
    return f'<div class="pt-languages" role="group" aria-label="{esc(t("Language"))}">{buttons}</div>'


def build() -> Header:
    with gr.Row(elem_id="header", equal_height=False):
        motto = t("Tune Phi-3 on your chats, and see what it learned")
        gr.HTML(f'<h1 class="pt-brand">phi3tune<small>{esc(motto)}</small></h1>', elem_id="brand")
        model = gr.Dropdown(
            [], value=None, label=t("Model in hand"), elem_id="model-in-hand", min_width=220, allow_custom_value=True
        )
        with gr.Column(elem_id="machine", min_width=280):
            with gr.Row(elem_classes="pt-buttons", elem_id="job"):
                chip = gr.HTML(render_jobs.chip([]), elem_id="job-chip", js_on_load=PRESSED)
                stop = gr.Button(t("Stop"), variant="stop", size="sm", visible=False, elem_id="job-stop", min_width=70)
            with gr.Row(elem_classes="pt-buttons", elem_id="machine-line"):
                device = gr.HTML(elem_id="device", min_height=20)
                storage = gr.Button(t("Storage"), size="sm", elem_id="storage-open", min_width=80)
                gr.HTML(languages(), elem_id="languages")
    return Header(model, device, chip, stop, storage)
