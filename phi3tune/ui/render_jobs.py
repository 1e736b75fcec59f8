"""Jobs as HTML: the chip in the header, the live panel, samples, notices, the table of runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from phi3tune.events import Notice, Sample
from phi3tune.jobs import JobView
from phi3tune.ui.render import (
    Column,
    bar,
    counted,
    duration,
    empty,
    esc,
    facts,
    notice,
    number,
    share,
    size,
    table,
)

DOING = {
    "train": "training",
    "evaluate": "evaluating",
    "export": "building",
    "download": "downloading",
    "prompts": "answering prompts",
}
STATES = {"queued": "waiting", "completed": "finished", "stopped": "stopped", "failed": "failed", "paused": "paused"}
SAMPLE_STEPS = 3


def doing(job: JobView) -> str:
    """`training`, `waiting`, `not responding`, `failed`."""
    if job.not_responding:
        return "not responding"
    return DOING[job.kind] if job.state == "running" else STATES[job.state]


def title(job: JobView) -> str:
    """What a person calls a job: an evaluation is told by the run it belongs to."""
    return job.folder.parent.parent.name if job.folder.parent.name == "eval" else job.title


def left(job: JobView) -> str:
    """`about 2 min left`, or what the job is doing where that cannot be told."""
    if job.state == "queued":
        return f"place {job.queue_position} in the queue" if job.queue_position else "starting"
    if job.eta_seconds is None or job.step >= job.steps:
        return job.phase
    return f"about {duration(max(1.0, job.eta_seconds))} left"


def progress(job: JobView, unit: str = "") -> str:
    """Bar and line of a job that runs or waits: phase, how far it is, how long it will take."""
    count = f"{unit}{job.step:,} of {job.steps:,}" if job.steps else ""
    line = " · ".join(dict.fromkeys(part for part in (job.phase or "starting", count, left(job)) if part))
    return bar(job.share_done, f"progress of {title(job)}") + f'<p class="pt-line">{esc(line)}</p>'


def chip(active: Sequence[JobView]) -> str:
    """The running job, for the header; a button that opens it."""
    if not active:
        return '<span class="pt-chip pt-idle">No job is running</span>'
    job = next((job for job in active if job.state == "running"), active[0])
    percent = f" · {100 * job.share_done:.0f} %" if job.state == "running" and job.steps else ""
    more = f" · {counted(len(active) - 1, 'more job')}" if len(active) > 1 else ""
    rest = f" · {left(job)}" if left(job) else ""
    return (
        f'<button type="button" class="pt-chip" title="Open this job"><i class="pt-dot" aria-hidden="true"></i>'
        f"<b>{esc(doing(job))} {esc(title(job))}</b><span>{esc(percent + rest + more)}</span></button>"
    )


def status(job: JobView, latest: Mapping[str, float], description: str = "") -> str:
    """The live panel: what the run does, how far it is, and its figures."""
    head = (
        f'<div class="pt-status-head"><span class="pt-state pt-{esc(job.state)}">{esc(doing(job))}</span>'
        f"<b>{esc(title(job))}</b><span class='pt-sub'>{esc(description)}</span></div>"
    )
    if job.active:
        head += progress(job, "step ")
    return f'<div class="pt-status">{head}{_figures(job, latest)}{_ending(job)}</div>'


def _figures(job: JobView, latest: Mapping[str, float]) -> str:
    shown = []
    if "loss" in latest:
        shown.append((number(latest["loss"]), "training loss"))
    if "eval_loss" in latest:
        shown.append((number(latest["eval_loss"]), "validation loss"))
    if "eval_token_accuracy" in latest:
        shown.append((share(latest["eval_token_accuracy"]), "validation token accuracy"))
    if "tokens_per_second" in latest:
        shown.append((f"{number(round(latest['tokens_per_second']))} tok/s", "speed"))
    if memory := job.memory_bytes or int(latest.get("memory_bytes", 0)):
        shown.append((size(memory), "memory of the worker"))
    if job.started is not None:
        shown.append((duration((job.ended or time.time()) - job.started), "time"))
    return facts(shown) if shown else ""


def _ending(job: JobView) -> str:
    if job.state == "completed":
        text = f"Finished after {counted(int(job.result.get('steps', job.step)), 'step')}."
        return notice("good", text, "Compare it with the base to see what it learned.")
    if job.state in ("stopped", "paused"):
        kept = f"a checkpoint of step {job.resume_step} is kept" if job.resume_step else "there is no checkpoint yet"
        reason = job.reason or job.state
        return notice("info", f"{reason[:1].upper()}{reason[1:]}; {kept}.", "Resume goes on from there.")
    if job.state == "failed":
        return notice("bad", f"Failed: {(job.reason or 'no reason was given').rstrip('.')}.")
    if job.not_responding:
        return notice("warning", "The worker is there but has not answered for a while.", "Stop it now if it stays so.")
    return ""


def samples(found: Sequence[Sample]) -> str:
    """Held-out prompts with the expected answer and the answers at the first and the latest steps."""
    if not found:
        return empty("Answers to held-out prompts appear here at each evaluation, so that you can watch them change.")
    steps = sorted({sample.step for sample in found})
    shown = steps if len(steps) <= SAMPLE_STEPS else [steps[0], *steps[-(SAMPLE_STEPS - 1) :]]
    answers: dict[tuple[str, str], dict[int, str]] = {}
    for sample in found:
        answers.setdefault((sample.prompt, sample.expected), {})[sample.step] = sample.answer
    columns = [Column("Prompt", wide=True), Column("Expected", wide=True)]
    columns += [Column(f"Step {step:,}", wide=True, html=True) for step in shown]
    rows = [
        [prompt, expected, *(_marked(by_step.get(step), expected) for step in shown)]
        for (prompt, expected), by_step in answers.items()
    ]
    return table(columns, rows)


def _marked(answer: str | None, expected: str) -> str:
    if answer is None:
        return ""
    right = answer.strip() == expected.strip()
    return f'<span class="pt-right" title="as expected">✓ {esc(answer)}</span>' if right else esc(answer)


def notices(found: Sequence[Notice]) -> str:
    """Warnings of a run, each once, with what to do about it."""
    unique = {(item.code, item.message): item for item in found}
    return "".join(notice(item.level, item.message, item.action) for item in unique.values())
