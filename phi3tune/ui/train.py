"""The Train tab: data, settings and Start above; the run that is shown below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune import jobs
from phi3tune.config import DatasetConfig, TrainConfig
from phi3tune.paths import Workspace
from phi3tune.ui import forms, train_data, train_live
from phi3tune.ui.render import section
from phi3tune.ui.train_data import DataCard
from phi3tune.ui.train_live import LiveCard
from phi3tune.ui.wire import ACTION, POLL, known_dataset, toasts

SIMPLE = forms.fields(TrainConfig, "simple", without=("dataset", "model"))
ADVANCED = forms.fields(TrainConfig, "advanced", without=list(DatasetConfig.model_fields))


@dataclass
class TrainTab:
    data: DataCard
    model: gr.Dropdown
    simple: dict[str, forms.Widget]
    advanced: dict[str, forms.Widget]
    more: gr.Accordion
    start: gr.Button
    live: LiveCard

    @property
    def settings(self) -> dict[str, forms.Widget]:
        """Every setting of the form by name, but for the data's own."""
        return {**self.simple, **self.advanced}


def build() -> TrainTab:
    with gr.Row(equal_height=False):
        data = train_data.build()
        with gr.Column(elem_classes="pt-card", scale=2, min_width=320):
            gr.HTML(section("2", "Settings", "the defaults are a good first run"))
            info = forms.sentence(TrainConfig, "model")
            model = gr.Dropdown(
                [], value=None, label="Base model", info=info, elem_id="train-model", allow_custom_value=True
            )
            with gr.Row():
                simple = {name: forms.widget(TrainConfig, name, min_width=190) for name in SIMPLE}
            with gr.Accordion(advanced_label(0), open=False, elem_id="advanced") as more, gr.Row():
                advanced = {name: forms.widget(TrainConfig, name, min_width=190) for name in ADVANCED}
            start = gr.Button("Start training", variant="primary", elem_id="start")
    return TrainTab(data, model, simple, advanced, more, start, train_live.build())


def advanced_label(changed: int) -> str:
    """The badge of the advanced settings."""
    return f"Advanced settings · {changed} changed" if changed else "Advanced settings"


def connect(tab: TrainTab, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    names, widgets = list(tab.settings), list(tab.settings.values())
    own = list(tab.data.settings.values())

    def start(dataset: object, model: object, *values: Any) -> str:
        of_data = train_data.read_settings(values[: len(own)], workspace)
        config = forms.read(
            TrainConfig,
            [*of_data, *names],
            [*of_data.values(), *values[len(own) :]],
            dataset=known_dataset(dataset, workspace),
            model=str(model or ""),
        )
        folder = jobs.submit("train", config, workspace)
        gr.Info(f"The run {folder.name} has been started.")
        return folder.name

    def badge(*values: Any) -> gr.Accordion:
        return gr.Accordion(label=advanced_label(forms.changed(TrainConfig, ADVANCED, values)))

    train_data.connect(tab.data, tab.model, tab.advanced["max_length"], workspace)
    train_live.connect(tab.live, refresh, workspace)
    started = tab.start.click(toasts(start), [tab.data.dataset, tab.model, *own, *widgets], tab.live.run, **ACTION)
    refresh(started.then)
    for setting in tab.advanced.values():
        setting.change(badge, list(tab.advanced.values()), tab.more, **POLL)
