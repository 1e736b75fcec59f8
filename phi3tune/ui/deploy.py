"""The Deploy tab: builds with their proof, an endpoint, and what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune.engines.models import ModelRef
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace
from phi3tune.ui import build_card, endpoint_card, monitor_card
from phi3tune.ui.build_card import BuildCard
from phi3tune.ui.endpoint_card import EndpointCard, Endpoints
from phi3tune.ui.live import Cursor
from phi3tune.ui.monitor_card import MonitorCard
from phi3tune.ui.wire import Updates


@dataclass
class DeployTab:
    builds: BuildCard
    endpoint: EndpointCard
    monitor: MonitorCard
    endpoints: Endpoints

    @property
    def parts(self) -> list[Any]:
        """Everything that `update` may change."""
        return [*self.builds.parts, *self.endpoint.parts, *self.monitor.parts]

    @property
    def model_pickers(self) -> list[gr.Dropdown]:
        """Pickers of models that a model in hand is put into."""
        return [self.builds.model, self.endpoint.models]

    def in_hand(self, model: ModelRef) -> Updates:
        """Both pickers set to one model; what is built already is not built from."""
        build = gr.update(value=model.ref) if model.kind == "torch" else gr.update()
        return {self.builds.model: build, self.endpoint.models: gr.update(value=[model.ref])}

    @property
    def busy(self) -> bool:
        """Whether an endpoint is up, so that its figures move."""
        return self.endpoints.state().url is not None

    @property
    def looks(self) -> list[Any]:
        """What a browser has chosen here: the last inputs of `update`."""
        return [self.builds.chosen, self.endpoint.language, *self.monitor.looks]

    def update(self, cursor: Cursor, active: list[JobView], workspace: Workspace, *looks: Any) -> Updates:
        """What has changed since this browser was last told."""
        build, language, *seen = looks
        return {
            **self.builds.update(cursor, active, workspace, build),
            **self.endpoint.update(cursor, self.endpoints, workspace, language),
            **self.monitor.update(cursor, workspace, *seen),
        }


def build(endpoints: Endpoints) -> DeployTab:
    builds = build_card.build()
    with gr.Column(elem_classes="pt-card"):
        endpoint = endpoint_card.build()
    with gr.Column(elem_classes="pt-card"):
        monitor = monitor_card.build()
    return DeployTab(builds, endpoint, monitor, endpoints)


def connect(tab: DeployTab, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    build_card.connect(tab.builds, lambda: tab.endpoints.state().models, refresh, workspace)
    endpoint_card.connect(tab.endpoint, tab.endpoints, refresh, workspace)
    for chosen in tab.monitor.looks:
        refresh(chosen.input)
