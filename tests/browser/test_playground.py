"""The playground as a visitor uses it: ask, go back, vote blind, correct an answer, keep the chat. One story."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from phi3tune import votes
from phi3tune.paths import NANO, Workspace
from tests.browser.conftest import App, Visit
from tests.browser.steps import MINUTES, open_tab

pytestmark = [pytest.mark.slow, pytest.mark.browser]
ENDED = re.compile("finished|cut at")


@pytest.fixture(autouse=True)
def patient() -> Iterator[None]:
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


def choose(page: Page) -> None:
    """The bundled model on the left, and the same one by its path on the right."""
    open_tab(page, "Playground")
    picker = page.locator("#pane-right-model input")
    expect(picker).to_have_value("phi3-nano")  # the page has made its own choices
    picker.fill(str(NANO))
    picker.press("Enter")
    picker.press("Tab")
    expect(picker).to_have_value(str(NANO))


def send(page: Page, text: str) -> None:
    page.locator("#composer textarea").fill(text)
    page.locator("#composer textarea").press("Enter")
    for side in ("left", "right"):
        expect(page.locator(f"#pane-{side} .user").last).to_contain_text(text)
    expect(page.locator("#send")).to_be_visible(timeout=2 * MINUTES)
    expect(page.locator("#send")).to_have_text("Send")


def press(page: Page, place: str, act: str) -> None:
    page.locator(f"{place} .pt-act[data-act={act}]").first.click()


def test_from_the_first_question_to_a_row_to_train_on(visit: Visit, app: App, tmp_path: Path) -> None:
    page = visit.page
    choose(page)

    send(page, "What is the opposite of hot?")
    expect(page.locator("#stats-left")).to_contain_text(ENDED)
    expect(page.locator("#difference")).to_contain_text("Both gave the same answer.")
    press(page, "#pane-left", "prompt")
    expect(page.locator("#prompt-detail")).to_contain_text("<|user|>")

    press(page, "#pane-right", "edit")
    expect(page.locator("#composer textarea")).to_have_value("What is the opposite of hot?")
    send(page, "What is the opposite of big?")
    expect(page.locator("#difference")).to_contain_text("Branch 2 of 2")
    press(page, "#difference", "branch")
    expect(page.locator("#pane-left")).to_contain_text("opposite of hot")

    page.reload()
    page.locator("#start").wait_for()
    open_tab(page, "Playground")
    expect(page.locator("#pane-left")).to_contain_text("opposite of hot")

    with page.expect_download() as download:
        page.locator("#chat-export").click()
    file = tmp_path / "chat.json"
    download.value.save_as(file)
    page.locator("#clear").click()
    expect(page.locator("#pane-left .user")).to_have_count(0)
    with page.expect_file_chooser() as chooser:
        page.locator("#chat-import").click()
    chooser.value.set_files(file)
    expect(page.locator("#pane-right")).to_contain_text("opposite of hot")

    press(page, "#pane-left", "correct")
    page.locator("#corrected textarea").fill("Cold, of course.")
    page.locator("#save-row").click()
    expect(page.locator("#correction")).to_be_hidden()
    open_tab(page, "Train")
    expect(page.locator("#dataset input")).to_have_value(re.compile("corrected-answers"))
    open_tab(page, "Playground")
    page.locator("#clear").click()


def test_a_blind_vote(visit: Visit, app: App) -> None:
    page = visit.page
    choose(page)
    page.locator("#blind input").check()
    expect(page.locator("#difference")).to_contain_text("drawn by lot")
    send(page, "What is the opposite of hot?")
    expect(page.locator("#pane-left .bot")).to_contain_text("Model A")
    expect(page.locator("#pane-left")).not_to_contain_text("phi3-nano")
    page.locator("#difference").get_by_role("button", name="B is better").click()
    expect(page.locator("#difference")).to_contain_text("1 of 1 decided votes")
    expect(page.locator("#pane-left .bot")).to_contain_text("phi3-nano")
    assert votes.tally(Workspace(app.home)).votes == 1
