"""What visitors do again and again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from playwright.sync_api import Page, expect

MINUTES = 60_000


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def fill(page: Page, elem_id: str, text: str) -> None:
    """Type into a setting; leaving the box tells the page."""
    box = page.locator(f"#{elem_id}").locator("input, textarea").first
    box.fill(text)
    box.blur()


def start_run(page: Page, name: str, epochs: str) -> None:
    open_tab(page, "Data")
    expect(page.locator("#dataset input")).to_have_value(re.compile("lantern-support"))
    expect(page.locator("#data-summary")).to_contain_text("train rows", timeout=30_000)
    page.locator("#data-use").click()
    expect(page.locator("#train-data")).to_contain_text("lantern-support")
    fill(page, "set-name", name)
    fill(page, "set-epochs", epochs)
    page.locator("#start").click()
    expect(page.locator("#live-status")).to_contain_text(name, timeout=30_000)
