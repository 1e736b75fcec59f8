"""Text of strangers in a real browser: rows, names, notes, events, reports, replies. None of it runs or fetches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.steps import open_tab
from tests.fake_openai import fake_openai
from tests.security import hostile
from tests.security.conftest import Watched

pytestmark = [pytest.mark.slow, pytest.mark.browser]
SHOWN = "[role=tabpanel]:visible"
MADE = "img[src*='evil'], [onerror], [onload], a[href^='javascript']"  # what none of it may have become


@pytest.fixture
def page(browser: Browser, watched: Watched) -> Iterator[Page]:
    """The page, in a browser that writes down whom it asks; afterwards: only the app, and no script of ours ran."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(90_000)
    opened = context.new_page()
    asked, dialogs, complaints = set(), [], []
    opened.on("request", lambda request: asked.add(urlsplit(request.url).hostname or ""))
    opened.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    opened.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
    opened.goto(watched.url)
    opened.get_by_role("tab").first.wait_for()
    yield opened
    assert opened.evaluate("window.__hit") is None
    assert opened.locator(MADE).count() == 0
    assert asked <= {"127.0.0.1", ""}
    assert dialogs == []
    assert complaints == []  # the policy was not even needed
    context.close()


def choose(page: Page, place: str, name: str) -> None:
    picker = page.locator(f"{place} input").first
    picker.fill(name)
    picker.press("Enter")
    picker.press("Tab")


def sees(page: Page, place: str, text: str = "onerror=") -> None:
    expect(page.locator(place).first).to_contain_text(text, timeout=30_000)


def test_text_of_strangers_stays_text(page: Page, watched: Watched) -> None:
    sees(page, "body")  # the line above the tabs tells what a worker says of its phase
    dataset = next(path.parent.name for path in watched.workspace.datasets.glob("svg-*/data.jsonl"))
    expect(page.locator("#dataset input")).to_have_value(re.compile("lantern"), timeout=30_000)
    choose(page, "#dataset", dataset)
    sees(page, SHOWN)
    open_tab(page, "Train")
    for run in (hostile.RUN, hostile.FAILED):
        choose(page, "#run", run)
        sees(page, SHOWN)
    open_tab(page, "Evaluate")
    choose(page, "#eval-report", hostile.REPORT_NAME)
    sees(page, "#eval-rows")
    open_tab(page, "Runs")
    sees(page, "#runs")
    open_tab(page, "Deploy")
    sees(page, "body")


def test_what_a_model_says_stays_text(page: Page) -> None:
    open_tab(page, "Playground")
    with fake_openai(lambda body: hostile.SCRIPT) as endpoint:
        for side in ("left", "right"):
            choose(page, f"#pane-{side}-model", endpoint.address)
        page.locator("#composer textarea").fill(hostile.SCRIPT)
        page.locator("#composer textarea").press("Enter")
        for side in ("left", "right"):
            expect(page.locator(f"#pane-{side} .user").last).to_contain_text("onerror=", timeout=30_000)
            expect(page.locator(f"#stats-{side}")).to_contain_text("finished", timeout=120_000)
            assert page.locator(f"#pane-{side}").inner_text().count("<script>") == 2
