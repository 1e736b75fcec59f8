"""The pictures of the docs, from the real app: `make pictures` (or `python -m docs.make_pictures`), some five minutes.

A fresh workspace, no outside request, one real run of lantern-support with every default. The tutorial's steps are
pressed in their order on the page, and each picture is taken when what it shows is there. `--home FOLDER` keeps the
workspace, and a second call on it takes the run that is there.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from phi3tune import jobs
from phi3tune.paths import Workspace
from tests.browser.conftest import App, Visit
from tests.browser.steps import MINUTES, open_tab, wait_until
from tests.conftest import FLAGS

IMAGES = Path(__file__).parent / "images"
RUN, BUILD, BASE = "lantern-support-1", "lantern-support-1/onnx/int4", "phi3-nano"
WIDE, PHONE = (1280, 1000), (390, 844)
COLORS = 200
QUESTION = "How long is the warranty?"
SECOND = "Can I use the lamp in the bathroom?"


class Camera:
    """Takes pictures of one page into docs/images, with few colours: they lie in the repository."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._started = time.monotonic()

    def shoot(self, name: str, at: Locator | None = None) -> None:
        """What the window shows, with `at` below the tabs, which stay in sight; without the passing toasts."""
        expect(self.page.locator(".toast-body")).to_have_count(0)
        self.page.evaluate("() => document.activeElement?.blur()")
        self.page.mouse.move(0, 0)
        if at is None:
            self.page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
        else:
            at.evaluate("e => e.scrollIntoView({behavior: 'instant'})")
        shot = Image.open(io.BytesIO(self.page.screenshot(animations="disabled"))).convert("RGB")
        path = IMAGES / f"{name}.png"
        shot.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
        passed = time.monotonic() - self._started
        sys.stdout.write(f"{passed:5.0f} s  {path.name}, {path.stat().st_size / 1e3:,.0f} kB\n")
        sys.stdout.flush()


def card(page: Page, inside: str) -> Locator:
    """The card of the page that holds an element."""
    return page.locator(".pt-card", has=page.locator(inside)).last


def choose(page: Page, picker: str, value: str) -> None:
    box = page.locator(f"#{picker} input")
    expect(box).not_to_have_value("")  # the page has made its own choice
    box.fill(value)
    box.press("Enter")
    box.blur()  # Tab would open the list again
    expect(box).to_have_value(value)


def ask(page: Page, question: str) -> None:
    """Send a message and wait for both answers."""
    page.locator("#composer textarea").fill(question)
    page.locator("#send").click()
    for side in ("left", "right"):
        expect(page.locator(f"#pane-{side} .user").last).to_contain_text(question)
    expect(page.locator("#stop-answer")).to_be_hidden(timeout=2 * MINUTES)
    expect(page.locator("#send")).to_be_enabled()
    for side in ("left", "right"):
        expect(page.locator(f"#pane-{side} .bot").last).to_have_text(re.compile(r"\w+ \w+"))


def drawn(page: Page, chart: str) -> None:
    wait_until(lambda: page.locator(f"#{chart} canvas, #{chart} svg path").count() > 0)


def data_and_plan(camera: Camera) -> None:
    page = camera.page
    open_tab(page, "Data")
    expect(page.locator("#data-summary")).to_contain_text("train rows", timeout=MINUTES)
    expect(page.locator("#data-summary")).not_to_contain_text("so far", timeout=MINUTES)
    expect(page.locator("#data-details")).to_be_visible(timeout=MINUTES)
    camera.shoot("tutorial-1-data")
    open_tab(page, "Train")
    page.locator("#check-plan").click()
    expect(page.locator("#plan")).to_contain_text("It fits", timeout=2 * MINUTES)
    camera.shoot("tutorial-2-plan", card(page, "#plan"))


def train(camera: Camera, workspace: Workspace) -> None:
    page = camera.page
    open_tab(page, "Train")
    if RUN not in [job.id for job in jobs.runs(workspace)]:
        page.locator("#start").click()
        expect(page.locator("#live-status")).to_contain_text(RUN, timeout=MINUTES)
        folder = workspace.run(RUN)
        wait_until(lambda: jobs.view(folder).step > 0.55 * (jobs.view(folder).steps or 1e9), 600)
        drawn(page, "chart-loss")
        camera.shoot("tutorial-3-training", card(page, "#live-status"))
        wait_until(lambda: not jobs.view(folder).active, 600)
    expect(page.locator("#after")).to_be_visible(timeout=MINUTES)
    drawn(page, "chart-loss")
    camera.shoot("tutorial-4-trained", card(page, "#live-status"))


def compare(camera: Camera) -> None:
    page = camera.page
    page.locator("#compare").click()
    expect(page.locator("#eval-run")).to_be_visible()
    page.locator("#eval-run").click()
    expect(page.locator("#eval-verdict")).to_contain_text("is better than", timeout=4 * MINUTES)
    expect(page.locator("#eval-table")).to_contain_text(re.compile("perplexity", re.IGNORECASE))
    camera.shoot("tutorial-5-compare", card(page, "#eval-verdict"))


def export(camera: Camera) -> None:
    page = camera.page
    open_tab(page, "Train")
    page.locator("#export").click()
    expect(page.locator("#export-status")).to_contain_text(re.compile("passed", re.IGNORECASE), timeout=4 * MINUTES)
    camera.shoot("tutorial-6-export", page.locator("#after"))


def talk(camera: Camera) -> None:
    page = camera.page
    open_tab(page, "Playground")
    choose(page, "pane-left-model", BASE)
    choose(page, "pane-right-model", BUILD)
    ask(page, QUESTION)
    camera.shoot("tutorial-7-chat", card(page, "#pane-left"))


def vote(camera: Camera) -> None:
    """A blind vote; the better answer is the one that knows the lamp."""
    page = camera.page
    page.locator("#clear").click()
    expect(page.locator("#pane-left .user")).to_have_count(0)
    page.locator("#blind input").check()
    expect(page.locator("#difference")).to_contain_text("drawn by lot")
    ask(page, SECOND)
    knows = "A" if "IPX4" in page.locator("#pane-left .bot").last.inner_text() else "B"
    page.locator("#difference").get_by_role("button", name=f"{knows} is better").click()
    expect(page.locator("#difference")).to_contain_text("decided vote")
    camera.shoot("tutorial-8-vote", card(page, "#pane-left"))
    page.locator("#blind input").uncheck()


def deploy(camera: Camera) -> None:
    page = camera.page
    open_tab(page, "Deploy")
    expect(page.locator("#builds")).to_contain_text(re.compile("passed", re.IGNORECASE))
    models = page.locator("#serve-models")
    models.get_by_role("button", name="Clear").click()
    models.locator("input").fill(BUILD)
    models.locator("input").press("Enter")
    port = page.locator("#serve-port input")
    port.fill(str(free_port()))
    port.blur()
    page.locator("#serve-start").click()
    expect(page.locator("#serve-status")).to_contain_text(BUILD, timeout=MINUTES)
    page.locator("#serve-test").click()
    expect(page.locator("#serve-checks")).to_contain_text("8 of 8", timeout=2 * MINUTES)
    camera.shoot("deploy", card(page, "#serve-status"))
    page.locator("#serve-stop").click()
    expect(page.locator("#serve-start")).to_be_visible()


def runs(camera: Camera) -> None:
    open_tab(camera.page, "Runs")
    expect(camera.page.locator("#runs")).to_contain_text(RUN)
    camera.shoot("runs")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(home: Path) -> Iterator[App]:
    """The app over a workspace, on the machine's own terms, whatever this shell's variables say."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "PHI3TUNE_MODE": "local", "GRADIO_ANALYTICS_ENABLED": "False"}
    app = App(home, free_port())
    app.start()
    try:
        yield app
    finally:
        app.stop()
        workspace = Workspace(home)
        for job in jobs.active(workspace):  # of a story that broke off
            jobs.stop(job.folder, workspace, now=True)


@contextmanager
def opened(browser: Browser, app: App, size: tuple[int, int], scheme: str = "light") -> Iterator[Camera]:
    """The page in a window. Afterwards: nothing asked of an outside host, and no error of ours."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en-GB",
        reduced_motion="reduce",
    )
    context.set_default_timeout(MINUTES)
    visit = Visit(context.new_page())
    visit.watch()
    visit.page.goto(f"{app.url}/?__theme={scheme}")
    visit.page.locator("#tabs").wait_for()
    yield Camera(visit.page)
    context.close()
    if visit.hosts - {"127.0.0.1", ""} or visit.problems:
        raise SystemExit(f"outside hosts: {visit.hosts}; errors: {visit.problems}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="workspace to use; without it, one that is deleted afterwards")
    parser.add_argument("--only", action="append", help="only this step, on a workspace that has what it needs")
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM", "/usr/bin/chromium"))
    given = parser.parse_args()
    expect.set_options(timeout=30_000)
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        home = (given.home or Path(temporary) / "workspace").absolute()
        workspace = Workspace(home)
        steps: dict[str, Callable[[Camera], None]] = {
            "data": data_and_plan,
            "train": lambda camera: train(camera, workspace),
            "compare": compare,
            "export": export,
            "talk": talk,
            "vote": vote,
            "deploy": deploy,
            "runs": runs,
        }
        browser = playwright.chromium.launch(executable_path=given.chromium, args=FLAGS)
        with running(home) as app:
            with opened(browser, app, WIDE) as camera:
                for name, step in steps.items():
                    if not given.only or name in given.only:
                        step(camera)
            if not given.only or "looks" in given.only:
                for name, size, scheme in (("dark", WIDE, "dark"), ("phone", PHONE, "light")):
                    with opened(browser, app, size, scheme) as camera:
                        open_tab(camera.page, "Playground")
                        choose(camera.page, "pane-right-model", BUILD)
                        ask(camera.page, QUESTION)
                        camera.shoot(name, card(camera.page, "#pane-left"))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
