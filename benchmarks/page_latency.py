"""How soon the page answers while a run trains: ten presses in a real Chromium, from the click to what it changes.

    python benchmarks/page_latency.py [rounds]

The bundled model is trained on the bundled data meanwhile. Chromium is looked for as the browser tests do it: in
$CHROMIUM, then on the path. Prints one line for each press, then the median and the worst of all.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from playwright.sync_api import Page, sync_playwright

from phi3tune import jobs
from phi3tune.paths import Workspace

ROOT = Path(__file__).parents[1]
ROUNDS = 1
LOADING_MS = 240_000
TABS = ("evaluate", "playground", "deploy", "runs", "data", "train")
# What the browser does: click, then wait until the condition holds, looked at with every frame. Milliseconds.
PRESS = """([selector, condition]) => new Promise((resolve, reject) => {
  const holds = new Function(`return (${condition})`);
  const begun = performance.now();
  const look = () => {
    if (holds()) resolve(performance.now() - begun);
    else if (performance.now() - begun > 30000) reject(new Error(`nothing came of ${selector}`));
    else requestAnimationFrame(look);
  };
  document.querySelector(selector).click();
  look();
})"""


def shown(selector: str) -> str:
    return f"document.querySelector('{selector}')?.getClientRects().length > 0"


def tab(name: str) -> tuple[str, str, str]:
    selector = f'#tabs > .tab-wrapper [role="tab"][data-tab-id="{name}"]'
    return f"tab {name}", selector, f"document.querySelector('{selector}').getAttribute('aria-selected') === 'true'"


def radio(elem_id: str, place: int) -> str:
    return f"#{elem_id} label:nth-of-type({place}) input"


# Name, what is clicked, and what must hold then. Tabs, and buttons that go to the server and back.
PRESSES = [
    *map(tab, TABS),
    ("all settings", radio("mode", 2), shown("#advanced")),
    ("simple settings", radio("mode", 1), f"!({shown('#advanced')})"),
    ("storage", "#storage-open", shown("#storage")),
    ("close storage", "#storage-close", f"!({shown('#storage')})"),
]


@contextmanager
def app(home: str) -> Iterator[str]:
    """The app over an empty workspace; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PHI3TUNE_HOME": home, "GRADIO_SERVER_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + LOADING_MS / 1000
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def start_training(page: Page) -> None:
    """Begin a run and wait until it has made its first steps; every tab has been drawn once then."""
    for name in TABS:
        page.locator(tab(name)[1]).click()
        page.wait_for_timeout(500)
    page.locator("#train-data b").wait_for()
    page.locator("#start").click()
    page.wait_for_function("/step [1-9]/.test(document.querySelector('#live-status')?.innerText || '')")


def measure(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every press."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    times: dict[str, list[float]] = {name: [] for name, _, _ in PRESSES}
    with tempfile.TemporaryDirectory() as home, app(home) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(LOADING_MS)
        page.goto(url)
        page.locator("#data-summary .pt-facts").wait_for()
        try:
            start_training(page)
            for _ in range(rounds):
                for name, selector, condition in PRESSES:
                    times[name].append(page.evaluate(PRESS, [selector, condition]))
                    page.wait_for_timeout(700)
        finally:
            browser.close()
            workspace = Workspace(Path(home))
            for job in jobs.active(workspace):
                jobs.stop(job.folder, workspace, now=True)
    return times


def main() -> None:
    times = measure(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
    for name, found in times.items():
        print(f"{name:<18}{median(found):>8.0f} ms")
    every = [one for found in times.values() for one in found]
    print(f"{'median':<18}{median(every):>8.0f} ms\n{'worst':<18}{max(every):>8.0f} ms   of {len(every)} presses")


if __name__ == "__main__":
    main()
