from __future__ import annotations

from typing import Any

import pytest

from phi3tune.config import EvalConfig
from phi3tune.paths import Workspace, write_json, write_text
from phi3tune.ui import render_report
from phi3tune.ui.render_report import Report

from .conftest import MakeJob

ATTACK = "<img src=x onerror=alert(1)>"


def model(name: str, **metrics: float | None) -> dict[str, Any]:
    every = {"exact_match": 0.0, "token_f1": 0.1, "perplexity": 900.0, "token_accuracy": 0.2, **metrics}
    counts = {"exact_match": 4, "token_f1": 4, "perplexity": 1167, "token_accuracy": 1167}
    reasons = {key: f"cannot {ATTACK}" for key, value in every.items() if value is None}
    return {"model": name, "label": name, "metrics": every, "counts": counts, "reasons": reasons}


def row(number: int, *answers: tuple[str | None, bool]) -> dict[str, Any]:
    said = [{"answer": text, "exact_match": right, "reason": "too long"} for text, right in answers]
    prompt = [{"role": "user", "content": f"{ATTACK} {number}"}]
    return {"row": number, "prompt": prompt, "reference": ATTACK, "answers": said}


@pytest.fixture
def report() -> Report:
    rows = [
        row(0, ("no", False), ("yes", True)),
        row(1, ("yes", True), (ATTACK, False)),
        row(2, (None, False), ("", False)),
        row(3, ("yes", True), ("yes", True)),
    ]
    found = {
        "models": [model("phi3-nano"), model("lamp", exact_match=0.863, perplexity=1.2)],
        "rows": 160,
        "split": "test",
        "dataset": {"name": "lantern-support"},
        "left_out": 2,
    }
    return Report(found, rows)


def test_verdict_is_one_sentence_with_the_count(report: Report) -> None:
    text = render_report.verdict(report)
    assert "lamp is better than phi3-nano: exact match 0.0 % → 86.3 % on 160 rows." in text
    assert "lantern-support, test part; 2 rows left out" in text


def test_verdict_says_which_way(report: Report) -> None:
    report.report["models"].reverse()
    assert "phi3-nano is worse than lamp: exact match 86.3 % → 0.0 % on 160 rows." in render_report.verdict(report)


def test_verdict_of_equals_turns_to_the_perplexity(report: Report) -> None:
    report.report["models"][1]["metrics"]["exact_match"] = 0.0
    assert "the same exact match, 0.0 % on 160 rows; perplexity 900 → 1.20." in render_report.verdict(report)


def test_verdict_of_one_model_and_of_none(report: Report) -> None:
    report.report["models"].pop()
    assert "phi3-nano: exact match 0.0 % on 160 rows." in render_report.verdict(report)
    assert "press Evaluate" in render_report.verdict(None)


def test_table_marks_the_best_and_names_what_was_counted(report: Report) -> None:
    report.report["models"][0]["metrics"]["token_accuracy"] = None
    report.report["models"][0]["reasons"]["token_accuracy"] = f"cannot {ATTACK}"
    html = render_report.metrics(report)
    assert '<span class="pt-best">86.3 %</span>' in html
    assert '<span class="pt-best">1.20</span>' in html
    assert '<span class="pt-best">20.0 %</span>' not in html, "one value alone is not the best"
    assert "1,167 tokens" in html
    assert 'title="cannot &lt;img' in html
    assert "<img" not in html


@pytest.mark.parametrize(
    ("keep", "numbers"),
    [("all", [1, 2, 3, 4]), ("fixed", [1]), ("broken", [2]), ("both wrong", [3]), ("differ", [1, 2, 3])],
)
def test_filters(report: Report, keep: str, numbers: list[int]) -> None:
    html = render_report.rows(report, keep)
    assert f"{len(numbers)} of 4 rows" in html
    assert [f'<td class="num">{number}</td>' in html for number in (1, 2, 3, 4)] == [n in numbers for n in (1, 2, 3, 4)]
    assert "<img" not in html


def test_rows_without_an_answer_say_why(report: Report) -> None:
    html = render_report.rows(report, "both wrong")
    assert "no answer: too long" in html
    assert "no text" in html


def test_report_is_read_once_it_is_complete(make_job: MakeJob, workspace: Workspace, report: Report) -> None:
    folder = workspace.runs / "lamp" / "eval" / "test-eval-1"
    job = make_job(folder, EvalConfig(dataset="lantern-support"), state="running", pid=1)
    assert render_report.read(job) is None
    write_text(folder / "rows.jsonl", '{"row": 0}\n')
    write_json(folder / "report.json", {"schema": 1, **report.report})
    found = render_report.read(job)
    assert found is not None
    assert (found.models, found.rows) == (["phi3-nano", "lamp"], [{"row": 0}])


@pytest.mark.parametrize(
    ("state", "text"), [("queued", "progressbar"), ("failed", "Failed: because &lt;b&gt;."), ("stopped", "Stopped")]
)
def test_status_of_an_evaluation(make_job: MakeJob, workspace: Workspace, state: str, text: str) -> None:
    config = EvalConfig(dataset="lantern-support")
    job = make_job(workspace.evals / "one", config, state=state, reason="because <b>")
    assert text in render_report.status(job)
    assert render_report.name(job).startswith("one · ")


def test_no_status_without_job_and_after_the_end(make_job: MakeJob, workspace: Workspace) -> None:
    job = make_job(workspace.evals / "one", EvalConfig(dataset="lantern-support"), state="completed")
    assert render_report.status(job) == render_report.status(None) == ""
