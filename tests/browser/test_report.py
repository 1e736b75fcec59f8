"""A report on two models and 500 rows, on the page: verdict, charts, flips, one row in full, its files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import App, Visit
from tests.path.command import Scored

pytestmark = [pytest.mark.slow, pytest.mark.browser]
RUN = "topics"
ROWS = 500


@pytest.fixture(scope="module")
def report(app: App, topics: Scored) -> Path:
    """The folder of the shared report, in the workspace of the app."""
    shutil.copytree(topics.home / "runs", app.home / "runs", dirs_exist_ok=True)
    return app.home / topics.report.relative_to(topics.home)


def test_two_models_on_500_rows(visit: Visit, report: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="Evaluate").click()
    verdict = page.locator("#eval-verdict")
    expect(verdict).to_contain_text(f"{RUN} is better than phi3-nano", timeout=30_000)
    expect(verdict).to_contain_text(re.compile(r"95 % interval .* to .*500 rows"))
    for title in ("Accuracy", "Perplexity"):
        expect(page.locator("#eval-charts figure", has_text=title).first).to_be_visible()
    expect(page.locator("#eval-more")).to_contain_text("Labels: topics")

    fixed = page.locator("#eval-filter label", has_text="fixed")
    flips = sum(
        not row["answers"][0]["exact_match"] and row["answers"][1]["exact_match"]
        for row in map(json.loads, (report / "rows.jsonl").read_text(encoding="utf-8").splitlines())
    )
    expect(fixed).to_contain_text(f"({flips:,})")
    fixed.click()
    expect(page.locator("#eval-rows")).to_contain_text(f"{flips:,} of {ROWS} rows")


def test_a_row_opens_in_full_and_in_the_playground(visit: Visit, report: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="Evaluate").click()
    page.locator("#eval-rows .pt-open").first.click()
    detail = page.locator("#eval-detail")
    expect(detail.locator(".pt-loss").first).to_be_visible(timeout=30_000)
    question = detail.locator(".pt-message span").first.inner_text()
    page.locator("#eval-play").click()
    expect(page.locator("#composer textarea")).to_have_value(question, timeout=30_000)
    expect(page.locator("#pane-right-model input")).to_have_value(RUN)


def test_the_report_can_be_taken_along(visit: Visit, report: Path, tmp_path: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="Evaluate").click()
    with page.expect_download() as started:
        page.locator("#eval-file-html").click()
    saved = tmp_path / "report.html"
    started.value.save_as(saved)
    alone = page.context.new_page()  # the app's page stays open: its streams are not cut off
    alone.goto(saved.as_uri())
    expect(alone.locator("body")).to_contain_text(f"{RUN} is better than phi3-nano")
