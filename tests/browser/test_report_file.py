"""An evaluation's report.html, opened as a file in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from phi3tune.evaluation import html
from tests.evaluation.example_report import HOSTILE, answer, report, row, rows

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_it_needs_nothing_runs_nothing_and_fits(browser: Browser, tmp_path: Path, scheme: str, width: int) -> None:
    found = report()
    found["models"][1]["label"] = "a-long-name-of-a-run-" * 4
    found["comparisons"][0]["sentence"] = HOSTILE
    file = tmp_path / "report.html"
    file.write_text(html.page(found, [*rows(), row(10, answer("yes", True), answer(HOSTILE + "x" * 500, False))]))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(file.as_uri())
    for summary in page.locator("summary").all()[1:]:
        summary.click()
    assert page.locator("article").count() == 9
    assert asked == [file.as_uri()]
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Every word of the charts lies within its chart.
    clipped = page.evaluate(
        """() => [...document.querySelectorAll('figure *')].filter(node => {
            const own = node.getBoundingClientRect(), chart = node.closest('figure').getBoundingClientRect();
            return own.left < chart.left - 1 || own.right > chart.right + 1;
        }).length"""
    )
    assert clipped == 0
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert dark is (scheme == "dark")
    context.close()
