"""Step 3 of the Train tab: what a run would take, the same as a command and as YAML, and Start."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from phi3tune import jobs
from phi3tune.config import TrainConfig, arguments, to_yaml
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import render_plan
from phi3tune.ui.download import Download
from phi3tune.ui.render import duration, empty, notice, section
from phi3tune.ui.wire import ACTION, Updates, stepwise, toasts
from phi3tune.ui.words import N, t
from phi3tune.ui.work import Report, Turn, Work

if TYPE_CHECKING:
    from phi3tune.training.plan import Plan

NO_PLAN = N("Check the plan to see how long the run takes and whether it fits, before it starts.")

Read = Callable[..., TrainConfig]


@dataclass
class PlanCard:
    check: gr.Button
    stop: gr.Button
    start: gr.Button
    plan: gr.HTML
    same: gr.Accordion
    command: gr.Code
    save: Download
    turn: gr.State


def build() -> PlanCard:
    with gr.Row(elem_classes="pt-bar-row"):
        gr.HTML(section("3", t("Plan"), t("what the run takes: time, memory, disk")))
        with gr.Row(elem_classes="pt-buttons"):
            check = gr.Button(t("Check the plan"), elem_id="check-plan", size="sm")
            stop = gr.Button(t("Stop"), variant="stop", elem_id="stop-plan", size="sm", visible=False)
            save = Download.build(t("Save settings"), "save-settings")
    plan = gr.HTML(empty(t(NO_PLAN)), elem_id="plan")
    with gr.Accordion(t("The same on the command line"), open=False, visible=False, elem_id="same") as same:
        command = gr.Code(
            "", language="shell", interactive=False, show_label=False, elem_id="command", buttons=["copy"]
        )
    start = gr.Button(t("Start training"), variant="primary", elem_id="start", elem_classes="pt-main")
    return PlanCard(check, stop, start, plan, same, command, save, gr.State(Turn()))


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

    def check(turn: Turn, *values: Any) -> Iterator[Updates]:
        number, config, here = turn.begin(), read(*values), workspace.here()

        def work_out(_: Report) -> Plan:
            from phi3tune.training import plan

            return plan.plan(config, here)

        planning = Work(work_out)
        for seconds, _ in planning:
            if turn.over(number):
                return
            text = t("Working out the plan: {time} so far.", time=duration(seconds))
            yield {card.plan: notice("info", text), card.stop: gr.Button(visible=True)}
        try:
            found = planning.result
        except UserError:
            yield {card.plan: empty(t(NO_PLAN)), card.stop: gr.Button(visible=False)}
            raise
        yield {
            card.plan: render_plan.plan(found),
            card.stop: gr.Button(visible=False),
            card.same: gr.Accordion(visible=True),
            card.command: command_line(config),
        }

    def stop(turn: Turn) -> Updates:
        turn.stop()
        return {card.plan: empty(t(NO_PLAN)), card.stop: gr.Button(visible=False)}

    def start(*values: Any) -> str:
        folder = jobs.submit("train", read(*values), workspace)
        gr.Info(t("The run {name} has been started: watch it below.", name=folder.name))
        return folder.name

    def save(*values: Any) -> str:
        config = read(*values)
        path = Path(tempfile.mkdtemp(prefix="phi3tune-settings-")) / "run.yaml"
        path.write_text(to_yaml(config), encoding="utf-8")
        return str(path)

    shown = [card.plan, card.stop, card.same, card.command]
    card.check.click(stepwise(check), [card.turn, *inputs], shown, trigger_mode="once", **ACTION)
    card.stop.click(stop, card.turn, [card.plan, card.stop], **ACTION)
    refresh(card.start.click(toasts(start), inputs, run, **ACTION).then)
    card.save.connect(save, inputs)
