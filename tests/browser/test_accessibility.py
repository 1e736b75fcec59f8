"""The page without a mouse, for a screen reader, without motion: axe on every tab, the keyboard, the shortcuts.

With `PHI3TUNE_WRITE_DOCS=1` what axe found is written to docs/accessibility.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from phi3tune import jobs
from phi3tune.paths import Workspace
from tests.browser.conftest import ROOT, App, Visit
from tests.browser.steps import open_tab, wait_until
from tests.ui.contrast_table import contrast_table

pytestmark = [pytest.mark.slow, pytest.mark.browser]
TABS = ("Data", "Train", "Evaluate", "Playground", "Deploy", "Runs")
SEVERE = ("serious", "critical")
# Findings in parts that Gradio draws and we cannot change: (rule, piece of the element) and why it stays.
GRADIOS = {
    ("image-redundant-alt", 'alt="Settings"'): "the icon of Gradio's footer link repeats the link's text",
}
TARGETS = """() => [...document.querySelectorAll('button, a[href], input, textarea, select, summary')]
.filter(element => {
  const size = (element.closest('label') ?? element).getBoundingClientRect();
  const seen = element.getClientRects().length > 0 && getComputedStyle(element).visibility !== 'hidden';
  const hidden = element.closest('[aria-hidden="true"], .pt-skip, .visually-hidden') || size.width <= 1;
  return seen && !hidden && (size.width < 24 || size.height < 24);
}).map(element => element.outerHTML.slice(0, 160))"""
# Cut off at the right, where nothing can be scrolled sideways to show it.
OUTSIDE = """() => [...document.querySelectorAll('button, a[href], input, textarea, select')].filter(element => {
  const right = element.getBoundingClientRect().right;
  const seen = element.getClientRects().length > 0 && !element.closest('.visually-hidden, .pt-hidden');
  return seen && right > innerWidth + 1
    && ![...document.querySelectorAll('*')].some(box => box.contains(element) && box.scrollWidth > box.clientWidth
      && ['auto', 'scroll'].includes(getComputedStyle(box).overflowX));
}).map(element => element.outerHTML.slice(0, 160))"""
HEADINGS = """() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')]
  .filter(heading => heading.getClientRects().length).map(heading => Number(heading.nodeName[1]))"""
MOVING = """() => [...document.querySelectorAll('*')].filter(element => {
  const style = getComputedStyle(element);
  return style.animationName !== 'none' || parseFloat(style.transitionDuration) > 0;
}).length"""
# The ring may be drawn by the element or by the box around it.
RING = """() => { for (let e = document.activeElement, n = 0; e && n < 4; e = e.parentElement, n++) {
  const style = getComputedStyle(e);
  if (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) return true;
} return document.activeElement === document.body; }"""
LIVE = """() => { window.spoken = [];
  const live = '[aria-live]:not([aria-live=off]), [role=status], [role=alert], [role=log]';
  new MutationObserver(changes => { for (const change of changes) {
    const node = change.target.nodeType === 1 ? change.target : change.target.parentElement;
    const region = node && node.closest(live);
    if (region && region.textContent.trim()) window.spoken.push(region.textContent.trim());
  } }).observe(document.body, {childList: true, subtree: true, characterData: true}); }"""


@pytest.fixture(scope="module")
def report() -> Iterator[dict[tuple[str, str], list[dict[str, Any]]]]:
    """Findings by tab and scheme."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    yield found
    if os.environ.get("PHI3TUNE_WRITE_DOCS"):
        (ROOT / "docs" / "accessibility.md").write_text(_as_document(found), encoding="utf-8")


def _as_document(found: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    lines = [
        "# Accessibility",
        "",
        "Written by `PHI3TUNE_WRITE_DOCS=1 pytest tests/browser/test_accessibility.py`: axe-core in Chromium on every",
        "tab, with all its sections open. The test fails on a serious or critical finding that is not Gradio's own.",
        "",
        "| tab | theme | serious or critical | others |",
        "|---|---|---|---|",
    ]
    for (tab, scheme), violations in found.items():
        by_weight: dict[bool, list[str]] = {True: [], False: []}
        for violation in violations:
            for node in violation["nodes"]:
                why = _reason(violation["id"], node["html"])
                text = f"{violation['id']} ({violation['impact']})" + (f": {why}" if why else "")
                by_weight[violation["impact"] in SEVERE].append(text)
        cells = [", ".join(sorted(set(by_weight[severe]))) or "none" for severe in (True, False)]
        lines.append(f"| {tab} | {scheme} | {cells[0]} | {cells[1]} |")
    return "\n".join([*lines, "", contrast_table(), ""])


def _reason(rule: str, html: str) -> str:
    return next((why for (known, piece), why in GRADIOS.items() if known == rule and piece in html), "")


def opened(browser: Browser, app: App, **context: Any) -> Page:
    page = browser.new_context(
        **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **context}
    ).new_page()
    page.set_default_timeout(30_000)
    page.goto(app.url)
    expect(page.locator("#data-summary")).to_contain_text("train rows", timeout=60_000)
    return page


def open_sections(page: Page) -> None:
    """Everything that is folded on the open tab; opening one may show others."""
    closed = page.locator(
        ".gr-accordion > .label-wrap[aria-expanded=false]:visible, details:not([open]) > summary:visible"
    )
    for _ in range(40):
        if closed.count() == 0:
            return
        closed.first.click()
    raise AssertionError("sections do not stay open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_severe_that_is_ours(
    browser: Browser, app: App, scheme: Any, report: dict[tuple[str, str], list[dict[str, Any]]]
) -> None:
    page = opened(browser, app, color_scheme=scheme)
    for tab in TABS:
        open_tab(page, tab)
        open_sections(page)
        violations = Axe().run(page).response["violations"]
        report[tab, scheme] = violations
        ours = [
            (tab, violation["id"], node["html"][:200], node["any"][:1])
            for violation in violations
            if violation["impact"] in SEVERE
            for node in violation["nodes"]
            if not _reason(violation["id"], node["html"])
        ]
        assert ours == []
        levels = page.evaluate(HEADINGS)
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), (tab, levels)
        assert page.evaluate(TARGETS) == [], tab
    assert page.get_by_role("main").count() == 1
    page.context.close()


def test_narrow_pages_scroll_only_downwards(browser: Browser, app: App) -> None:
    page = opened(browser, app, viewport={"width": 390, "height": 844})
    for tab in TABS:
        open_tab(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
        assert page.evaluate(OUTSIDE) == [], tab
        assert page.evaluate(TARGETS) == [], tab
    page.context.close()


def test_reduced_motion_moves_nothing(browser: Browser, app: App) -> None:
    page = opened(browser, app)
    for tab in TABS:
        open_tab(page, tab)
        assert page.evaluate(MOVING) == 0, tab
    page.context.close()


def test_the_palette_and_the_shortcuts(visit: Visit) -> None:
    page = visit.page
    open_tab(page, "Runs")
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Commands")
    expect(palette.get_by_role("combobox")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))"
        )
    page.keyboard.press("Escape")
    expect(palette).to_be_hidden()
    expect(page.get_by_role("tab", name="Runs")).to_be_focused()

    page.keyboard.press("Control+k")
    page.keyboard.type("start training")
    expect(palette.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#start")).to_be_focused()
    page.keyboard.press("Control+k")
    page.keyboard.type("no such thing")
    expect(palette).to_contain_text("Nothing on this page")
    page.keyboard.press("Escape")

    open_tab(page, "Data")
    page.keyboard.press("Control+Enter")  # its main button: on to the next step
    expect(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")


def test_the_language_is_chosen_on_the_page_and_stays(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.locator("[data-set-language=ja]").click()
    expect(page.locator("html")).to_have_attribute("lang", "ja", timeout=30_000)
    expect(page.locator("#dataset")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("tab", name="Train")).to_have_count(0)
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "ja", timeout=30_000)
    page.locator("[data-set-language=en]").click()
    expect(page.get_by_role("tab", name="Train", exact=True)).to_have_count(1, timeout=30_000)
    # A page that is loaded again cuts off Gradio's streams, which complains of that.
    visit.problems[:] = [
        text for text in visit.problems if "AbortError" not in text and "Connection errored" not in text
    ]


def test_from_load_to_a_run_and_its_end_with_the_keyboard_alone(browser: Browser, app: App) -> None:
    page = opened(browser, app)
    page.context.grant_permissions(["notifications"], origin=app.url)
    page.evaluate(
        "() => { window.notices = []; window.Notification = class extends EventTarget { static permission = 'granted';"
        " constructor(title, options) { super(); window.notices.push(options.body); } };"
        " Object.defineProperty(document, 'hidden', {get: () => Boolean(window.away)}); }"
    )
    page.keyboard.press("Tab")
    expect(page.locator(".pt-skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Data")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Train")).to_be_focused()
    expect(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")
    tab_to(page, "start")
    page.keyboard.press("Enter")
    expect(page.locator("#live-status")).to_contain_text("lantern-support", timeout=60_000)
    [job] = Workspace(app.home).run_folders()
    wait_until(lambda: jobs.view(job).step >= 1, 120)

    page.evaluate(LIVE)
    step = jobs.view(job).step
    wait_until(lambda: jobs.view(job).step >= step + 3, 60)
    assert page.evaluate("window.spoken") == []  # steps are shown, not read out

    page.evaluate("window.away = true")
    page.keyboard.press("Control+k")
    page.keyboard.type("stop now")
    page.keyboard.press("Enter")
    expect(page.locator("#stop-now")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#announcer")).to_contain_text(re.compile("stopped|ended"), timeout=30_000)
    assert len(page.evaluate("window.notices")) == 1
    page.context.close()


def tab_to(page: Page, elem_id: str) -> None:
    """Press Tab until it is reached; on the way every place with the focus shows that it has it."""
    for _ in range(80):
        page.keyboard.press("Tab")
        assert page.evaluate(RING), page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        if page.evaluate("document.activeElement.id") == elem_id:
            return
    raise AssertionError(f"#{elem_id} is not in the order of Tab")
