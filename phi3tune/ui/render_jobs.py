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
    explained,
    facts,
    notice,
    number,
    share,
    size,
    table,
)
from phi3tune.ui.words import N, t, told

DOING = {
    "train": N("training"),
    "evaluate": N("evaluating"),
    "export": N("building"),
    "download": N("downloading"),
    "prompts": N("answering prompts"),
}
STATES = {
    "queued": N("waiting"),
    "completed": N("finished"),
    "stopped": N("stopped"),
    "failed": N("failed"),
    "paused": N("paused"),
}
NOT_RESPONDING = N("not responding")
# What the chip in the header and the announcer say of a job, by what it is doing.
NAMED = {
    "training": N("training {name}"),
    "evaluating": N("evaluating {name}"),
    "building": N("building {name}"),
    "downloading": N("downloading {name}"),
    "answering prompts": N("answering prompts with {name}"),
    "waiting": N("waiting {name}"),
    "finished": N("finished {name}"),
    "stopped": N("stopped {name}"),
    "failed": N("failed {name}"),
    "paused": N("paused {name}"),
    "not responding": N("not responding: {name}"),
}
FIGURES = (
    (N("training loss"), N("how wrong the model is on the rows it learns from; it should fall")),
    (
        N("validation loss"),
        N("the same on rows it does not learn from; when it rises again, the model learns by heart"),
    ),
    (N("validation token accuracy"), N("how often its first choice of the next token is the right one")),
    (N("speed"), N("tokens (pieces of words) that it learns from in a second")),
    (N("memory of the worker"), N("what the process that trains holds now")),
)
SAMPLE_STEPS = 3


def doing(job: JobView) -> str:
    """`training`, `waiting`, `not responding`, `failed`."""
    return t(_doing(job))


def _doing(job: JobView) -> str:
    if job.not_responding:
        return NOT_RESPONDING
    return DOING[job.kind] if job.state == "running" else STATES[job.state]


def named(job: JobView) -> str:
    """`training lamp-2`, `failed lamp-2`."""
    return t(NAMED[_doing(job)], name=title(job))


def title(job: JobView) -> str:
    """What a person calls a job: an evaluation is told by the run it belongs to."""
    return job.folder.parent.parent.name if job.folder.parent.name == "eval" else job.title


def left(job: JobView) -> str:
    """`about 2 min left`, or what the job is doing where that cannot be told."""
    if job.state == "queued":
        return t("place {n} in the queue", n=job.queue_position) if job.queue_position else t("starting")
    if job.eta_seconds is None or job.step >= job.steps:
        return told(job.phase)
    return t("about {time} left", time=duration(max(1.0, job.eta_seconds)))


def progress(job: JobView, unit: str = "") -> str:
    """Bar and line of a job that runs or waits: phase, how far it is, how long it will take."""
    step, steps = f"{job.step:,}", f"{job.steps:,}"
    count = t("step {n} of {all}", n=step, all=steps) if unit else t("{n} of {all}", n=step, all=steps)
    phase = told(job.phase) or t("starting")
    line = " · ".join(dict.fromkeys(part for part in (phase, count if job.steps else "", left(job)) if part))
    return bar(job.share_done, t("progress of {name}", name=title(job))) + f'<p class="pt-line">{esc(line)}</p>'


def foremost(active: Sequence[JobView]) -> JobView | None:
    """The job that the header tells of: the one that runs, or the next to run."""
    return next((job for job in active if job.state == "running"), next(iter(active), None))


def chip(active: Sequence[JobView], ended: JobView | None = None) -> str:
    """The running job, else the one that ended last before this browser's eyes; a button that opens it."""
    job = foremost(active) or ended
    if job is None:
        return f'<span class="pt-chip pt-idle">{esc(t("No job is running"))}</span>'
    rest = ""
    if job.active:
        parts = [f"{100 * job.share_done:.0f} %" if job.state == "running" and job.steps else "", left(job)]
        parts.append(counted(len(active) - 1, "more job") if len(active) > 1 else "")
        rest = "".join(f" · {part}" for part in parts if part)
    mark = '<i class="pt-dot" aria-hidden="true"></i>' if job.active else ""
    state = "" if job.active else f" pt-{job.state}"
    return (
        f'<button type="button" class="pt-chip{state}" title="{esc(t("Open this job"))}" data-act="open">{mark}'
        f"<b>{esc(named(job))}</b><span>{esc(rest)}</span></button>"
    )


def announced(job: JobView, key: str) -> str:
    """What the announcer says of a job that has ended."""
    return f'<span data-job="{esc(key)}" data-state="{esc(job.state)}">{esc(named(job))}</span>'


def interrupted(found: Sequence[tuple[str, JobView]]) -> str:
    """Jobs whose worker died, `(key, job)`, each with Resume and Dismiss; nothing when there are none."""
    if not found:
        return ""
    lines = []
    for key, job in found:
        at = t("from step {n} of {all}", n=f"{job.resume_step or 0:,}", all=f"{job.steps:,}") if job.steps else ""
        acts = "".join(
            f'<button type="button" class="pt-act" data-act="{act}" data-job="{esc(key)}" '
            f'aria-label="{esc(spoken)}">{esc(text)}</button>'
            for act, text, spoken in (
                ("resume", t("Resume"), t("Resume {name}", name=title(job))),
                ("dismiss", t("Dismiss"), t("Dismiss {name}", name=title(job))),
            )
        )
        lines.append(
            f'<li><b>{esc(t(DOING[job.kind]))}: {esc(title(job))}</b> <span class="pt-sub">{esc(at)}</span> {acts}</li>'
        )
    text = t("These jobs were interrupted, as by a restart of the machine. They go on from what they had saved.")
    return (
        f'<section class="pt-notice pt-warning pt-interrupted" aria-label="{esc(t("Interrupted jobs"))}">'
        f"<p>{esc(text)}</p><ul>{''.join(lines)}</ul></section>"
    )


def status(job: JobView, latest: Mapping[str, float], description: str = "") -> str:
    """The live panel: what the run does, how far it is, and its figures."""
    head = (
        f'<div class="pt-status-head"><span class="pt-state pt-{esc(job.state)}">{esc(doing(job))}</span>'
        f"<b>{esc(title(job))}</b><span class='pt-sub'>{esc(description)}</span></div>"
    )
    if job.active:
        head += progress(job, "step")
    return f'<div class="pt-status">{head}{_figures(job, latest)}{_ending(job)}</div>'


def _figures(job: JobView, latest: Mapping[str, float]) -> str:
    shown = []
    if "loss" in latest:
        shown.append((number(latest["loss"]), t("training loss")))
    if "eval_loss" in latest:
        shown.append((number(latest["eval_loss"]), t("validation loss")))
    if "eval_token_accuracy" in latest:
        shown.append((share(latest["eval_token_accuracy"]), t("validation token accuracy")))
    if "tokens_per_second" in latest:
        speed = number(round(latest["tokens_per_second"]))
        shown.append((t("{n} tok/s", n=speed), t("speed")))
    if memory := job.memory_bytes or int(latest.get("memory_bytes", 0)):
        shown.append((size(memory), t("memory of the worker")))
    if job.started is not None:
        shown.append((duration((job.ended or time.time()) - job.started), t("time")))
    return facts(shown) if shown else ""


def meanings() -> str:
    """What the figures of the live panel mean. It stands beside the panel, which is sent again every second."""
    return explained([(t(name), t(meaning)) for name, meaning in FIGURES], t("What these figures mean"))


def _ending(job: JobView) -> str:
    if job.state == "completed":
        text = t("Finished after {steps}.", steps=counted(int(job.result.get("steps", job.step)), "step"))
        return notice("good", text, t("Compare it with the base to see what it learned."))
    if job.state in ("stopped", "paused"):
        reason = told(job.reason) or t(STATES[job.state])
        reason = f"{reason[:1].upper()}{reason[1:]}"
        if job.resume_step:
            text = t("{reason}; a checkpoint of step {n} is kept.", reason=reason, n=f"{job.resume_step:,}")
        else:
            text = t("{reason}; there is no checkpoint yet.", reason=reason)
        return notice("info", text, t("Resume goes on from there."))
    if job.state == "failed":
        reason = told(job.reason).rstrip(".。") or t("no reason was given")
        return notice("bad", t("Failed: {reason}.", reason=reason), t("Mend what it names, then press Resume."))
    if job.not_responding:
        text = t("The worker is there but has not answered for a while.")
        return notice("warning", text, t("Stop it now if it stays so."))
    return ""


def samples(found: Sequence[Sample]) -> str:
    """Held-out prompts with the expected answer and the answers at the first and the latest steps."""
    if not found:
        return empty(
            t("Answers to held-out prompts appear here at each evaluation, so that you can watch them change.")
        )
    steps = sorted({sample.step for sample in found})
    shown = steps if len(steps) <= SAMPLE_STEPS else [steps[0], *steps[-(SAMPLE_STEPS - 1) :]]
    answers: dict[tuple[str, str], dict[int, str]] = {}
    for sample in found:
        answers.setdefault((sample.prompt, sample.expected), {})[sample.step] = sample.answer
    columns = [Column(t("Prompt"), wide=True), Column(t("Expected"), wide=True)]
    columns += [Column(t("Step {n}", n=f"{step:,}"), wide=True, html=True) for step in shown]
    rows = [
        [prompt, expected, *(_marked(by_step.get(step), expected) for step in shown)]
        for (prompt, expected), by_step in answers.items()
    ]
    return table(columns, rows)


def _marked(answer: str | None, expected: str) -> str:
    if answer is None:
        return ""
    right = answer.strip() == expected.strip()
    if not right:
        return esc(answer)
    return f'<span class="pt-right" title="{esc(t("as expected"))}">✓ {esc(answer)}</span>'


def notices(found: Sequence[Notice]) -> str:
    """Warnings of a run, each once, with what to do about it."""
    unique = {(item.code, item.message): item for item in found}
    return "".join(notice(item.level, told(item.message), told(item.action)) for item in unique.values())
