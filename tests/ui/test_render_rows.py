from __future__ import annotations

import re

import pytest

from phi3tune.ui import render_rows
from phi3tune.ui.render_report import Report

from . import reports


@pytest.fixture
def report() -> Report:
    return reports.make()


def shown(html: str) -> list[int]:
    return [int(place) for place in re.findall(r'data-place="(\d+)"', html)]


@pytest.mark.parametrize(
    ("keep", "places"),
    [("all", [0, 1, 2, 3]), ("fixed", [0]), ("broken", [1]), ("both wrong", [2]), ("differ", [0, 1, 2])],
)
def test_filters(report: Report, keep: str, places: list[int]) -> None:
    html = render_rows.rows(report, keep, render_rows.FILED)
    assert shown(html) == places
    assert f"{len(places)} of 4 rows" in html
    assert render_rows.counts(report)[keep] == len(places)
    assert "<img" not in html


def test_worst_rows_come_first_and_among_them_the_least_expected(report: Report) -> None:
    assert shown(render_rows.rows(report, "all")) == [2, 1, 3, 0]


def test_right_follows_the_metric_of_the_verdict(report: Report) -> None:
    report.report["metric"] = "numeric_match"
    for row in report.rows:
        for answer in row["answers"]:
            answer["metrics"] = {"numeric_match": True}
    assert shown(render_rows.rows(report, "broken")) == []
    report.report["metric"] = "rouge_l"  # no yes or no: exact match decides
    assert shown(render_rows.rows(report, "broken")) == [1]


def test_rows_without_an_answer_say_why(report: Report) -> None:
    html = render_rows.rows(report, "both wrong")
    assert "no answer: too long" in html
    assert "no text" in html


def test_detail_colours_the_reference_by_each_models_losses(report: Report) -> None:
    html = render_rows.detail(report, 0, [[("One", 0.0), ("<b>", 10.0)], []])
    assert "--loss:0%" in html and "--loss:100%" in html
    assert "mean loss 5" in html
    assert html.count("pt-tokens") == 1, "a model without losses has no colours"
    assert "<b>&" not in html and "<img" not in html
