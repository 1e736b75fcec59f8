from __future__ import annotations

import json
from typing import Any

import gradio as gr
import pytest

from phi3tune.config import EvalConfig, HostedConfig
from phi3tune.errors import UserError
from phi3tune.paths import NANO, Workspace, write_json, write_text
from phi3tune.ui import evaluate
from phi3tune.ui.render_report import Report
from tests.ended_runs import ended_run

from . import reports
from .conftest import MakeJob


@pytest.fixture
def report(workspace: Workspace) -> Report:
    ended_run(workspace, "lamp", model=str(NANO))
    return reports.make()


def ids(rules: HostedConfig | None) -> tuple[evaluate.EvaluateTab, set[str]]:
    with gr.Blocks() as demo:
        tab = evaluate.build(rules)
    return tab, {getattr(block, "elem_id", None) or "" for block in demo.blocks.values()}


def test_visitors_can_reach_no_other_host() -> None:
    tab, built = ids(HostedConfig())
    assert not built & {"eval-judge", "eval-judge_rows", "eval-benchmarks", "eval-benchmark_limit"}
    assert not tab.models.allow_custom_value
    everything, all_built = ids(None)
    assert {"eval-judge", "eval-benchmarks"} <= all_built
    assert everything.models.allow_custom_value


def test_the_better_model_is_handed_on(report: Report, workspace: Workspace) -> None:
    assert evaluate.better_model(report, workspace) == "lamp"
    report.report["comparisons"][0]["verdict"] = "undecided"
    assert evaluate.better_model(report, workspace) == "lamp"
    report.report["models"][-1]["model"] = "gone"
    assert evaluate.better_model(report, workspace) is None


def test_a_finished_comparison_offers_the_export(report: Report, workspace: Workspace, make_job: MakeJob) -> None:
    folder = workspace.evals / "one"
    make_job(folder, EvalConfig(dataset="lantern-support"), state="completed")
    with pytest.raises(UserError, match="choose one in the Deploy tab"):
        evaluate.to_export("evals/one", workspace)
    write_text(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in report.rows))
    write_json(folder / "report.json", report.report)
    assert evaluate.to_export("evals/one", workspace) == "lamp"

    from phi3tune.ui.live import Cursor

    tab, _ = ids(None)
    told: dict[Any, Any] = tab.update(Cursor(), workspace, None, None, None)
    assert (told[tab.export].value, told[tab.export].visible) == ("Export lamp", True)
    assert told[tab.keep].choices[1] == ("fixed (1)", "fixed")
