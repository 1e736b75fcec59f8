from __future__ import annotations

import json

import pytest

from phi3tune.config import EvalConfig
from phi3tune.paths import Workspace, write_json, write_text
from phi3tune.ui import render_report
from phi3tune.ui.render_report import Report

from . import reports
from .conftest import MakeJob
from .reports import ATTACK


@pytest.fixture
def report() -> Report:
    return reports.make()


def test_verdict_is_the_sentence_of_each_comparison(report: Report) -> None:
    text = render_report.verdict(report)
    assert "lamp is better than phi3-nano: exact match +86.3 points &lt;img" in text
    assert "lantern-support, test part, 160 rows; 2 rows left out" in text
    assert "pt-verdict-good" in text and "<img" not in text


@pytest.mark.parametrize(("verdict", "tone"), [("worse", "bad"), ("undecided", "info")])
def test_verdict_has_the_tone_of_what_it_says(report: Report, verdict: str, tone: str) -> None:
    report.report["comparisons"][0]["verdict"] = verdict
    assert f"pt-verdict-{tone}" in render_report.verdict(report)


def test_verdict_of_one_model_and_of_none(report: Report) -> None:
    report.report["models"].pop(0)
    report.report["comparisons"] = []
    assert "lamp: Exact match 86.3 % (95 % interval 79.0 to 90.0 %), 160 rows." in render_report.verdict(report)
    assert "press Evaluate" in render_report.verdict(None)


def test_no_verdict_where_no_rows_were_answered(report: Report) -> None:
    report.report["dataset"] = None
    assert render_report.verdict(report) == ""


def test_table_marks_the_best_and_names_what_was_counted(report: Report) -> None:
    report.report["models"][0]["metrics"]["token_accuracy"] = None
    report.report["models"][0]["reasons"]["token_accuracy"] = f"cannot {ATTACK}"
    html = render_report.metrics(report)
    assert "<b class=pt-best>86.3 %</b>" in html
    assert "<b class=pt-best>1.20</b>" in html
    assert "<b class=pt-best>20.0 %</b>" not in html, "one value alone is not the best"
    assert "79.0 to 90.0 %" in html and "0.034 s" in html
    assert "1,167 tokens" in html
    assert "<dt>Perplexity</dt><dd>How surprised" in html, "no figure without a sentence on what it is"
    assert 'title="cannot &lt;img' in html
    assert "<img" not in html


def test_charts_draw_a_bar_and_a_whisker_for_each_model(report: Report) -> None:
    html = render_report.charts(report)
    assert html.count("<figure") == 3, "seconds are no chart"
    assert "width:86.3%" in html and "left:79.0%;width:11.0%" in html
    assert 'aria-label="Exact match: phi3-nano 0.0 %; lamp 86.3 %"' in html


def test_labels_show_classes_worst_first_and_the_confusion(report: Report) -> None:
    classes = [
        {"label": name, "precision": f1, "recall": f1, "f1": f1, "support": 10}
        for name, f1 in (("yes", 0.9), (ATTACK, 0.1))
    ]
    matrix = {"labels": ["yes", ATTACK], "matrix": [[9, 1], [8, 2]]}
    report.report["models"][1]["labels"] = {"per_class": classes, "confusion": matrix}
    html = render_report.labels(report)
    assert html.index("&lt;img") < html.index("90.0 %")
    assert "--heat:25%" in html and "<img" not in html
    assert render_report.labels(None) == ""


def test_report_is_read_once_it_is_complete(make_job: MakeJob, workspace: Workspace, report: Report) -> None:
    folder = workspace.runs / "lamp" / "eval" / "test-eval-1"
    job = make_job(folder, EvalConfig(dataset="lantern-support"), state="running", pid=1)
    assert render_report.read(job) is None
    write_text(folder / "rows.jsonl", json.dumps(report.rows[0]) + "\n")
    write_json(folder / "report.json", report.report)
    found = render_report.read(job)
    assert found is not None
    assert found.models == ["phi3-nano", "lamp"] and found.rows == report.rows[:1]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("queued", "progressbar"),
        ("failed", "Failed: because &lt;b&gt;."),
        ("stopped", "Continue"),
        ("paused", "Continue"),
    ],
)
def test_status_of_an_evaluation(make_job: MakeJob, workspace: Workspace, state: str, text: str) -> None:
    config = EvalConfig(dataset="lantern-support")
    job = make_job(workspace.evals / "one", config, state=state, reason="because <b>")
    assert text in render_report.status(job)
    assert render_report.name(job).startswith("one · ")


def test_no_status_without_job_and_after_the_end(make_job: MakeJob, workspace: Workspace) -> None:
    job = make_job(workspace.evals / "one", EvalConfig(dataset="lantern-support"), state="completed")
    assert render_report.status(job) == render_report.status(None) == ""
