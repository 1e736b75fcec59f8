"""The phi3-nano that is shipped: complete, small, and as good as its card says."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.phi3_nano.corpus import test_rows as held_out_rows
from recipes.phi3_nano.score import by_skill, read_rows, score_folder, score_rows
from recipes.phi3_nano.tokenizer import CHAT_TEMPLATE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "phi3tune" / "assets" / "phi3-nano"
LIMIT_BYTES = 16_000_000


@pytest.fixture(scope="module")
def scored() -> list[dict]:
    return score_folder(FOLDER)


def test_the_folder_is_small_enough() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= LIMIT_BYTES


def test_the_test_file_is_the_one_the_recipe_makes() -> None:
    assert read_rows(FOLDER / "skills" / "test.jsonl") == held_out_rows(0)


def test_every_skill_answers_nine_of_ten_held_out_questions(scored: list[dict]) -> None:
    weak = {skill: cell for skill, cell in by_skill(scored).items() if cell["exact"] < 0.9}
    assert not weak


def test_the_card_tells_the_measured_scores(scored: list[dict]) -> None:
    card = (FOLDER / "README.md").read_text("utf-8")
    told = {}
    for line in card.splitlines():
        cells = [cell.strip(" *") for cell in line.split(" | ")]
        if len(cells) >= 3 and cells[2].endswith("%"):
            told[cells[0].removeprefix("| ").strip("*")] = float(cells[2].rstrip("%*")) / 100
    measured = by_skill(scored)
    assert told.keys() == measured.keys()
    assert all(abs(told[skill] - cell["exact"]) <= 0.07 for skill, cell in measured.items())


def test_the_folder_holds_a_phi3_with_every_file_a_loader_wants() -> None:
    config = json.loads((FOLDER / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["Phi3ForCausalLM"]
    assert config["dtype"] == "bfloat16"
    template = json.loads((FOLDER / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
    assert template == CHAT_TEMPLATE == (FOLDER / "chat_template.jinja").read_text("utf-8")


def test_the_model_knows_nothing_of_the_bundled_dataset() -> None:
    rows = [row | {"skill": "unseen"} for row in read_rows(ROOT / "datasets" / "lantern-support" / "test.jsonl")]
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    scored = score_rows(model, AutoTokenizer.from_pretrained(FOLDER), rows)
    assert by_skill(scored)["all"]["exact"] <= 0.05
