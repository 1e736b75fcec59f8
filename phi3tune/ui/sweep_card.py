"""Try several settings: one run for each combination, ranked in the Runs tab."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune import sweeps
from phi3tune.config import TrainConfig, differing
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui.render import counted
from phi3tune.ui.wire import ACTION, Updates, toasts
from phi3tune.ui.words import t

EXAMPLE = "learning_rate=1e-3,3e-3\nlora_rank=8,32"


@dataclass
class SweepCard:
    axes: gr.Textbox
    trials: gr.Textbox
    start: gr.Button


def build() -> SweepCard:
    with gr.Accordion(t("Try several settings"), open=False, elem_id="sweep-card"):
        axes = gr.Textbox(
            label=t("Settings to vary"),
            info=t("One a line, as setting=value,value. With random trials also setting=low..high."),
            placeholder=EXAMPLE,
            lines=2,
            max_lines=8,
            elem_id="sweep-axes",
        )
        with gr.Row(elem_classes="pt-bar-row"):
            trials = gr.Textbox(
                label=t("Random trials"),
                info=t("Trials drawn at random; empty runs every combination."),
                placeholder=t("may stay empty"),
                elem_id="sweep-trials",
                min_width=190,
            )
            start = gr.Button(t("Start the sweep"), elem_id="sweep-start", min_width=140, scale=0)
    return SweepCard(axes, trials, start)


def connect(
    card: SweepCard,
    read: Callable[..., TrainConfig],
    inputs: list[Any],
    started: Callable[[str], Updates],
    shown: list[Any],
    refresh: Callable[[Any], None],
    workspace: Workspace,
) -> None:
    """`read(*inputs)` gives the settings that all trials share; `started(sweep)` is what `shown` is set to."""

    def start(axes: str, trials: str, *values: Any) -> Updates:
        count = trials.strip()
        if count and not count.isdecimal():
            raise UserError(t("Random trials: {value} is not accepted: a whole number, or nothing", value=repr(count)))
        lines = [line.strip() for line in axes.splitlines() if line.strip()]
        sweep = sweeps.start(differing(read(*values)), lines, workspace, sample=int(count) if count else None)
        runs = counted(len(sweep.trials), "run")
        gr.Info(t("The sweep {name} has been started: {runs}. Watch the table fill.", name=sweep.id, runs=runs))
        return started(sweep.id)

    begun = card.start.click(toasts(start), [card.axes, card.trials, *inputs], shown, **ACTION)
    refresh(begun.then)
