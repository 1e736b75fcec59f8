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
    open_tab(page, "Train")
    expect(page.locator("#live-status")).to_contain_text(RUN, timeout=10_000)
    expect(page.locator("#job-chip")).to_contain_text(RUN)
    wait_until(lambda: jobs.view(folder).step > step)
    expect(page.locator("#after")).to_be_visible(timeout=4 * MINUTES)
    job = jobs.view(folder)
    assert job.state == "completed" and job.result["train_loss"] > 0


def test_evaluate_base_and_run_side_by_side(visit: Visit) -> None:
    page = visit.page
    open_tab(page, "Train")
    page.locator("#compare").click()
    expect(page.locator("#eval-run")).to_be_visible()
    page.locator("#eval-limit input").fill("24")
    page.locator("#eval-run").click()
    expect(page.locator("#eval-verdict")).to_contain_text(RUN, timeout=3 * MINUTES)
    table = page.locator("#eval-table")
    for word in ("phi3-nano", RUN, "perplexity"):
        expect(table).to_contain_text(re.compile(word, re.IGNORECASE))
    expect(page.locator("#eval-rows")).to_contain_text(re.compile("lamp|Lantern"))


def test_the_comparison_hands_over_to_the_export(visit: Visit, app: App) -> None:
    page = visit.page
    open_tab(page, "Evaluate")
    page.locator("#eval-export", has_text=RUN).click()
    expect(page.locator("#build-model input")).to_have_value(RUN)
    page.locator("#build-start").click()
    expect(page.locator("#builds")).to_contain_text("PASSED", timeout=3 * MINUTES)
    assert (app.home / "runs" / RUN / "onnx" / "int4" / "genai_config.json").is_file()
    open_tab(page, "Train")
    expect(page.locator("#export-status")).to_contain_text("PASSED")


def test_the_build_hands_over_to_a_chat_beside_its_model(visit: Visit) -> None:
    page = visit.page
    open_tab(page, "Deploy")
    page.locator("#build-talk").click()
    for side, model in (("left", RUN), ("right", f"{RUN}/onnx/int4")):
        expect(page.locator(f"#pane-{side}-model input")).to_have_value(model)
    page.locator("#composer textarea").fill("How long is the warranty?")
    page.locator("#send").click()
    for side in ("left", "right"):
        expect(page.locator(f"#stats-{side}")).to_contain_text("tok/s", timeout=2 * MINUTES)
        expect(page.locator(f"#pane-{side}")).to_contain_text("How long is the warranty?")
        assert len(page.locator(f"#pane-{side} .bot").last.inner_text().strip()) > 0


def test_a_build_is_taken_along(visit: Visit) -> None:
    page = visit.page
    open_tab(page, "Deploy")
    with page.expect_download() as started:
        page.locator("#build-pack").click()
    assert started.value.suggested_filename == f"{RUN}-onnx-int4.zip"
    expect(page.locator("#build-packing")).to_be_empty()


def test_serve_the_build_and_pass_the_conformance_test(visit: Visit, app: App) -> None:
    page = visit.page
    open_tab(page, "Deploy")
    page.locator("#build-serve").click()
    expect(page.locator("#serve-models")).to_contain_text(f"{RUN}/onnx/int4")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fill(page, "serve-port", str(port))
    page.locator("#serve-start").click()
    expect(page.locator("#serve-status")).to_contain_text(f"Serving {RUN}/onnx/int4", timeout=MINUTES)
    expect(page.locator("#serve-code")).to_contain_text(f"http://127.0.0.1:{port}/v1")
    page.locator("#serve-test").click()
    expect(page.locator("#serve-checks")).to_contain_text("8 of 8 checks passed", timeout=MINUTES)
    page.locator("#monitor-card").get_by_role("button").first.click()
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
    open_tab(page, "Train")
    # The page reconnecting to the app that was gone is its own complaint, not ours.
    visit.problems[:] = [text for text in visit.problems if "net::ERR_" not in text and "fetch" not in text]

    pid = jobs.read_status(folder).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    expect(page.locator("#live-status")).to_contain_text(re.compile("failed", re.IGNORECASE), timeout=10_000)
    expect(page.locator("#resume")).to_be_visible()
    offered = page.locator("#interrupted")
    offered.get_by_role("button", name="Dismiss victim").click()
    expect(offered).not_to_contain_text("victim")
