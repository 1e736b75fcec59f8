"""What endpoints of this workspace were asked, and how they did.

A summary reads every request of its span, which takes seconds where there are many. So it is made only while its card
is open, on a timer of its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune import monitor
from phi3tune.paths import Workspace
from phi3tune.ui import render_monitor
from phi3tune.ui.render import section
from phi3tune.ui.wire import POLL, Updates
from phi3tune.ui.words import N, t

DAY = 86_400.0
# Seconds to look back, and between two looks.
SPANS = {
    N("last hour"): (3600.0, 5.0),
    N("last day"): (DAY, 5.0),
    N("last 7 days"): (7 * DAY, 60.0),
    N("last 30 days"): (30 * DAY, 300.0),
}
ALL_MODELS = N("all models")


@dataclass
class MonitorCard:
    card: gr.Accordion
    span: gr.Radio
    model: gr.Dropdown
    dashboard: gr.HTML
    timer: gr.Timer


def build() -> MonitorCard:
    hint = t("sizes and times of what endpoints were asked; texts are kept only if the endpoint is told to")
    gr.HTML(section("4", t("Monitor"), hint))
    with gr.Accordion(t("Requests, speed and errors"), open=False, elem_id="monitor-card") as card:
        with gr.Row(elem_classes="pt-bar-row"):
            spans = [(t(name), name) for name in SPANS]
            span = gr.Radio(spans, value=next(iter(SPANS)), label=t("Requests of the"), elem_id="monitor-span")
            models = [(t(ALL_MODELS), ALL_MODELS)]
            model = gr.Dropdown(models, value=ALL_MODELS, label=t("Model"), elem_id="monitor-model", min_width=180)
        dashboard = gr.HTML(elem_id="monitor")
    return MonitorCard(card, span, model, dashboard, gr.Timer(active=False))


def connect(card: MonitorCard, workspace: Workspace) -> None:
    def look(span: object, model: object) -> Updates:
        name = span if isinstance(span, str) and span in SPANS else next(iter(SPANS))
        chosen = model if isinstance(model, str) and model != ALL_MODELS else None
        seconds, pause = SPANS[name]
        since = time.time() - seconds
        every = monitor.summary(workspace, since=since)
        found = monitor.summary(workspace, since=since, model=chosen) if chosen else every
        drift = monitor.drift(workspace, chosen) if chosen else None
        models = [(t(ALL_MODELS), ALL_MODELS), *((row["model"], row["model"]) for row in every["models"])]
        return {
            card.dashboard: render_monitor.dashboard(found, drift),
            card.model: gr.Dropdown(models),
            card.timer: gr.Timer(pause, active=True),
        }

    events: list[Any] = [card.card.expand, card.timer.tick, card.span.input, card.model.input]
    gr.on(events, look, [card.span, card.model], [card.dashboard, card.model, card.timer], **POLL)
    card.card.collapse(lambda: gr.Timer(active=False), None, card.timer, **POLL)
