"""What endpoints of this workspace were asked, and how they did."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune import monitor
from phi3tune.paths import Workspace
from phi3tune.ui import render_monitor
from phi3tune.ui.live import Cursor
from phi3tune.ui.render import section
from phi3tune.ui.wire import Updates

DAY = 86_400.0
# Seconds to look back, and between two looks: a summary reads every request of its span.
SPANS = {"last hour": (3600.0, 5), "last day": (DAY, 5), "last 7 days": (7 * DAY, 60), "last 30 days": (30 * DAY, 300)}
ALL_MODELS = "all models"


@dataclass
class MonitorCard:
    span: gr.Radio
    model: gr.Dropdown
    dashboard: gr.HTML

    @property
    def parts(self) -> list[Any]:
        """Everything that `update` may change."""
        return [self.model, self.dashboard]

    @property
    def looks(self) -> list[Any]:
        """What a person has chosen to see."""
        return [self.span, self.model]

    def update(self, cursor: Cursor, workspace: Workspace, span: object, model: object) -> Updates:
        """What has changed since this browser was last told; looked at now and then, or when asked otherwise."""
        name = span if isinstance(span, str) and span in SPANS else next(iter(SPANS))
        chosen = model if isinstance(model, str) and model != ALL_MODELS else None
        seconds, pause = SPANS[name]
        if not cursor.fresh("monitor look", (name, chosen, time.monotonic() // pause)):
            return {}
        since = time.time() - seconds
        every = monitor.summary(workspace, since=since)
        found = monitor.summary(workspace, since=since, model=chosen) if chosen else every
        html = render_monitor.dashboard(found, monitor.drift(workspace, chosen) if chosen else None)
        models = (ALL_MODELS, *(row["model"] for row in every["models"]))
        new: dict[Any, tuple[object, Any]] = {
            self.model: (models, gr.Dropdown(models)),
            self.dashboard: (html, html),
        }
        return {part: value for part, (seen, value) in new.items() if cursor.fresh(f"monitor-{part._id}", seen)}


def build() -> MonitorCard:
    with gr.Row(elem_classes="pt-bar-row"):
        gr.HTML(section("4", "Monitor", "sizes and times; texts are kept only if the endpoint is told to"))
        span = gr.Radio(list(SPANS), value=next(iter(SPANS)), label="Requests of the", elem_id="monitor-span")
        model = gr.Dropdown([ALL_MODELS], value=ALL_MODELS, label="Model", elem_id="monitor-model", min_width=180)
    return MonitorCard(span, model, gr.HTML(elem_id="monitor"))
