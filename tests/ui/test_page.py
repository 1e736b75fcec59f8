"""The page's handlers, called as a browser or a stranger's script would call them."""

from __future__ import annotations

import inspect
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from phi3tune import jobs
from phi3tune.errors import UserError
from phi3tune.events import EventLog, Metrics
from phi3tune.jobs import workers
from phi3tune.paths import Workspace
from phi3tune.server.endpoint import Endpoints
from phi3tune.ui import handover
from phi3tune.ui.page import Page, create_ui

from .conftest import MakeJob


@pytest.fixture
def demo(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> gr.Blocks:
    monkeypatch.setattr(workers, "start", _no_worker)
    return create_ui(workspace, Endpoints(workspace))


def _no_worker(folder: Path, workspace: Workspace) -> Any:
    raise AssertionError("no worker is started in these tests")


@pytest.fixture
def page(workspace: Workspace) -> Page:
    with gr.Blocks():
        return Page(workspace, Endpoints(workspace))


def named(updates: dict[Any, Any]) -> dict[str, Any]:
    return {getattr(part, "elem_id", None) or type(part).__name__: value for part, value in updates.items()}


def tick(page: Page, cursor: Any, run: object = None, smoothing: object = 0.0) -> dict[str, Any]:
    return named(page.tick(cursor, run, smoothing, *[None] * len(page.looks)))


def test_no_handler_is_listed_as_an_api(demo: gr.Blocks) -> None:
    assert {fn.api_visibility for fn in demo.fns.values()} == {"private"}


def test_elements_for_tests_and_links_exist_once(demo: gr.Blocks) -> None:
    ids = [block.elem_id for block in demo.blocks.values() if getattr(block, "elem_id", None)]
    assert len(ids) == len(set(ids))
    wanted = "dataset start stop job-chip live-status chart-loss eval-models eval-run eval-verdict eval-table"
    wanted += " pane-left-model pane-right-model composer send pane-left pane-right stats-left stats-right"
    assert set(f"{wanted} export export-status".split()) <= set(ids)


def test_a_second_look_sends_nothing_that_was_sent(page: Page, make_run: MakeJob) -> None:
    make_run("lamp", [Metrics(step=1, values={"loss": 2.0})])
    cursor = deepcopy(page.cursor.value)
    first = tick(page, cursor)
    assert first["run"]["value"] == "lamp"
    assert {"chart-loss", "live-status", "runs", "job-chip", "stop", "eval-verdict"} <= set(first)
    tick(page, cursor, "lamp")  # the charts' legends follow their values
    again = tick(page, cursor, "lamp")
    assert set(again) <= {"Timer", "device"}


def test_charts_follow_new_events(page: Page, make_run: MakeJob) -> None:
    job = make_run("lamp", [Metrics(step=1, values={"loss": 2.0})])
    cursor = deepcopy(page.cursor.value)
    tick(page, cursor)
    # Gradio draws a chart's series anew only when this changes after the values.
    assert set(tick(page, cursor, "lamp")["chart-loss"]) == {"color_title", "__type__"}
    EventLog(job.folder / jobs.EVENTS).append(Metrics(step=2, values={"loss": 1.0, "eval_loss": 1.5}))
    charted = tick(page, cursor, "lamp")["chart-loss"]
    assert charted.step.tolist() == [1, 2, 2]
    assert set(charted.series) == {"training", "validation"}
    assert set(tick(page, cursor, "lamp")["chart-loss"]) == {"color_title", "__type__"}


def test_a_run_without_figures_shows_no_empty_charts(page: Page, make_run: MakeJob) -> None:
    make_run("lamp")
    seen = tick(page, deepcopy(page.cursor.value))
    assert "chart-loss" not in seen
    assert seen["curves"]["visible"] is False


def test_buttons_fit_the_state(page: Page, make_run: MakeJob) -> None:
    cursor = deepcopy(page.cursor.value)
    make_run("lamp", state="stopped")
    seen = tick(page, cursor)
    shown = {name: seen[name]["visible"] for name in ("stop", "stop-now", "resume", "delete", "after")}
    assert shown == {"stop": False, "stop-now": False, "resume": True, "delete": True, "after": False}
    make_run("lamp", state="completed")
    seen = tick(page, cursor, "lamp")
    assert (seen["resume"]["visible"], seen["after"]["visible"]) == (False, True)


def test_a_run_started_elsewhere_comes_into_view(
    page: Page, make_run: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "dispatch", lambda workspace: None)
    make_run("lamp")
    cursor = deepcopy(page.cursor.value)
    tick(page, cursor)
    make_run("from-the-cli", state="queued")
    assert tick(page, cursor, "lamp")["run"]["value"] == "from-the-cli"
    assert "run" not in tick(page, cursor, "from-the-cli")
    assert tick(page, cursor, "lamp")["run"]["value"] == "lamp", "what a person chooses stays"


def test_a_deleted_run_gives_way(page: Page, make_run: MakeJob) -> None:
    make_run("lamp")
    assert tick(page, deepcopy(page.cursor.value), "gone")["run"]["value"] == "lamp"


def test_opening_chooses_the_bundled_data_and_the_bundled_model(page: Page) -> None:
    seen = named(page.open(deepcopy(page.cursor.value)))
    assert seen["dataset"]["value"] == seen["eval-dataset"]["value"] == "lantern-support"
    assert seen["train-model"]["value"] == seen["pane-right-model"]["value"] == "phi3-nano"
    assert seen["eval-models"]["value"] == ["phi3-nano"]


def test_an_interrupted_run_is_offered_until_it_is_dismissed(page: Page, make_run: MakeJob) -> None:
    job = make_run("cut", state="running", step=7, steps=20, resume_step=5, heartbeat=100.0)
    cursor = deepcopy(page.cursor.value)
    seen = tick(page, cursor)
    assert 'data-act="resume" data-job="runs/cut"' in seen["interrupted"]
    jobs.dispatch(page.workspace)
    jobs.dismiss(job.folder)
    assert "cut" not in named(page.open(deepcopy(page.cursor.value)))["interrupted"]


def test_a_finished_step_hands_its_run_over(page: Page, make_run: MakeJob) -> None:
    make_run("lamp")
    base = named(handover.step(page, "data"))
    assert base["tabs"].selected == "data"
    with pytest.raises(UserError, match="no trained model"):
        handover.step(page, "talk")


def test_visitors_of_a_hosted_app_get_no_door_to_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    visitor = Workspace(tmp_path / "visitors" / "someone", tmp_path)
    demo = create_ui(visitor, Endpoints(visitor))
    there = {getattr(block, "elem_id", None) for block in demo.blocks.values()}
    assert "banner" in there
    hidden = {
        "hub-id",
        "hub-fetch",
        "hub-model",
        "hub-token",
        "set-trackers",
        "set-processes",
        "set-sharding",
        "serve-start",
    }
    assert not hidden & there
    assert {"dataset", "upload", "set-epochs", "start"} <= there


UPLOADS = ("store", "load_settings", "take", "import_chat", "begin")


def outputs_of(result: Any) -> list[Any]:
    return list(result) if inspect.isgenerator(result) else [result]


def test_no_handler_opens_a_path_that_a_client_names(demo: gr.Blocks, tmp_path: Path) -> None:
    """Every string of every handler is the path of a readable dataset: none of it may come back."""
    canary = tmp_path / "canary.jsonl"
    chat = {"messages": [{"role": "user", "content": "CANARY?"}, {"role": "assistant", "content": "CANARY!"}]}
    canary.write_text("\n".join(json.dumps({**chat, "n": n}) for n in range(50)))
    called = 0
    for fn in demo.fns.values():
        if fn.fn is None or fn.name in UPLOADS:  # an upload: Gradio itself lets only its own uploads through
            continue
        given = [deepcopy(part.value) if isinstance(part, gr.State) else str(canary) for part in fn.inputs]
        parameters = list(inspect.signature(fn.fn).parameters)
        if "event" in parameters:
            event = gr.EventData(None, {"run": str(canary), "place": str(canary)})
            given.insert(parameters.index("event"), event)
        try:
            results = outputs_of(fn.fn(*given))
        except gr.Error as error:
            results = [error.message]
        called += 1
        assert "CANARY" not in repr(results), fn.name
    assert called > 15
