"""Step 3 of the Train tab: what a run would take, the same as a command and as YAML, and Start."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from phi3tune import jobs
from phi3tune.config import TrainConfig, arguments, to_yaml
from phi3tune.paths import Workspace
from phi3tune.ui import render_plan
from phi3tune.ui.download import Download
from phi3tune.ui.render import empty, section
from phi3tune.ui.wire import ACTION, toasts

NO_PLAN = "Check the plan to see how long the run takes and whether it fits, before it starts."

Read = Callable[..., TrainConfig]


@dataclass
class PlanCard:
    check: gr.Button
    start: gr.Button
    plan: gr.HTML
    same: gr.Accordion
    command: gr.Code
    save: Download


def build() -> PlanCard:
    with gr.Row(elem_classes="pt-bar-row"):
        gr.HTML(section("3", "Plan"))
        with gr.Row(elem_classes="pt-buttons"):
            check = gr.Button("Check the plan", elem_id="check-plan", size="sm")
            save = Download.build("Save settings", "save-settings")
    plan = gr.HTML(empty(NO_PLAN), elem_id="plan")
    with gr.Accordion("The same on the command line", open=False, visible=False, elem_id="same") as same:
        command = gr.Code(
            "", language="shell", interactive=False, show_label=False, elem_id="command", buttons=["copy"]
        )
    start = gr.Button("Start training", variant="primary", elem_id="start")
    return PlanCard(check, start, plan, same, command, save)


def command_line(config: TrainConfig) -> str:
    """`phi3tune train ...` with every setting that is not at its default."""
    return shlex.join(["phi3tune", "train", *arguments(config)])


def connect(
    card: PlanCard,
    read: Read,
    inputs: list[Any],
    run: gr.Dropdown,
    refresh: Callable[[Any], None],
    workspace: Workspace,
) -> None:
    """`read(*inputs)` gives the settings of the form; `run` is set to the run that is started."""

    def check(*values: Any) -> list[Any]:
        from phi3tune.training import plan

        config = read(*values)
        return [render_plan.plan(plan.plan(config, workspace)), gr.Accordion(visible=True), command_line(config)]

    def start(*values: Any) -> str:
        folder = jobs.submit("train", read(*values), workspace)
        gr.Info(f"The run {folder.name} has been started.")
        return folder.name

    def save(*values: Any) -> str:
        config = read(*values)
        path = Path(tempfile.mkdtemp(prefix="phi3tune-settings-")) / "run.yaml"
        path.write_text(to_yaml(config), encoding="utf-8")
        return str(path)

    looking = {**ACTION, "show_progress": "minimal", "show_progress_on": [card.plan]}
    card.check.click(toasts(check), inputs, [card.plan, card.same, card.command], trigger_mode="once", **looking)
    refresh(card.start.click(toasts(start), inputs, run, **ACTION).then)
    card.save.connect(save, inputs)
