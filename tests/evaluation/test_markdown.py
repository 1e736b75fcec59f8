"""The section for a model card."""

from __future__ import annotations

import pytest

from phi3tune.evaluation import markdown
from tests.evaluation.example_report import HOSTILE, report


def test_every_part_is_there() -> None:
    text = markdown.section(report())
    assert text.startswith("## Evaluation\n\ntuned is better than phi3-nano")
    assert (
        "| Exact match | 40.0 % (30.0 to 50.0 %) | **60.0 %** (50.0 to 70.0 %) | +20.0 points (+5.0 to +35.0) |" in text
    )
    assert "| Perplexity (lower is better) | – | 4.00 (1.50 to 9.00) | – |" in text
    assert "### Labels: tuned" in text and "| yes | 50.0 % | 25.0 % | 33.3 % | 4 |" in text
    assert "Win rate 83.3 % (36.0 to 99.0 %); 12.5 % by position, 1 replies unreadable." in text
    assert "**Warning:** tuned refuses more safe prompts than phi3-nano" in text
    assert "| gsm8k | acc | tuned | 0.5 | 0.07 | 50 |" in text
    assert "| gsm8k | acc | tuned | – |  |  |" in text


def test_tables_have_as_many_cells_in_each_line() -> None:
    for block in markdown.section(report()).split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            assert len({line.count(" | ") for line in lines}) == 1, block


def test_parts_without_results_are_left_out() -> None:
    bare = report(judge=None, safety=None, benchmarks=None, comparisons=[], dataset=None)
    text = markdown.section({**bare, "models": [{**bare["models"][0], "labels": None}]})
    assert "###" not in text and "Change" not in text
    assert text.startswith("## Evaluation\n\nphi3-nano: Exact match 40.0 %")


@pytest.mark.parametrize("place", ["name", "label", "sentence"])
def test_names_cannot_break_out(place: str) -> None:
    found = report()
    if place == "name":
        found["dataset"]["name"] = HOSTILE
    elif place == "label":
        found["models"][1]["label"] = HOSTILE
    else:
        found["comparisons"][0]["sentence"] = HOSTILE
    text = markdown.section(found)
    assert "<img" not in text.replace("\\<img", "")
    assert r"\<img src=x onerror=" in text and r"\|\`\*\_\[a\]" in text
    assert "\n# x" not in text
