"""The data step of the page: a file with faults is uploaded, read, and mended."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def chat(question: str, answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def upload(page: Page, path: Path) -> None:
    page.locator("#upload input[type=file]").set_input_files(path)


def show(page: Page, tab: str) -> None:
    page.locator("#data-details").get_by_role("tab", name=tab).click()


def test_a_fault_is_named_with_code_line_and_fix_and_can_be_repaired(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    good = [chat(f"What is number {n}?", f"It is the number {n}.") for n in range(30)]
    wizard = {"messages": [{"role": "wizard", "content": "Hocus"}, {"role": "assistant", "content": "pocus"}]}
    path = tmp_path / "faulty.jsonl"
    path.write_text(lines(good[:11]) + lines([wizard]) + '{"messages": [\n' + lines(good[11:]))
    upload(page, path)
    summary = page.locator("#data-summary")
    for code, line in (("bad_role", "12"), ("bad_json", "13")):
        row = summary.locator("tr", has_text=code)
        expect(row).to_contain_text(line, timeout=30_000)
    expect(summary).to_contain_text("cannot be used as it is")

    page.locator("#data-make").click()
    expect(page.locator("#data-changes")).to_contain_text("2 changes", timeout=30_000)
    expect(summary).to_contain_text("none", timeout=30_000)
    expect(summary.locator("tr", has_text="bad_")).to_have_count(0)
    expect(page.locator("#dataset input")).to_have_value(re.compile("version 2"))


def test_findings_open_their_rows_and_can_be_left_out(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    rows = [
        chat(f"Where is house number {n} of the long street?", f"House {n} is on the left side.") for n in range(40)
    ]
    rows += [rows[3], chat("Who am I?", "You are {{name}}, I think."), chat("My card?", "It is 4111 1111 1111 1111.")]
    path = tmp_path / "<img src=x onerror=alert(1)>.jsonl"
    path.write_text(lines(rows))
    upload(page, path)
    expect(page.locator("#data-mend")).to_be_visible(timeout=30_000)
    show(page, "Findings")
    for title in ("Exact duplicates", "Placeholders left in", "Card numbers"):
        expect(page.locator("#data-findings")).to_contain_text(title)
    page.get_by_role("button", name="Exact duplicates").click()
    expect(page.locator("#data-found-rows")).to_contain_text("house number 3 of")
    page.locator("#data-make").click()
    expect(page.locator("#data-changes")).to_contain_text("was written", timeout=30_000)
    expect(page.locator("#data-findings")).not_to_contain_text("Exact duplicates", timeout=30_000)
    show(page, "Statistics")
    expect(page.locator("#data-statistics")).to_contain_text("English")
    show(page, "Tokens")
    expect(page.locator("#data-tokens .pt-learned").first).to_be_visible()
