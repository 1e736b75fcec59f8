"""Builds of a model as HTML: how an export goes, and the proof that its build answers alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phi3tune.jobs import JobView
from phi3tune.ui.render import NONE, Column, duration, notice, share, size, table
from phi3tune.ui.render_jobs import progress


def exports(found: Sequence[JobView]) -> str:
    """Every export of one model, newest first: progress, or size and parity with its verdict."""
    running = "".join(progress(job) for job in found if job.active)
    failed = "".join(notice("bad", f"{job.id}: {job.reason}") for job in found[:1] if job.state == "failed")
    done = [job for job in found if job.state == "completed"]
    return running + failed + (_verdict(done[0]) + _builds(done) if done else "")


def _verdict(job: JobView) -> str:
    """The newest build in one sentence, with the limits that it was held to."""
    build, parity = job.result.get("build", job.id), job.result.get("parity")
    if not parity:
        return ""
    proof = _labels(parity) if parity.get("task") == "classification" else _tokens(parity)
    if parity["passed"]:
        return notice("good", f"The {build} build answers like its model: {proof}", "Choose it in the Playground.")
    return notice("warning", f"The {build} build does not answer like its model: {proof}", "Use a higher precision.")


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


def _builds(done: Sequence[JobView]) -> str:
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
    verdict = '<b class="pt-right">PASSED</b>' if parity.get("passed") else '<b class="pt-wrong">FAILED</b>'
    return [
        str(result.get("build", job.id)),
        verdict if parity else "not checked",
        size(int(result.get("size_bytes", 0))),
        _small(parity.get("kl_mean")),
        share(parity.get("top1_agreement", parity.get("same_label"))),
        _ratio(parity.get("perplexity_ratio")),
        duration(result.get("seconds")),
    ]
