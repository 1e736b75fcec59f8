"""The Train tab: data, settings, plan and Start above; the run that is shown below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune.config import TrainConfig
from phi3tune.paths import Workspace
from phi3tune.ui import plan_card, settings_card, sweep_card, train_data, train_live
from phi3tune.ui.plan_card import PlanCard
from phi3tune.ui.settings_card import SettingsCard
from phi3tune.ui.sweep_card import SweepCard
from phi3tune.ui.train_data import DataCard
from phi3tune.ui.train_live import LiveCard
from phi3tune.ui.wire import Updates, known_dataset


@dataclass
class TrainTab:
    data: DataCard
    settings: SettingsCard
    plan: PlanCard
    sweep: SweepCard
    live: LiveCard


def build() -> TrainTab:
    with gr.Row(equal_height=False):
        data = train_data.build()
        with gr.Column(elem_classes="pt-card", scale=2, min_width=320):
            settings = settings_card.build()
            plan = plan_card.build()
            sweep = sweep_card.build()
    return TrainTab(data, settings, plan, sweep, train_live.build())


def connect(
    tab: TrainTab,
    swept: Callable[[str], Updates],
    shown: list[Any],
    refresh: Callable[[Any], None],
    workspace: Workspace,
) -> None:
    """`swept(sweep)` is what `shown` is set to when a sweep begins."""
    own = list(tab.data.settings.values())

    def read(dataset: object, *values: Any) -> TrainConfig:
        of_data = train_data.read_settings(values[: len(own)], workspace)
        return settings_card.read(values[len(own) :], of_data, known_dataset(dataset, workspace))

    train_data.connect(tab.data, tab.settings.model, tab.settings.widgets["max_length"], workspace)
    settings_card.connect(tab.settings, refresh, workspace)
    inputs = [tab.data.dataset, *own, *tab.settings.values]
    plan_card.connect(tab.plan, read, inputs, tab.live.run, refresh, workspace)
    sweep_card.connect(tab.sweep, read, inputs, swept, shown, refresh, workspace)
    train_live.connect(tab.live, refresh, workspace)
