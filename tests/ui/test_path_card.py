"""The way through the app is read from the workspace."""

from __future__ import annotations

from phi3tune import jobs, votes
from phi3tune.config import EvalConfig, ExportConfig
from phi3tune.paths import Workspace
from phi3tune.ui import path_card

from .conftest import MakeJob


def following(workspace: Workspace) -> str | None:
    return path_card.progress(jobs.runs(workspace), workspace).next


def test_each_step_hands_over_to_the_next(make_run: MakeJob, make_job: MakeJob, workspace: Workspace) -> None:
    assert following(workspace) == "data"
    make_run("lamp", state="running", heartbeat=1.0)
    assert following(workspace) == "train", "it has not finished"
    folder = make_run("lamp").folder
    assert following(workspace) == "compare"
    alone = EvalConfig(dataset="lantern-support", models=["lamp"])
    make_job(folder / "eval" / "alone", alone, state="completed")
    assert following(workspace) == "compare", "one model is compared with none"
    both = EvalConfig(dataset="lantern-support", models=["phi3-nano", "lamp"])
    make_job(folder / "eval" / "both", both, state="completed")
    assert following(workspace) == "export"
    make_job(workspace.exports / "lamp-1", ExportConfig(model="lamp"), state="completed")
    assert following(workspace) == "talk"
    votes.add(["phi3-nano", "lamp/onnx/int4"], "lamp/onnx/int4", workspace)
    assert following(workspace) is None
    make_run("lamp-2", created=9e9)
    assert following(workspace) == "compare", "the newest run is what the path is about"


def test_the_line_marks_what_is_done_and_what_is_next() -> None:
    html = path_card.path(path_card.Progress(frozenset({"data", "train"}), "<b>lamp"))
    assert html.count('class="pt-done"') == 2
    assert '<li class="pt-next"><button type="button" data-step="compare" aria-current="step">' in html
    assert "compare &lt;b&gt;lamp with" in html
    assert "All steps are done" in path_card.path(path_card.Progress(frozenset(path_card.NAMES), "lamp"))
