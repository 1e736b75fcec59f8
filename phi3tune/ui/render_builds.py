"""Builds of a model as HTML: how an export goes, and the proof that its build answers alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phi3tune.builds import Build
from phi3tune.export import words
from phi3tune.jobs import JobView
from phi3tune.ui.render import NONE, Column, duration, empty, esc, facts, notice, number, share, size, table
from phi3tune.ui.render_jobs import progress


def exports(found: Sequence[JobView]) -> str:
    """Every export of one model, newest first: progress, or size and parity with its verdict."""
    failed = found[0] if found and found[0].state == "failed" else None
    done = [job for job in found if job.state == "completed"]
    return running([job for job in found if job.active], failed) + (_verdict(done[0]) + _made(done) if done else "")


def running(active: Sequence[JobView], failed: JobView | None) -> str:
    """Exports that run or wait, and why the last one failed."""
    why = notice("bad", f"{failed.id}: {failed.reason}") if failed is not None else ""
    return "".join(progress(job) for job in active) + why


def builds(found: Sequence[Build]) -> str:
    """Every build with its proof in short. A name is a button that says which it is in `data-build`."""
    if not found:
        return empty("Builds will be listed here. Choose a model above and press Build.")
    columns = [
        Column("Build", html=True),
        Column("Parity", html=True),
        Column("Size", numeric=True),
        Column("KL, mean", numeric=True),
        Column("Same first choice or label", numeric=True),
        Column("Decode, tokens/s", numeric=True),
        Column("Peak memory", numeric=True),
        Column("Form"),
    ]
    return table(columns, [_row(build) for build in found])


def _row(build: Build) -> list[str]:
    parity, measured = build.parity or {}, build.measured
    speed, peak = measured.get("decode_tokens_per_second"), measured.get("peak_memory_bytes")
    return [
        f'<button type="button" class="pt-open" data-build="{esc(build.ref)}">{esc(build.label)}</button>',
        _badge(build.verdict),
        size(build.size_bytes),
        _small(parity.get("kl_mean")),
        share(parity.get("top1_agreement", parity.get("same_label"))),
        number(speed),
        NONE if peak is None else size(int(peak)),
        build.form,
    ]


def detail(build: Build | None) -> str:
    """The whole proof of one build: verdict, every measure at every length, size and speed."""
    if build is None:
        return ""
    if build.parity is None:
        return _unproven(build)
    header, rows = words.figures(build.parity)
    columns = [Column(name, numeric=place > 1) for place, name in enumerate(header)]
    verdict = notice("good" if build.verdict == "passed" else "warning", words.verdict(build.parity))
    cost = facts([(value, name) for name, value in words.measured(build.measured)])
    remark = words.remark(build.parity)
    why = f'<p class="pt-sub">{esc(remark)}</p>' if remark else ""
    return verdict + table(columns, rows) + why + (cost if build.measured else "")


def _unproven(build: Build) -> str:
    """Why a build has no proof."""
    if build.failing:
        return notice("warning", "Its proof cannot be read.", "Build it again.")
    if build.form == "merged":
        return notice("info", "These are the weights that builds are made from and compared with.")
    text = f"It was made for {build.device} and was not compared with its model on this machine."
    return notice("warning", text, "Evaluate it where it runs.")


def _badge(verdict: str) -> str:
    mark = {"passed": "pt-right", "failed": "pt-wrong"}.get(verdict)
    return f'<b class="{mark}">{verdict.upper()}</b>' if mark else esc(verdict)


def _verdict(job: JobView) -> str:
    """The newest build in one sentence, with the limits that it was held to."""
    build, parity = job.result.get("build", job.id), job.result.get("parity")
    if not parity:
        return ""
    proof = _labels(parity) if parity.get("task") == "classification" else _tokens(parity)
    if parity["passed"]:
        return notice("good", f"The {build} build answers like its model: {proof}", "Choose it in the Playground.")
    where = f" Missed: {'; '.join(parity['missed'][:3])}." if parity.get("missed") else ""
    text = f"The {build} build does not answer like its model: {proof}{where}"
    return notice("warning", text, "Use a higher precision.")


def _tokens(parity: Mapping[str, Any]) -> str:
    limits = parity["limits"]
    return (
        f"KL {_small(parity['kl_mean'])} (at most {limits['kl_mean']:g}), same first choice "
        f"{share(parity['top1_agreement'])} (at least {share(limits['top1_agreement'])}), perplexity ratio "
        f"{_ratio(parity['perplexity_ratio'])} (at most {limits['perplexity_ratio']:g})."
    )


def _labels(parity: Mapping[str, Any]) -> str:
    limits = parity["limits"]
    return (
        f"same label {share(parity['same_label'])} (at least {share(limits['same_label'])}), largest change of a "
        f"probability {_small(parity['max_difference'])} (at most {limits['max_difference']:g})."
    )


def _small(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _made(done: Sequence[JobView]) -> str:
    columns = [
        Column("Build"),
        Column("Parity", html=True),
        Column("Size", numeric=True),
        Column("KL, mean", numeric=True),
        Column("Same first choice or label", numeric=True),
        Column("Perplexity ratio", numeric=True),
        Column("Made in", numeric=True),
    ]
    return table(columns, [_build(job) for job in done])


def _build(job: JobView) -> list[str]:
    result, parity = job.result, job.result.get("parity") or {}
    verdict = _badge("passed" if parity.get("passed") else "failed")
    return [
        str(result.get("build", job.id)),
        verdict if parity else "not checked",
        size(int(result.get("size_bytes", 0))),
        _small(parity.get("kl_mean")),
        share(parity.get("top1_agreement", parity.get("same_label"))),
        _ratio(parity.get("perplexity_ratio")),
        duration(result.get("seconds")),
    ]
