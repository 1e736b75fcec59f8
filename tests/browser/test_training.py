"""Settings, plan, queue, sweep and comparison, as a visitor uses them. One story, told in order."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, expect

from phi3tune import jobs
from phi3tune.paths import Workspace
from tests.browser.conftest import App, Visit
from tests.browser.steps import MINUTES, fill, open_tab, start_run, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def advanced(page: Page, group: str) -> None:
    open_tab(page, "Train")
    page.locator("#mode").get_by_text("Advanced").click()
    page.locator("#advanced").get_by_role("button", name=group).click()


def test_settings_plan_command_and_yaml(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    open_tab(page, "Train")
    expect(page.locator("#train-data")).to_contain_text("lantern-support", timeout=60_000)
    expect(page.locator("#changed")).to_contain_text("at their defaults")
    advanced(page, "Optimizer")
    fill(page, "set-weight-decay", "0.1")
    expect(page.locator("#changed")).to_contain_text("1 setting changed")
    expect(page.locator("#advanced").get_by_role("button", name="Optimizer")).to_contain_text("1 changed")

    page.locator("#check-plan").click()
    expect(page.locator("#plan")).to_contain_text("It fits", timeout=60_000)
    expect(page.locator("#plan")).to_contain_text("optimizer steps")
    page.locator("#same").get_by_role("button").first.click()
    expect(page.locator("#command")).to_contain_text("--weight-decay 0.1")

    with page.expect_download() as download:
        page.locator("#save-settings").click()
    saved = tmp_path / "run.yaml"
    download.value.save_as(saved)
    assert yaml.safe_load(saved.read_text())["weight_decay"] == 0.1
    page.locator("#reset-settings").click()
    expect(page.locator("#changed")).to_contain_text("at their defaults")
    page.locator("#load-settings").locator("xpath=..").locator("input[type=file]").set_input_files(saved)
    expect(page.locator("#changed")).to_contain_text("1 setting changed")


def test_quality_fills_the_settings(visit: Visit) -> None:
    page = visit.page
    open_tab(page, "Train")
    page.locator("#set-quality").get_by_text("thorough", exact=True).click()
    expect(page.locator("#changed")).to_contain_text("3 settings changed")
    advanced(page, "Method")
    expect(page.locator("#set-lora-rank input")).to_have_value("64")


def test_impossible_settings_are_refused_before_anything_starts(visit: Visit, app: App) -> None:
    page = visit.page
    advanced(page, "Length and loss")
    fill(page, "set-micro-batch", "3")
    page.locator("#start").click()
    expect(page.get_by_text("choose a divisor")).to_be_visible()
    assert not Workspace(app.home).run_folders()


def test_queue_pause_and_words(visit: Visit, app: App) -> None:
    page, workspace = visit.page, Workspace(app.home)
    start_run(page, "first", "3")
    start_run(page, "second", "3")
    start_run(page, "third", "3")
    wait_until(lambda: jobs.view(workspace.run("first")).step >= 2, 120)

    open_tab(page, "Runs")
    expect(page.locator("#queue")).to_contain_text("third")
    page.locator("#queue tr", has_text="third").get_by_role("button", name="First").click()
    wait_until(lambda: [job.id for job in jobs.active(workspace)] == ["first", "third", "second"])
    for name in ("third", "second"):
        expect(page.locator("#queue tr", has_text=name)).to_contain_text("place 1 in")
        page.locator("#queue tr", has_text=name).get_by_role("button", name="Cancel").click()
        expect(page.locator("#queue")).not_to_contain_text(name)

    page.locator("#runs").get_by_role("button", name="first", exact=True).click()
    page.locator("#pause").click()
    expect(page.locator("#live-status")).to_contain_text("paused", timeout=30_000)
    step = jobs.view(workspace.run("first")).resume_step
    assert step and step >= 2
    page.locator("#resume").click()
    wait_until(lambda: jobs.view(workspace.run("first")).step > step, 120)
    page.locator("#stop-now").click()
    expect(page.locator("#live-status")).to_contain_text("stopped", timeout=30_000)

    page.locator("#about").get_by_role("button").first.click()
    fill(page, "about-title", "My <b>first</b> run")
    fill(page, "about-tags", "small, lamp")
    page.locator("#about-save").click()
    open_tab(page, "Runs")
    expect(page.locator("#runs")).to_contain_text("My <b>first</b> run")
    expect(page.locator("#runs")).to_contain_text("small, lamp")


def test_sweep_and_compare(visit: Visit, app: App) -> None:
    page, workspace = visit.page, Workspace(app.home)
    advanced(page, "Length and loss")
    fill(page, "set-max-steps", "4")
    fill(page, "set-name", "ranks")
    page.locator("#sweep-card").get_by_role("button").first.click()
    fill(page, "sweep-axes", "lora_rank=2,8")
    page.locator("#sweep-start").click()
    expect(page.locator("#trials")).to_contain_text("ranks-2", timeout=60_000)
    expect(page.locator("#trials")).to_contain_text("2 of 2 trials finished", timeout=3 * MINUTES)
    assert {jobs.view(workspace.run(f"ranks-{n}")).state for n in (1, 2)} == {"completed"}

    compared = page.locator("#compared input")
    for name in ("ranks-1", "ranks-2"):
        compared.fill(name)
        compared.press("Enter")
    page.locator("#compare-runs").click()
    expect(page.locator("#compared-settings")).to_contain_text("lora_rank", timeout=30_000)
    expect(page.locator("#compared-results")).to_contain_text("Training loss")
    expect(page.locator("#compared-curves")).to_be_visible()

    with page.expect_download() as download:
        page.locator("#trials").get_by_role("button", name="ranks-1").click()
        page.locator("#archive").click()
    assert download.value.suggested_filename == "ranks-1.zip"
