from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import pytest

from phi3tune import jobs, keys
from phi3tune.config import ExportConfig, HostedConfig, ServeConfig
from phi3tune.conformance import NAMES, Check
from phi3tune.jobs import workers
from phi3tune.paths import Workspace
from phi3tune.ui import build_card, deploy, render_endpoint
from phi3tune.ui.live import Cursor
from tests.fake_builds import fake_build

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

    def snippets(self, url: str, model: str, asked: Mapping[str, Any] | None = None) -> dict[str, str]:
        return dict.fromkeys(("curl", "python", "javascript"), f"{model} at {url}")


class Deploy:
    """The tab over fake endpoints, with its handlers by the name of their function."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.endpoints = workspace, FakeEndpoints()
        with gr.Blocks() as demo:
            self.tab = deploy.build(self.endpoints, None)
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
    assert deployed.tab.endpoint is not None
    values = [widget.value for widget in deployed.tab.endpoint.settings.values()]
    deployed.handlers["endpoint_card.start"](["phi3-nano"], *values)
    shown = deployed.shown()
    assert "Serving phi3-nano at http://127.0.0.1:8000/v1" in shown["serve-status"]
    assert shown["serve-code"]["value"] == "phi3-nano at http://127.0.0.1:8000/v1"
    deployed.handlers["endpoint_card.stop"]()
    assert "is off" in deployed.shown()["serve-status"]


def test_a_key_is_shown_once_and_kept_as_a_name(deployed: Deploy, workspace: Workspace) -> None:
    told = deployed.handlers["endpoint_card.make_key"]("laptop")
    assert deployed.tab.endpoint is not None
    made = told[deployed.tab.endpoint.key].value
    assert keys.check(made, workspace) == "laptop"
    listed = deployed.shown()["keys"]
    assert "laptop" in listed and made not in listed


def test_an_endpoint_that_is_off_is_not_tested(deployed: Deploy) -> None:
    with pytest.raises(gr.Error, match="Start the endpoint"):
        list(deployed.handlers["endpoint_card.test"]())


def test_a_build_is_talked_to_beside_what_it_was_made_from(deployed: Deploy, workspace: Workspace) -> None:
    fake_build(workspace, "lamp")
    assert build_card.side_by_side("lamp/onnx/int4", workspace) == ("lamp", "lamp/onnx/int4")
    assert deployed.handlers["build_card.serve"]("lamp/onnx/int4") == ["lamp/onnx/int4"]


def test_a_new_build_is_the_chosen_one(deployed: Deploy, workspace: Workspace) -> None:
    fake_build(workspace, "lamp")
    cursor = Cursor()
    deployed.tab.builds.update(cursor, [], workspace, None)
    fake_build(workspace, "lamp", "int8")
    told = deployed.tab.builds.update(cursor, [], workspace, "lamp/onnx/int4")
    assert told[deployed.tab.builds.chosen]["value"] == "lamp/onnx/int8"
    again = deployed.tab.builds.update(cursor, [], workspace, "lamp/onnx/int4")
    assert again[deployed.tab.builds.chosen]["value"] == "lamp/onnx/int4", "what a person chooses stays"


def test_a_build_is_packed_with_progress(deployed: Deploy, workspace: Workspace) -> None:
    fake_build(workspace, "lamp")
    *_, last = deployed.handlers["build_card.pack"]("lamp/onnx/int4")
    card = deployed.tab.builds
    with zipfile.ZipFile(last[card.pack.file]) as archive:
        assert any(name.endswith("model.onnx") for name in archive.namelist())
    assert last[card.stop_pack].visible is False


def test_requests_are_summed_up_while_their_card_is_open(deployed: Deploy) -> None:
    card = deployed.tab.monitor
    assert card is not None
    assert not set(deployed.tab.parts) & {card.dashboard, card.model}, "not at every tick"
    told = deployed.handlers["monitor_card.look"]("last 7 days", None)
    assert "No requests in this time" in told[card.dashboard]
    assert (told[card.timer].value, told[card.timer].active) == (60.0, True)


def test_visitors_build_and_take_along_but_serve_and_publish_nothing(workspace: Workspace) -> None:
    with gr.Blocks() as demo:
        tab = deploy.build(FakeEndpoints(), HostedConfig())
        deploy.connect(tab, lambda trigger: None, workspace)
    ids = {getattr(block, "elem_id", None) or "" for block in demo.blocks.values()}
    assert {"build-start", "builds", "build-pack", "build-report"} <= ids
    assert not [name for name in ids if name.startswith(("serve", "push", "key", "monitor", "build-serve"))]
    modules = {fn.fn.__module__.rpartition(".")[2] for fn in demo.fns.values() if fn.fn is not None}
    assert modules <= {"build_card", "wire", "download", "live"}
    shown = tab.update(Cursor(), [], workspace, *[None] * len(tab.looks))
    assert tab.builds.table in shown


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
