from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phi3tune import data
from phi3tune.chat import Renderer
from phi3tune.config import DatasetConfig, TrainConfig
from phi3tune.data import Problem
from phi3tune.paths import Workspace
from phi3tune.ui import render_data
from tests.fakes import TOKENIZER

ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture
def dataset(tmp_path: Path, workspace: Workspace) -> data.Dataset:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{number} {ATTACK}"},
                {"role": "assistant", "content": "Yes, it is."},
            ]
        }
        for number in range(20)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return data.load(DatasetConfig(dataset=str(path)), workspace)


@pytest.fixture
def renderer() -> Renderer:
    return Renderer.load(TOKENIZER)


def audit(dataset: data.Dataset, renderer: Renderer, workspace: Workspace, max_length: int) -> dict[str, Any]:
    return data.check(TrainConfig(dataset=dataset.source, max_length=max_length), workspace, renderer)


def test_summary_counts_rows_and_tokens(dataset: data.Dataset, renderer: Renderer, workspace: Workspace) -> None:
    found = audit(dataset, renderer, workspace, 1024)
    html = render_data.summary(found)
    for text in ("<b>16</b><span>train rows", "<b>2</b><span>test rows", f"{found['tokens']['trained']:,}", "messages"):
        assert text in html


def test_summary_tells_what_is_cut(dataset: data.Dataset, renderer: Renderer, workspace: Workspace) -> None:
    html = render_data.summary(audit(dataset, renderer, workspace, 8))
    assert "20 rows longer than 8 tokens will be cut; 20 answers among them lose their end." in html
    assert "20 rows would have no answer left after cutting." in html


def test_rows_are_shown_as_chats_and_nothing_in_them_is_html(dataset: data.Dataset) -> None:
    html = render_data.rows(dataset.parts["train"], 16)
    assert html.count('class="pt-message"') == 2 * render_data.ROWS_SHOWN
    assert "The first 8 of 16 train rows" in html
    assert "<img" not in html


def test_tokens_colour_what_is_learned_and_strike_what_is_cut(dataset: data.Dataset, renderer: Renderer) -> None:
    row = dataset.parts["train"][0]
    example = renderer.training_example(row.messages)
    whole = render_data.tokens(renderer, row, 1024, 1, 16)
    assert whole.count('<span class="pt-learned') - 1 == example.trained
    assert "Yes" in whole and "<img" not in whole
    cut = render_data.tokens(renderer, row, len(example.input_ids) - 2, 1, 16)
    assert cut.count("pt-cut") - 1 == 2
    assert f"{example.trained - 2:,} of them learned" in cut


def test_lengths_mark_what_is_cut(dataset: data.Dataset, renderer: Renderer, workspace: Workspace) -> None:
    assert "pt-over" not in render_data.lengths(audit(dataset, renderer, workspace, 1024))
    assert "pt-over" in render_data.lengths(audit(dataset, renderer, workspace, 8))


def test_statistics_tell_turns_languages_labels_and_answers(
    dataset: data.Dataset, renderer: Renderer, workspace: Workspace
) -> None:
    found = audit(dataset, renderer, workspace, 1024)
    found["labels"] = [{"label": ATTACK, "train": 16, "validation": 2, "test": 2}]
    html = render_data.statistics(found)
    for text in ("turns at most", "of the tokens are learned", "Yes, it is.", "every label"):
        assert text in html
    assert "<img" not in html


def test_problems_are_told_with_place_and_fix() -> None:
    problem = Problem(code="bad_role", file=ATTACK, line=1204, found=ATTACK, expected="user", fix="correct the role")
    html = render_data.problems([problem.model_dump()] * (render_data.PROBLEMS_SHOWN + 2))
    for text in ("bad_role", "1,204", "correct the role", "2 more problems not shown."):
        assert text in html
    assert "<img" not in html
    assert render_data.problems([]) == ""


def test_the_chosen_dataset_in_a_line(dataset: data.Dataset, renderer: Renderer, workspace: Workspace) -> None:
    found = audit(dataset, renderer, workspace, 1024)
    assert "16 rows to learn from · problems: none" in render_data.chosen(ATTACK, found)
    assert "<img" not in render_data.chosen(ATTACK, found) + render_data.chosen(ATTACK, None)
    assert "cannot be used" in render_data.chosen("lamp", None)
    assert "No dataset is chosen." in render_data.chosen("", None)
