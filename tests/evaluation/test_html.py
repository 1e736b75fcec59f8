"""The page of a report: whole, self-contained, escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from phi3tune.evaluation import html
from phi3tune.evaluation.figures import best, change, charts, headline, interval, shown
from phi3tune.evaluation.flips import grouped
from tests.evaluation.example_report import HOSTILE, answer, model, report, row, rows

VOID = {"meta", "link", "br", "img", "rect", "path"}


class Reader(HTMLParser):
    """Checks that tags are balanced; keeps every tag and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def read(found: dict[str, Any], lines: list[dict[str, Any]]) -> Reader:
    return Reader(html.page(found, lines))


def test_every_section_is_there() -> None:
    page = read(report(), rows())
    for heading in ("Metrics", "Charts", "Labels: tuned", "Judge", "Refusals", "Public benchmarks", "Rows", "Settings"):
        assert heading in page.text
    for fact in (
        "tuned is better than phi3-nano: exact match +20.0 points",
        "2 rows left out",
        "60.0 %",
        "50.0 to 70.0 %",
        "+20.0 points (+5.0 to +35.0)",
        "an endpoint gives no probabilities",
        "tuned refuses more safe prompts",
        "remote gives no probabilities",
        "12.5 %",
    ):
        assert fact in page.text, fact


def test_sections_without_results_are_left_out() -> None:
    plain = model("phi3-nano", "phi3-nano", 0.4, 3.0)
    bare = report(models=[{**plain, "labels": None}], comparisons=[], judge=None, safety=None, benchmarks=None)
    page = read(bare, [row(0, answer("no", False)), row(1, answer("yes", True))])
    for heading in ("Labels", "Judge", "Refusals", "Public benchmarks", "change"):
        assert heading not in page.text
    assert "phi3-nano: Exact match 40.0 % (95 % interval 30.0 to 50.0 %), 9 rows." in page.text
    assert "Wrong: 1" in page.text


def test_without_rows_there_are_only_the_other_sections() -> None:
    empty = {name: {} for name in ("metrics", "reasons", "intervals", "counts", "seconds", "engine")}
    models = [{"model": "tuned", "label": "tuned", **empty, "labels": None}]
    nothing = {
        "dataset": None,
        "metric": None,
        "metrics": [],
        "comparisons": [],
        "judge": None,
        "rows": 0,
        "left_out": 0,
    }
    page = read(report(models=models, **nothing), [])
    for heading in ("Metrics", "Charts", "Rows", "Settings", "0 rows"):
        assert heading not in page.text
    assert "Refusals" in page.text and "Public benchmarks" in page.text


def test_nothing_is_asked_for_and_nothing_runs() -> None:
    text = html.page(report(), rows())
    page = Reader(text)
    assert "script" not in {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "href") or value == "data:,"
    assert not re.search(r"url\(|@import", text)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")


@pytest.mark.parametrize("place", ["name", "label", "answer", "reason", "sentence", "class", "task", "warning"])
def test_text_of_strangers_stays_text(place: str) -> None:
    found = report()
    lines = [row(0, answer("yes", True), answer("no", False))]
    if place == "name":
        found["dataset"]["name"] = HOSTILE
    elif place == "label":
        found["models"][1]["label"] = HOSTILE
    elif place == "answer":
        lines = [row(0, answer("yes", True), answer(HOSTILE, False))]
    elif place == "reason":
        found["models"][0]["reasons"]["perplexity"] = HOSTILE
    elif place == "sentence":
        found["comparisons"][0]["sentence"] = HOSTILE
    elif place == "class":
        found["models"][0]["labels"]["confusion"]["labels"][0] = HOSTILE
    elif place == "task":
        found["benchmarks"]["results"][0]["task"] = HOSTILE
    else:
        found["safety"]["warnings"] = [HOSTILE]
    page = read(found, lines)
    assert "img" not in {tag for tag, _ in page.tags}
    assert "<img src=x onerror=" in page.text


def test_tables_are_accessible() -> None:
    page = read(report(), rows())
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") >= 8
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.tags if tag == "th")
    graphics = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert graphics and all(each.get("role") == "img" and each.get("aria-label") for each in graphics)


def test_each_row_is_in_one_group_and_the_worst_comes_first() -> None:
    groups = {name: [line["row"] for line in kept] for name, kept in grouped(rows(), "exact_match").items()}
    assert groups == {"broken": [0], "fixed": [1, 2, 6], "both wrong": [3, 4, 7], "differ": [5]}
    worse, bad = answer("b", False), answer("c", False)
    worse["metrics"]["token_f1"], bad["metrics"]["token_f1"] = 0.1, 0.4
    lines = [row(0, answer("a", False), bad), row(1, answer("a", False), worse)]
    assert [line["row"] for line in grouped(lines, "token_f1")["both wrong"]] == [1, 0]


def test_rows_are_capped_and_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "ROWS_SHOWN", 10)
    monkeypatch.setattr(html, "TEXT_SHOWN", 20)
    lines = [row(n, answer("no", False), answer("yes", True)) for n in range(2)]
    lines += [row(n, answer("yes", True), answer("x" * 50, False)) for n in range(2, 40)]
    page = read(report(), lines)
    assert [tag for tag, _ in page.tags].count("article") == 10
    assert "Fixed: 2" in page.text and "Broken: 38" in page.text
    assert "30 more rows are in rows.jsonl" in page.text and "the first 8 are shown" in page.text
    assert "x" * 20 + " … (30 more characters)" in page.text


def test_charts_are_to_scale() -> None:
    match, perplexity = charts(report())
    assert [bar.width for bar in match.bars] == [40.0, 60.0]
    assert match.bars[1].whisker == (50.0, 70.0)
    assert [bar.text for bar in perplexity.bars] == ["–", "4.00"]
    assert perplexity.bars[1].whisker == (round(100 * 1.5 / 9, 2), 100.0)
    assert perplexity.note == "lower is better"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.12345, "share", "12.3 %"),
        (None, "share", "–"),
        (12345.6, "number", "12,346"),
        (3.14159, "number", "3.14"),
        (0.01234, "seconds", "0.012 s"),
        (float("inf"), "number", "∞"),
    ],
)
def test_numbers_are_shown_with_their_unit(value: float | None, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_words_of_a_report() -> None:
    assert interval(None, "share") == ""
    assert change(None, "share") == "–"
    assert change({"difference": -0.5, "low": -1.25, "high": 0.25}, "number") == "-0.50 (-1.25 to +0.25)"
    found = report()
    assert best(found, found["metrics"][0]) == 0.6
    assert best(found, found["metrics"][1]) is None  # only one model has it
    assert headline(found) == [found["comparisons"][0]["sentence"]]
