"""The Train tab: the chosen data in a line, settings, plan and Start above; the run that is shown below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune.config import HostedConfig, TrainConfig
from phi3tune.paths import Workspace
from phi3tune.ui import data_actions, plan_card, render_data, settings_card, sweep_card, train_live
from phi3tune.ui.data_tab import DataTab
from phi3tune.ui.plan_card import PlanCard
from phi3tune.ui.settings_card import SettingsCard
from phi3tune.ui.sweep_card import SweepCard
from phi3tune.ui.train_live import LiveCard
from phi3tune.ui.wire import Updates, known_dataset
from phi3tune.ui.words import t


@dataclass
class TrainTab:
    data: gr.HTML
    change: gr.Button
    settings: SettingsCard
    plan: PlanCard
    sweep: SweepCard
    live: LiveCard


def build(rules: HostedConfig | None) -> TrainTab:
    """`rules` are those of a hosted app; None for the person at the machine."""
    with gr.Row(elem_classes="pt-card pt-bar-row", elem_id="train-data-row"):
        data = gr.HTML(render_data.chosen("", None), elem_id="train-data")
        change = gr.Button(t("Change the data"), size="sm", elem_id="train-data-change", scale=0, min_width=140)
    with gr.Row(equal_height=False):
        with gr.Column(elem_classes="pt-card", scale=3, min_width=340):
            settings = settings_card.build(rules)
        with gr.Column(elem_classes="pt-card", scale=2, min_width=320):
            plan = plan_card.build()
            sweep = sweep_card.build()
    return TrainTab(data, change, settings, plan, sweep, train_live.build())


def connect(
    tab: TrainTab,
    of_data: DataTab,
    swept: Callable[[str], Updates],
    shown: list[Any],
    refresh: Callable[[Any], None],
    workspace: Workspace,
) -> None:
    """`swept(sweep)` is what `shown` is set to when a sweep begins."""
    own = list(of_data.settings.values())
    names = list(tab.settings.widgets)

    def read(dataset: object, *values: Any) -> TrainConfig:
        given = data_actions.read_settings(values[: len(own)], workspace)
        return settings_card.read(names, values[len(own) :], given, known_dataset(dataset, workspace))

    settings_card.connect(tab.settings, refresh, workspace)
    inputs = [of_data.dataset, *own, *tab.settings.values]
    plan_card.connect(tab.plan, read, inputs, tab.live.run, refresh, workspace)
    sweep_card.connect(tab.sweep, read, inputs, swept, shown, refresh, workspace)
    train_live.connect(tab.live, refresh, workspace)
