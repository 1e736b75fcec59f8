from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import pytest

from phi3tune import jobs, keys
from phi3tune.config import ExportConfig, ServeConfig
from phi3tune.conformance import NAMES, Check
from phi3tune.jobs import workers
from phi3tune.paths import Workspace
from phi3tune.ui import deploy, render_endpoint
from phi3tune.ui.live import Cursor

ATTACK = "<img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Told:
    url: str | None = None
    models: tuple[str, ...] = ()
    ready: bool = False
    since: float | None = None
    keyed: bool = False
    requests: int = 0
    error: str | None = None


class FakeEndpoints:
    def __init__(self) -> None:
        self.now = Told()

    def start(self, config: ServeConfig) -> str:
        self.now = Told(f"http://127.0.0.1:{config.port}/v1", tuple(config.models), ready=True, since=0.0)
        return str(self.now.url)

    def stop(self) -> None:
        self.now = Told()

    def state(self) -> Told:
        return self.now

    def snippets(self, url: str, model: str) -> dict[str, str]:
        return dict.fromkeys(("curl", "python", "javascript"), f"{model} at {url}")


class Deploy:
    """The tab over fake endpoints, with its handlers by the name of their function."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.endpoints = workspace, FakeEndpoints()
        with gr.Blocks() as demo:
            self.tab = deploy.build(self.endpoints)
            deploy.connect(self.tab, lambda trigger: None, workspace)
        handlers = [fn.fn for fn in demo.fns.values() if fn.fn is not None]
        self.handlers = {f"{fn.__module__.rpartition('.')[2]}.{fn.__name__}": fn for fn in handlers}

    def shown(self) -> dict[str, Any]:
        told = self.tab.update(Cursor(), jobs.active(self.workspace), self.workspace, *[None] * len(self.tab.looks))
        return {part.elem_id: value for part, value in told.items()}


@pytest.fixture
def deployed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Deploy:
    monkeypatch.setattr(workers, "start", lambda *_: 1)
    return Deploy(workspace)


def test_a_build_is_a_job_with_the_settings_of_the_form(deployed: Deploy, workspace: Workspace) -> None:
    card = deployed.tab.builds
    values = {name: widget.value for name, widget in card.settings.items()} | {"precision": "int8"}
    deployed.handlers["build_card.start"]("phi3-nano", *values.values())
    [job] = jobs.active(workspace)
    config = jobs.read_config(job.folder)
    assert isinstance(config, ExportConfig)
    assert (config.model, config.precision, config.format) == ("phi3-nano", "int8", "onnx")


def test_no_model_to_build_is_told(deployed: Deploy) -> None:
    with pytest.raises(gr.Error, match="Choose a model"):
        deployed.handlers["build_card.start"](None, *[None] * len(deployed.tab.builds.settings))


def test_the_endpoint_is_shown_as_it_is(deployed: Deploy) -> None:
    assert "is off" in deployed.shown()["serve-status"]
    values = [widget.value for widget in deployed.tab.endpoint.settings.values()]
    deployed.handlers["endpoint_card.start"](["phi3-nano"], *values)
    shown = deployed.shown()
    assert "Serving phi3-nano at http://127.0.0.1:8000/v1" in shown["serve-status"]
    assert shown["serve-code"].value == "phi3-nano at http://127.0.0.1:8000/v1"
    deployed.handlers["endpoint_card.stop"]()
    assert "is off" in deployed.shown()["serve-status"]


def test_a_key_is_shown_once_and_kept_as_a_name(deployed: Deploy, workspace: Workspace) -> None:
    told = deployed.handlers["endpoint_card.make_key"]("laptop")
    made = told[deployed.tab.endpoint.key].value
    assert keys.check(made, workspace) == "laptop"
    listed = deployed.shown()["keys"]
    assert "laptop" in listed and made not in listed


def test_an_endpoint_that_is_off_is_not_tested(deployed: Deploy) -> None:
    with pytest.raises(gr.Error, match="Start the endpoint"):
        list(deployed.handlers["endpoint_card.test"]())


def test_checks_count_up_to_a_verdict() -> None:
    done = [Check(name, True, "as it should", 0.1) for name in NAMES]
    assert f"1 of {len(NAMES)} checks done" in render_endpoint.checks(done[:1])
    assert f"{len(NAMES)} of {len(NAMES)} checks passed" in render_endpoint.checks(done)
    broken = render_endpoint.checks([*done[:-1], replace(done[-1], passed=False, detail=ATTACK)])
    assert f"{len(NAMES) - 1} of {len(NAMES)} checks passed" in broken and "pt-bad" in broken
    assert ATTACK not in broken


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (Told(), "is off"),
        (Told(error="port taken"), "port taken"),
        (Told("http://x/v1", ("lamp",)), "Loading lamp"),
        (Told("http://x/v1", ("lamp",), ready=True, keyed=True), "a key is needed"),
        (Told("http://x/v1", (ATTACK,), error=ATTACK), "cannot serve"),
    ],
)
def test_each_state_has_its_line(state: Told, words: str) -> None:
    html = render_endpoint.status(state)
    assert words in html and ATTACK not in html
