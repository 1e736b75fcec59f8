"""The way through the app in one line: what is done, what comes next; each step leads to its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import gradio as gr

from phi3tune import data, jobs, votes
from phi3tune.config import EvalConfig
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace
from phi3tune.ui import live
from phi3tune.ui.render import esc
from phi3tune.ui.words import N, t

Step = Literal["data", "train", "compare", "export", "talk"]
NAMES: dict[Step, str] = {
    "data": N("Data"),
    "train": N("Train"),
    "compare": N("Compare"),
    "export": N("Export"),
    "talk": N("Talk"),
}
NEXT: dict[Step, str] = {
    "data": N("Next: choose the chats that the model learns from."),
    "train": N("Next: press Start training."),
    "compare": N("Next: compare {run} with the model it came from."),
    "export": N("Next: export {run}, small and fast, with a proof that it still answers the same."),
    "talk": N("Next: talk to {run} beside its base, and vote for the better answer."),
}
TRAINING = N("{run} is learning now. Watch it in the Train tab; the next step is to compare it.")
ALL_DONE = N("All steps are done for {run}. More data, other settings? Start again at Data or Train.")
OPEN_STEP = (
    "element.addEventListener('click', e => { const step = e.target.closest('[data-step]');"
    " if (step) trigger('click', {step: step.dataset.step}); })"
)


@dataclass(frozen=True)
class Progress:
    """How far somebody is: the steps that are done, the newest run that has finished, which they are about, and the one
    that is being trained."""

    done: frozenset[Step]
    run: str
    training: str = ""

    @property
    def next(self) -> Step | None:
        return next((step for step in NAMES if step not in self.done), None)


def progress(runs: Sequence[JobView], workspace: Workspace) -> Progress:
    """Read from the workspace: `runs` are its runs, oldest first."""
    done: set[Step] = set()
    if runs or any(info.kind == "stored" for info in data.list_datasets(workspace)):
        done.add("data")
    training = next((job.id for job in runs if job.state == "running"), "")
    trained = [job.id for job in runs if job.state == "completed"]
    if not trained:
        return Progress(frozenset(done), "", training)
    run = trained[-1]
    done.add("train")
    if any(_compares(job, run) for job in live.evaluations(workspace)):
        done.add("compare")
    if any(job.state == "completed" for job in live.exports_of(run, workspace)):
        done.add("export")
    if workspace.database.exists() and any(_of(record.model, run) for record in votes.tally(workspace).models):
        done.add("talk")
    return Progress(frozenset(done), run, training)


def _compares(job: JobView, run: str) -> bool:
    config = jobs.read_config(job.folder) if job.state == "completed" else None
    models = config.models if isinstance(config, EvalConfig) else []
    return len(models) > 1 and any(_of(model, run) for model in models)


def _of(model: str, run: str) -> bool:
    return model.partition("/")[0] == run


def path(now: Progress) -> str:
    """The line, as a list of buttons, and a sentence on what to do next."""
    steps = []
    for number, (step, name) in enumerate(NAMES.items(), 1):
        state = "done" if step in now.done else "next" if step == now.next else "later"
        current = ' aria-current="step"' if state == "next" else ""
        mark = "✓" if state == "done" else str(number)
        spoken = f'<span class="pt-hidden">{esc(t("done"))}</span>' if state == "done" else ""
        steps.append(
            f'<li class="pt-{state}"><button type="button" data-step="{step}"{current}>'
            f'<i aria-hidden="true">{mark}</i>{esc(t(name))}{spoken}</button></li>'
        )
    if now.training:
        text = t(TRAINING, run=now.training)
    else:
        text = t(ALL_DONE, run=now.run) if now.next is None else t(NEXT[now.next], run=now.run)
    return (
        f'<nav class="pt-path" aria-label="{esc(t("The way through the app"))}"><ol>{"".join(steps)}</ol>'
        f"<p>{esc(text)}</p></nav>"
    )


def build() -> gr.HTML:
    return gr.HTML(path(Progress(frozenset(), "")), elem_id="path", js_on_load=OPEN_STEP, min_height=40)
