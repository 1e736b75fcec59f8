"""Text of strangers in a real browser: rows, names, notes, events, reports, replies, errors. None of it runs or fetches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.fake_openai import Fault, fake_openai
from tests.security import hostile
from tests.security.conftest import Watched

pytestmark = [pytest.mark.slow, pytest.mark.browser]
ATTACKED = "#conversation img[src^='http'], img[onerror], svg[onload], a[href^='javascript']"


@pytest.fixture
def page(browser: Browser, watched: Watched) -> Iterator[Page]:
    """The page, in a browser that writes down whom it asks; afterwards: only the app, and no script of ours ran."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    opened = context.new_page()
    asked, dialogs, complaints = set(), [], []
    opened.on("request", lambda request: asked.add(urlsplit(request.url).hostname or ""))
    opened.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    opened.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
    opened.goto(watched.url)
    opened.locator("#start").wait_for()
    yield opened
    assert opened.evaluate("window.__hit") is None
    assert opened.locator(ATTACKED).count() == 0
    assert asked <= {"127.0.0.1", ""}
    assert dialogs == []
    assert complaints == []  # the policy was not even needed
    context.close()


def tab(page: Page, name: str) -> None:
    page.locator(f"#tabs button[role=tab][data-tab-id={name}], #tabs [role=tab]#{name}-button").first.click()


def sees(page: Page, place: str, text: str = hostile.TAG[:5]) -> None:
    expect(page.locator(place).first).to_contain_text(text)


def test_text_of_strangers_stays_text(page: Page, tmp_path: Path) -> None:
    print([tab.get_attribute("id") for tab in page.get_by_role("tab").all()])
    rows = tmp_path / f"{hostile.TAG}.jsonl"
    chat = [{"role": "user", "content": hostile.SCRIPT}, {"role": "assistant", "content": hostile.SCRIPT}]
    rows.write_text(
        "".join(json.dumps({"messages": [*chat, {**chat[0], "content": n}, chat[1]]}) + "\n" for n in "abcdefgh")
    )
    page.locator("#upload input[type=file]").first.set_input_files(rows)
    page.wait_for_timeout(5000)
    print(page.locator("body").inner_text()[:6000])
    for name in ("Evaluate", "Playground", "Deploy", "Runs"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(1500)
        print("=====", name)
        print(page.locator("body").inner_text()[:3500])
    assert 0
