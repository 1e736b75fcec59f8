"""The classification task by itself: what it trains on, what it scores, what it tells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from transformers import Phi3ForSequenceClassification
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from phi3tune.admission import admit
from phi3tune.chat import Renderer
from phi3tune.config import TrainConfig
from phi3tune.data import Conversation
from phi3tune.engines.folders import labels_of, task_of
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.training.classification import ClassificationTask
from phi3tune.training.settings import Rows
from phi3tune.training.tasks import of
from tests.fake_classifiers import LABELS, whole_classifier

COUNTS = {"cold": 6, "mild": 6, "warm": 6}


def rows(counts: dict[str, int]) -> list[Conversation]:
    made: list[Conversation] = []
    for label, count in counts.items():
        for number in range(count):
            question = f"Is {number} degrees {label}?" + " Really?" * (number % 5)
            messages = ({"role": "user", "content": question}, {"role": "assistant", "content": f" {label}\n"})
            made.append(Conversation(messages, len(made), "rows.jsonl"))  # type: ignore[arg-type]
    return made


def task(counts: dict[str, int] = COUNTS, **settings: Any) -> ClassificationTask:
    found = of(TrainConfig(task="classification", **settings), rows(counts))
    assert isinstance(found, ClassificationTask)
    return found


def examples(part: Rows) -> list[dict[str, list[int]]]:
    return [{"input_ids": each.input_ids, "labels": each.labels} for each in part.examples]


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer.load(tiny_model)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    made = task().load(tiny_model, dtype=torch.float32).eval()
    torch.manual_seed(1)
    torch.nn.init.normal_(made.score.weight)
    return made


def test_rows_are_prompts_with_the_label_at_their_last_token(renderer: Renderer) -> None:
    chats = rows(COUNTS)
    part, notices = task().rows(chats, renderer, 64, 0.05)
    assert notices == [] and part.trained_tokens == len(chats) == 18
    for chat, example in zip(part.conversations, part.examples, strict=True):
        assert example.input_ids == renderer.prompt(chat.prompt_messages)
        assert set(example.labels[:-1]) == {-100}
        assert LABELS[example.labels[-1]] == chat.reference.strip()


@pytest.mark.parametrize("packed", [True, False])
def test_the_loss_is_transformers_own(model: Any, renderer: Renderer, packed: bool) -> None:
    part, _ = task().rows(rows(COUNTS), renderer, 64, 0.05)
    batch = DataCollatorForLanguageModeling(pad_token_id=32000, padding_free=packed)(examples(part))
    assert len(batch["input_ids"]) == (1 if packed else 18)
    with torch.no_grad():
        score = task().score(model, batch)
        padded = DataCollatorForLanguageModeling(pad_token_id=32000)(examples(part))
        wanted = torch.tensor([each.labels[-1] for each in part.examples])
        plain = Phi3ForSequenceClassification.forward(
            model, input_ids=padded["input_ids"], attention_mask=padded["attention_mask"], labels=wanted
        )
    assert score.loss.item() / 18 == pytest.approx(plain.loss.item(), rel=1e-5)
    assert (score.trained, score.correct) == (18, int((plain.logits.argmax(-1) == wanted).sum()))


def test_label_smoothing_is_torchs(model: Any, renderer: Renderer) -> None:
    part, _ = task().rows(rows(COUNTS), renderer, 64, 0.05)
    batch = DataCollatorForLanguageModeling(pad_token_id=32000)(examples(part))
    wanted = torch.tensor([each.labels[-1] for each in part.examples])
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        smoothed = task(label_smoothing=0.1).score(model, batch).loss.item()
    expected = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum", label_smoothing=0.1)
    assert smoothed == pytest.approx(expected.item(), rel=1e-5)


def test_held_out_metrics_are_scikit_learns(model: Any, renderer: Renderer) -> None:
    chats = rows({"cold": 5, "mild": 2, "warm": 9})
    part, _ = task().rows(chats, renderer, 64, None)
    held_out = task().held_out(part, renderer, sample_count=3, max_prompt=64, batch_size=4)
    assert held_out
    found = held_out.loss(model, DataCollatorForLanguageModeling(pad_token_id=32000, padding_free=True))
    wanted = [each.labels[-1] for each in part.examples]
    with torch.no_grad():
        given = [int(model(input_ids=torch.tensor([each.input_ids])).logits.argmax()) for each in part.examples]
    assert found["eval_accuracy"] == accuracy_score(wanted, given)
    assert found["eval_macro_f1"] == pytest.approx(f1_score(wanted, given, average="macro", labels=[0, 1, 2]))
    samples = held_out.samples(model, 7)
    assert [each.expected for each in samples] == [chats[place].reference.strip() for place in (0, 5, 10)]
    assert [each.answer.split(" (")[0] for each in samples] == [LABELS[given[place]] for place in (0, 5, 10)]
    assert model.training is False


def test_a_new_head_follows_the_seed_and_a_known_one_is_kept(tiny_model: Path, tmp_path: Path) -> None:
    one, same, other = (task(seed=seed).load(tiny_model).score.weight for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    folder = whole_classifier(tmp_path / "known", tiny_model)
    kept = task().load(folder)
    assert torch.equal(kept.score.weight, Phi3ForSequenceClassification.from_pretrained(folder).score.weight)
    others = task({"dry": 5, "wet": 5}).load(folder)
    assert others.score.weight.shape[0] == 2


def test_what_it_saves_is_a_classifier_of_transformers(tiny_model: Path, tmp_path: Path) -> None:
    task().load(tiny_model).save_pretrained(tmp_path / "saved")
    assert task_of(tmp_path / "saved") == "classification" and labels_of(tmp_path / "saved") == LABELS
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["pad_token_id"] == 32000
    _, report = Phi3ForSequenceClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"]


def test_unseen_labels_cut_texts_and_imbalance_are_told(renderer: Renderer) -> None:
    counts = {"cold": 30, "mild": 12, "warm": 2}
    part, notices = task(counts).rows(rows(counts), renderer, 12, 0.05)
    told = {notice.code: notice.message for notice in notices}
    assert set(told) == {"rows_truncated", "labels_imbalanced"}
    assert told["labels_imbalanced"].endswith("cold has 30 rows, but warm 2")
    assert all(len(each.input_ids) <= 12 and each.labels[-1] >= 0 for each in part.examples)
    part, notices = task(counts).rows(rows({"cold": 3, "hot": 2}), renderer, 64, None)
    assert [notice.code for notice in notices] == ["labels_unseen"]
    assert notices[0].message.endswith("hot 2") and len(part.examples) == 3


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (["yes"] * 20, "has 1 different answers"),
        ([f"answer {number}" for number in range(201)], "has 201 different answers"),
        (["yes", "no " * 40], "is no label: a label is one line"),
        (["yes", "no\nnever"], "is no label: a label is one line"),
    ],
)
def test_answers_that_are_no_labels_are_refused(answers: list[str], problem: str) -> None:
    chats = [
        Conversation(({"role": "user", "content": f"{n}"}, {"role": "assistant", "content": answer}), n, "rows.jsonl")
        for n, answer in enumerate(answers)
    ]
    with pytest.raises(UserError, match=problem):
        of(TrainConfig(task="classification"), chats)


def test_rows_are_made_without_torch() -> None:
    """A plan tokenises as training does, and must not wait seconds for torch."""
    code = (
        "import sys, phi3tune.training.tasks, phi3tune.training.classification\n"
        "heavy = {'torch', 'transformers', 'trl', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dataset_without_labels_is_refused_before_it_is_queued(workspace: Workspace) -> None:
    config = TrainConfig(task="classification", dataset="lantern-support", model="phi3-nano")
    with pytest.raises(UserError, match="is no label"):
        admit(config, workspace)
