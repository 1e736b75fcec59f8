"""The main job as a visitor does it: tune, reload, evaluate, export, talk. One story, told in order."""

from __future__ import annotations

import os
import re
import signal
import socket

import pytest
from playwright.sync_api import Page, expect

from phi3tune import jobs
from phi3tune.paths import Workspace
from tests.browser.conftest import App, Visit
from tests.browser.steps import MINUTES, fill, open_tab, start_run, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.browser]
RUN = "story"


def points(page: Page) -> int:
    """Marks drawn in the loss chart."""
    return page.locator("#chart-loss canvas, #chart-loss svg path").count()


def test_tune_with_charts_that_move_and_a_reload_in_the_middle(visit: Visit, app: App) -> None:
    page = visit.page
    start_run(page, RUN, "0.6")
    folder = Workspace(app.home).run(RUN)
    expect(page.locator("#job-chip")).to_contain_text(RUN, timeout=2 * MINUTES)
    wait_until(lambda: jobs.view(folder).step >= 3, 120)
    expect(page.locator("#live-status")).to_contain_text("/", timeout=30_000)
    wait_until(lambda: points(page) > 0)

    step = jobs.view(folder).step
    page.reload()
    expect(page.locator("#live-status")).to_contain_text(RUN, timeout=10_000)
    expect(page.locator("#job-chip")).to_contain_text(RUN)
    wait_until(lambda: jobs.view(folder).step > step)
    expect(page.locator("#after")).to_be_visible(timeout=4 * MINUTES)
    job = jobs.view(folder)
    assert job.state == "completed" and job.result["train_loss"] > 0


def test_evaluate_base_and_run_side_by_side(visit: Visit) -> None:
    page = visit.page
    page.locator("#compare").click()
    expect(page.locator("#eval-run")).to_be_visible()
    page.locator("#eval-limit input").fill("24")
    page.locator("#eval-run").click()
    expect(page.locator("#eval-verdict")).to_contain_text(RUN, timeout=3 * MINUTES)
    table = page.locator("#eval-table")
    for word in ("phi3-nano", RUN, "perplexity"):
        expect(table).to_contain_text(re.compile(word, re.IGNORECASE))
    expect(page.locator("#eval-rows")).to_contain_text(re.compile("lamp|Lantern"))


def test_export_and_see_the_proof(visit: Visit, app: App) -> None:
    page = visit.page
    page.locator("#export").click()
    expect(page.locator("#export-status")).to_contain_text(re.compile("passed", re.IGNORECASE), timeout=3 * MINUTES)
    assert (app.home / "runs" / RUN / "onnx" / "int4" / "genai_config.json").is_file()


def test_talk_to_base_and_build_side_by_side(visit: Visit) -> None:
    page = visit.page
    open_tab(page, "Playground")
    for side, model in (("left", "phi3-nano"), ("right", f"{RUN}/onnx/int4")):
        picker = page.locator(f"#pane-{side}-model input")
        picker.fill(model)
        picker.press("Enter")
        picker.press("Tab")
        expect(picker).to_have_value(model)
    page.locator("#composer textarea").fill("How long is the warranty?")
    page.locator("#send").click()
    for side in ("left", "right"):
        expect(page.locator(f"#stats-{side}")).to_contain_text("tok/s", timeout=2 * MINUTES)
        expect(page.locator(f"#pane-{side}")).to_contain_text("How long is the warranty?")
        assert len(page.locator(f"#pane-{side} .bot").last.inner_text().strip()) > 0


def test_serve_the_build_and_pass_the_conformance_test(visit: Visit, app: App) -> None:
    page = visit.page
    open_tab(page, "Deploy")
    expect(page.locator("#builds")).to_contain_text("PASSED", ignore_case=True)
    models = page.locator("#serve-models")
    models.get_by_role("button", name="Clear").click()
    models.locator("input").fill(f"{RUN}/onnx/int4")
    models.locator("input").press("Enter")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fill(page, "serve-port", str(port))
    page.locator("#serve-start").click()
    expect(page.locator("#serve-status")).to_contain_text(f"Serving {RUN}/onnx/int4", timeout=MINUTES)
    expect(page.locator("#serve-code")).to_contain_text(f"http://127.0.0.1:{port}/v1")
    page.locator("#serve-test").click()
    expect(page.locator("#serve-checks")).to_contain_text("8 of 8 checks passed", timeout=MINUTES)
    expect(page.locator("#monitor")).to_contain_text("Requests", timeout=30_000)
    page.locator("#serve-stop").click()
    expect(page.locator("#serve-status")).to_contain_text("off")


def test_a_killed_worker_and_a_restarted_app(visit: Visit, app: App) -> None:
    page = visit.page
    start_run(page, "victim", "3")
    folder = Workspace(app.home).run("victim")
    wait_until(lambda: jobs.view(folder).step >= 2, 120)

    app.stop()
    before = jobs.view(folder).step
    app.start()
    wait_until(lambda: jobs.view(folder).step > before)
    page.goto(app.url)
    expect(page.locator("#job-chip")).to_contain_text("victim", timeout=20_000)
    # The page reconnecting to the app that was gone is its own complaint, not ours.
    visit.problems[:] = [text for text in visit.problems if "net::ERR_" not in text and "fetch" not in text]

    pid = jobs.read_status(folder).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    expect(page.locator("#live-status")).to_contain_text(re.compile("failed", re.IGNORECASE), timeout=10_000)
    expect(page.locator("#resume")).to_be_visible()
