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


def test_esc_ends_an_answer_that_waits_for_its_model(visit: Visit, app: App) -> None:
    page = visit.page
    choose(page)
    example = page.locator("#examples .pt-act").first
    question = example.inner_text()
    example.click()
    expect(page.locator("#pane-left .user")).to_contain_text(question)
    expect(page.locator("#stop-answer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#stats-left")).to_contain_text("stopped")
    expect(page.locator("#send")).to_be_visible()


def test_from_the_first_question_to_a_row_to_train_on(visit: Visit, app: App, tmp_path: Path) -> None:
    page = visit.page
    choose(page)

    send(page, "What is the opposite of hot?")
    expect(page.locator("#stats-left")).to_contain_text(ENDED)
    expect(page.locator("#difference")).to_contain_text("Both gave the same answer.")
    press(page, "#pane-left", "prompt")
    expect(page.locator("#prompt-detail")).to_contain_text("<|user|>")
    page.locator("#difference").get_by_role("button", name="The right one is better").click()
    expect(page.locator("#difference")).to_contain_text("You preferred")
    page.get_by_role("button", name="View code").click()
    expect(page.locator("#code-where")).to_contain_text("phi3tune serve phi3-nano")
    expect(page.locator("#code")).to_contain_text("opposite of hot")

    press(page, "#pane-right", "edit")
    expect(page.locator("#composer textarea")).to_have_value("What is the opposite of hot?")
    send(page, "What is the opposite of big?")
    expect(page.locator("#difference")).to_contain_text("Branch 2 of 2")
    press(page, "#difference", "branch")
    expect(page.locator("#pane-left")).to_contain_text("opposite of hot")

    page.reload()
    page.locator("#dataset").wait_for()
    open_tab(page, "Playground")
    expect(page.locator("#pane-left")).to_contain_text("opposite of hot")
    expect(page.locator("#difference")).to_contain_text("Branch 1 of 2")

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
    open_tab(page, "Data")
    expect(page.locator("#dataset input")).to_have_value(re.compile("corrected-answers"))
    open_tab(page, "Playground")
    page.locator("#clear").click()


def test_a_blind_vote(visit: Visit, app: App) -> None:
    page, before = visit.page, votes.tally(Workspace(app.home))
    choose(page)
    page.locator("#blind input").check()
    expect(page.locator("#difference")).to_contain_text("drawn by lot")
    send(page, "What is the opposite of hot?")
    expect(page.locator("#pane-left .bot")).to_contain_text("Model A")
    expect(page.locator("#pane-left")).not_to_contain_text("phi3-nano")
    page.locator("#difference").get_by_role("button", name="B is better").click()
    expect(page.locator("#difference")).to_contain_text("decided votes")
    expect(page.locator("#pane-left .bot")).to_contain_text("phi3-nano")
    after = votes.tally(Workspace(app.home))
    assert (after.votes, after.named) == (before.votes + 1, before.named)
