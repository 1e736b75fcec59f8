"""The Deploy tab: builds with their proof, an endpoint, and what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune.config import HostedConfig
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
    """`endpoint` and `monitor` are None where the page serves visitors: endpoints are for whoever owns the machine."""

    builds: BuildCard
    endpoint: EndpointCard | None
    monitor: MonitorCard | None
    endpoints: Endpoints

    @property
    def parts(self) -> list[Any]:
        """Everything that `update` may change."""
        return [*self.builds.parts, *(self.endpoint.parts if self.endpoint else [])]

    @property
    def model_pickers(self) -> list[gr.Dropdown]:
        """Pickers of models that a model in hand is put into."""
        return [self.builds.model, *([self.endpoint.models] if self.endpoint else [])]

    def in_hand(self, model: ModelRef) -> Updates:
        """All pickers set to one model; what is built already is not built from."""
        build = gr.update(value=model.ref) if model.kind == "torch" else gr.update()
        served = {self.endpoint.models: gr.update(value=[model.ref])} if self.endpoint else {}
        return {self.builds.model: build, **served}

    @property
    def busy(self) -> bool:
        """Whether an endpoint is up, so that its figures move."""
        return self.endpoint is not None and self.endpoints.state().url is not None

    @property
    def looks(self) -> list[Any]:
        """What a browser has chosen here: the last inputs of `update`."""
        return [self.builds.chosen, *([self.endpoint.language] if self.endpoint else [])]

    def update(self, cursor: Cursor, active: list[JobView], workspace: Workspace, *looks: Any) -> Updates:
        """What has changed since this browser was last told."""
        build, *language = looks
        updates = self.builds.update(cursor, active, workspace, build)
        if self.endpoint is not None:
            updates |= self.endpoint.update(cursor, self.endpoints, workspace, *language)
        return updates


def build(endpoints: Endpoints, rules: HostedConfig | None) -> DeployTab:
    """`rules` are those of a hosted app; None for the person at the machine, who may serve and publish, too."""
    builds = build_card.build(rules)
    endpoint = monitor = None
    if rules is None:
        with gr.Column(elem_classes="pt-card"):
            endpoint = endpoint_card.build()
        with gr.Column(elem_classes="pt-card"):
            monitor = monitor_card.build()
    return DeployTab(builds, endpoint, monitor, endpoints)


def connect(tab: DeployTab, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    build_card.connect(tab.builds, lambda: tab.endpoints.state().models, refresh, workspace)
    if tab.endpoint is not None:
        build_card.connect_serve(tab.builds, tab.endpoint.models, workspace)
        endpoint_card.connect(tab.endpoint, tab.endpoints, refresh, workspace)
    if tab.monitor is not None:
        monitor_card.connect(tab.monitor, workspace)
