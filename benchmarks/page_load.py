"""How long the page takes to be seen and to be used, and how much it jumps, in Chromium: medians over fresh visits.

    python benchmarks/page_load.py [visits]

From the start of the navigation to the first contentful paint (at most 2.5 s), to Gradio's own part being drawn, and to
an answered press (the Train tab opens); the layout shift (CLS) of loading, and of ten seconds while a run trains.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Page, sync_playwright
from startup import ROOT, free_port

CHROMIUM = "/usr/bin/chromium"
BUSY_SECONDS = 10
SHIFTS = """window.shifts = 0;
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({type: 'layout-shift', buffered: true});"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
SETTLED = "document.querySelector('#data-summary')?.textContent.includes('train rows')"


def wait(url: str, server: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None:
                raise SystemExit(f"app.py ended with code {server.returncode}") from None
            time.sleep(0.05)


def opened(browser: Browser) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.add_init_script(SHIFTS)
    return page


def visit(browser: Browser, url: str) -> dict[str, float]:
    page = opened(browser)
    start = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.locator("#dataset").wait_for()
    drawn = time.perf_counter() - start
    page.locator("#tabs [role=tab][data-tab-id=train]").click()
    page.locator("#start").wait_for()
    used = time.perf_counter() - start
    page.locator("#tabs [role=tab][data-tab-id=data]").click()
    page.wait_for_function(SETTLED, timeout=60_000)
    found = {
        "first contentful paint, s": page.evaluate(PAINT) / 1000,
        "drawn, s": drawn,
        "a press is answered, s": used,
        "layout shift of loading": page.evaluate("window.shifts"),
    }
    page.context.close()
    return found


def busy(browser: Browser, url: str) -> float:
    """Layout shift while a run trains and the page shows it."""
    page = opened(browser)
    page.goto(url)
    page.locator("#tabs [role=tab][data-tab-id=train]").click()
    page.locator("#start").click()
    page.locator("#live-status [role=progressbar]").wait_for(timeout=120_000)
    page.wait_for_timeout(BUSY_SECONDS * 1000)  # the first steps bring the charts
    before = page.evaluate("window.shifts")
    page.wait_for_timeout(BUSY_SECONDS * 1000)
    shift = float(page.evaluate("window.shifts") - before)
    page.locator("#stop-now").click()
    page.locator("#resume").wait_for(timeout=60_000)
    page.context.close()
    return shift


def main() -> None:
    visits = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "PHI3TUNE_HOME": str(Path(home) / "workspace")}
        server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        try:
            wait(url, server)
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=CHROMIUM)
                visit(browser, url)  # the first one fills the server's caches
                found = [visit(browser, url) for _ in range(visits)]
                shift = busy(browser, url)
                browser.close()
        finally:
            server.terminate()
            server.wait()
    print(f"| what | median of {visits} | worst |")
    print("|---|---:|---:|")
    for name in found[0]:
        values = [each[name] for each in found]
        print(f"| {name} | {median(values):.3f} | {max(values):.3f} |")
    print(f"| layout shift of {BUSY_SECONDS} s while a run trains | {shift:.3f} | |")


if __name__ == "__main__":
    main()
