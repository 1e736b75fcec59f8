"""Builds of a model as HTML: how an export goes, and the proof that its build answers alike."""

from __future__ import annotations

from collections.abc import Sequence

from phi3tune.jobs import JobView
from phi3tune.ui.render import Column, bar, duration, esc, notice, number, share, size, table
from phi3tune.ui.render_jobs import left


def exports(found: Sequence[JobView]) -> str:
    """Every export of one model, newest first: progress, or size and parity with its verdict."""
    running = "".join(_running(job) for job in found if job.active)
    failed = "".join(notice("bad", f"{job.id}: {job.reason}") for job in found[:1] if job.state == "failed")
    done = [job for job in found if job.state == "completed"]
    return running + failed + (_builds(done) if done else "")


def _running(job: JobView) -> str:
    what = job.phase or left(job)
    return bar(job.share_done, f"export {job.id}") + f'<p class="pt-line">{esc(what)} · {esc(left(job))}</p>'


def _builds(done: Sequence[JobView]) -> str:
    columns = [
        Column("Build"),
        Column("Parity", html=True),
        Column("Size", numeric=True),
        Column("KL, mean", numeric=True),
        Column("Same first choice", numeric=True),
        Column("Perplexity ratio", numeric=True),
        Column("Made in", numeric=True),
    ]
    return table(columns, [_build(job) for job in done])


def _build(job: JobView) -> list[str]:
    result, parity = job.result, job.result.get("parity") or {}
    verdict = '<b class="pt-right">PASSED</b>' if parity.get("passed") else '<b class="pt-wrong">FAILED</b>'
    kl = parity.get("kl_mean")
    return [
        str(result.get("build", job.id)),
        verdict if parity else "not checked",
        size(int(result.get("size_bytes", 0))),
        f"{kl:.2g}" if kl is not None else "–",
        share(parity.get("top1_agreement")),
        number(parity.get("perplexity_ratio")),
        duration(result.get("seconds")),
    ]
