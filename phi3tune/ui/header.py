"""Above all tabs: the name, the model in hand, the machine, the running job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from phi3tune import system
from phi3tune.jobs import JobView
from phi3tune.ui import render_jobs
from phi3tune.ui.live import Cursor
from phi3tune.ui.render import counted, esc, size
from phi3tune.ui.wire import Updates


@dataclass
class Header:
    model: gr.Dropdown
    device: gr.HTML
    chip: gr.HTML

    @property
    def parts(self) -> list[Component]:
        """Everything that `update` may change."""
        return [self.device, self.chip]

    def update(self, cursor: Cursor, active: Sequence[JobView]) -> Updates:
        """What has changed since this browser was last told."""
        new = {self.chip: render_jobs.chip(active), self.device: device_line()}
        return {part: text for part, text in new.items() if cursor.fresh(part.elem_id, text)}


def device_line() -> str:
    """`2 cores · 24.0 GB memory, 3.1 GB used`."""
    memory = system.memory()
    text = f"{counted(system.cores(), 'core')} · {size(memory.total - memory.available)} of {size(memory.total)} in use"
    return f'<span class="pt-device">{esc(text)}</span>'


def build() -> Header:
    with gr.Row(elem_id="header", equal_height=False):
        gr.HTML(
            '<h1 class="pt-brand">phi3tune<small>Tune Phi-3 on your chats, and see what it learned</small></h1>',
            elem_id="brand",
        )
        model = gr.Dropdown(
            [], value=None, label="Model in hand", elem_id="model-in-hand", min_width=220, allow_custom_value=True
        )
        with gr.Column(elem_id="machine", min_width=280):
            chip = gr.HTML(render_jobs.chip([]), elem_id="job-chip")
            device = gr.HTML(elem_id="device")
    return Header(model, device, chip)
