from __future__ import annotations

import pytest

from phi3tune.config import EvalConfig
from phi3tune.events import Notice, Sample
from phi3tune.paths import Workspace
from phi3tune.ui import render_jobs

from .conftest import MakeJob

ATTACK = "<img src=x onerror=alert(1)>"


def test_chip_tells_what_runs_how_far_and_how_long(make_run: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3tune.system.is_locked", lambda path: True)
    running = make_run("lamp-2", state="running", step=41, steps=100, eta_seconds=70.0, heartbeat=9e9)
    waiting = make_run("next", state="queued")
    html = render_jobs.chip([waiting, running])
    assert html.startswith('<button type="button"')
    assert "training lamp-2" in html
    assert "41 % · about 70 s left · 1 more job" in html


def test_chip_without_jobs_is_no_button() -> None:
    assert render_jobs.chip([]) == '<span class="pt-chip pt-idle">No job is running</span>'


def test_chip_keeps_the_job_that_ended_until_another_runs(make_run: MakeJob) -> None:
    failed = make_run("lamp", state="failed", reason="no")
    html = render_jobs.chip([], failed)
    assert "failed lamp" in html and "pt-failed" in html and "pt-dot" not in html
    assert "waiting next" in render_jobs.chip([make_run("next", state="queued")], failed)


def test_an_end_is_announced_with_what_it_was(make_run: MakeJob) -> None:
    html = render_jobs.announced(make_run("lamp"), "runs/lamp")
    assert html == '<span data-job="runs/lamp" data-state="completed">finished lamp</span>'


def test_interrupted_jobs_say_where_they_go_on(make_run: MakeJob) -> None:
    job = make_run("lamp", state="failed", steps=20, resume_step=5)
    html = render_jobs.interrupted([(f"runs/{ATTACK}", job)])
    assert "from step 5 of 20" in html and "<img" not in html
    assert [f'data-act="{act}"' in html for act in ("resume", "dismiss")] == [True, True]
    assert render_jobs.interrupted([]) == ""


def test_an_evaluation_is_told_by_its_run(make_job: MakeJob, make_run: MakeJob, workspace: Workspace) -> None:
    folder = make_run("lamp").folder / "eval" / "test-eval-1"
    job = make_job(folder, EvalConfig(dataset="lantern-support"), state="queued")
    assert "waiting lamp" in render_jobs.chip([job])


def test_status_of_a_running_job(make_run: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3tune.system.is_locked", lambda path: True)
    job = make_run(
        "lamp",
        state="running",
        phase="training",
        step=26,
        steps=62,
        eta_seconds=150.0,
        heartbeat=9e9,
        memory_bytes=1024**3,
    )
    html = render_jobs.status(job, {"loss": 0.81, "eval_loss": 0.94, "tokens_per_second": 2900.4}, "nano on lantern")
    for text in ("training · step 26 of 62 · about 2 min left", "0.81", "0.94", "2,900 tok/s", "1.0 GB", "nano on"):
        assert text in html
    assert 'aria-valuenow="42"' in html


@pytest.mark.parametrize(
    ("state", "more", "text"),
    [
        ("completed", {"step": 60, "result": {"steps": 60}}, "Finished after 60 steps."),
        ("stopped", {"reason": "stopped by the user", "resume_step": 20}, "a checkpoint of step 20 is kept"),
        ("stopped", {"reason": "stopped by the user"}, "there is no checkpoint yet"),
        ("failed", {"reason": f"killed {ATTACK}."}, "Failed: killed &lt;img src=x onerror=alert(1)&gt;."),
    ],
)
def test_status_of_a_job_that_ended(make_run: MakeJob, state: str, more: dict, text: str) -> None:
    html = render_jobs.status(make_run("lamp", state=state, **more), {})
    assert text in html
    assert "progressbar" not in html


def test_samples_show_first_and_latest_steps_and_what_is_right() -> None:
    found = [
        Sample(step=step, prompt=ATTACK, expected="yes", answer="yes " if step == 40 else f"no {ATTACK}")
        for step in (10, 20, 30, 40)
    ]
    html = render_jobs.samples(found)
    assert [f"Step {step}" in html for step in (10, 20, 30, 40)] == [True, False, True, True]
    assert html.count("✓") == 1
    assert "<img" not in html


def test_notices_are_told_once() -> None:
    notice = Notice(code="x", message=f"slow {ATTACK}", action="do less")
    html = render_jobs.notices([notice, notice])
    assert html.count("slow") == 1
    assert "do less" in html
    assert "<img" not in html
