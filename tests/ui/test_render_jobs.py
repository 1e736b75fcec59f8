from __future__ import annotations

import pytest

from phi3tune.config import EvalConfig, ExportConfig
from phi3tune.events import Notice, Sample
from phi3tune.paths import Workspace
from phi3tune.ui import render_builds, render_jobs

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


def test_builds_show_the_proof(make_job: MakeJob, workspace: Workspace) -> None:
    parity = {"kl_mean": 0.0123, "top1_agreement": 0.987, "perplexity_ratio": 1.004, "passed": True}
    parity["limits"] = {"kl_mean": 0.02, "top1_agreement": 0.95, "perplexity_ratio": 1.02}
    result = {"build": "int4", "size_bytes": 6 * 1024**2, "seconds": 21.0, "parity": parity}
    config = ExportConfig(model="lamp")
    done = make_job(workspace.exports / "a", config, state="completed", result=result)
    bad = {**result, "build": "int8", "parity": {**parity, "passed": False}}
    missed = make_job(workspace.exports / "b", config, state="completed", result=bad)
    html = render_builds.exports([done, missed])
    for text in ("PASSED", "FAILED", "6 MB", "0.0123", "98.7 %", "1.004", "21 s"):
        assert text in html
    assert (
        "int4 build answers like its model: KL 0.0123 (at most 0.02), same first choice 98.7 % (at least 95.0 %)"
        in html
    )
    assert "int8 build does not answer like its model" in render_builds.exports([missed, done])


def test_a_classifiers_build_shows_its_labels(make_job: MakeJob, workspace: Workspace) -> None:
    parity = {"task": "classification", "same_label": 0.99, "max_difference": 0.00012, "passed": True}
    parity["limits"] = {"same_label": 1.0, "max_difference": 0.0001}
    result = {"build": "fp32-portable", "size_bytes": 1, "seconds": 2.0, "parity": parity}
    job = make_job(workspace.exports / "a", ExportConfig(model="topics"), state="completed", result=result)
    html = render_builds.exports([job])
    proof = "same label 99.0 % (at least 100.0 %), largest change of a probability 0.00012 (at most 0.0001)"
    assert f"fp32-portable build answers like its model: {proof}" in html
    assert "PASSED" in html and "99.0 %" in html


def test_export_that_runs_or_failed(make_job: MakeJob, workspace: Workspace) -> None:
    config = ExportConfig(model="lamp")
    waiting = make_job(workspace.exports / "a", config, state="queued")
    assert "progressbar" in render_builds.exports([waiting])
    failed = make_job(workspace.exports / "b", config, state="failed", reason=f"disk {ATTACK}")
    assert "disk &lt;img" in render_builds.exports([failed])
