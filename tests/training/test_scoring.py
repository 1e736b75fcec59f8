"""The scorer against transformers' own loss."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Phi3ForCausalLM

from phi3tune.training.scoring import score

ROWS = [([5, 6, 7, 8, 9, 10], 3), ([11, 12, 13], 1), ([14, 15, 16, 17, 18, 19, 20, 21], 6), ([22, 23, 24, 25], 2)]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Phi3ForCausalLM:
    return Phi3ForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def example(ids: list[int], prompt: int) -> dict[str, Any]:
    return {"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]}


def collated(rows: list[tuple[list[int], int]], *, packed: bool) -> dict[str, Any]:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=packed)
    return collate([example(*row) for row in rows])


def reference(model: Phi3ForCausalLM, rows: list[tuple[list[int], int]]) -> torch.Tensor:
    """Sum of transformers' own loss over rows that are scored alone."""
    total = torch.zeros(())
    for ids, prompt in rows:
        labels = torch.tensor([example(ids, prompt)["labels"]])
        total = total + model(input_ids=torch.tensor([ids]), labels=labels).loss * (len(ids) - prompt)
    return total


@pytest.mark.parametrize("packed", [True, False])
def test_sum_equals_transformers_loss_of_separate_rows(model: Phi3ForCausalLM, packed: bool):
    scored = score(model, collated(ROWS, packed=packed))
    assert scored.trained == sum(len(ids) - prompt for ids, prompt in ROWS)
    torch.testing.assert_close(scored.loss, reference(model, ROWS), rtol=1e-5, atol=1e-5)


def test_conversations_of_one_row_do_not_see_each_other(model: Phi3ForCausalLM):
    others = [([ids[0] + 40, *ids[1:]], prompt) for ids, prompt in ROWS[:-1]]
    losses = [
        score(model, collated([*before, ROWS[-1]], packed=True)).loss - reference(model, before)
        for before in (ROWS[:-1], others)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-4)


def test_gradient_equals_that_of_transformers_loss(model: Phi3ForCausalLM):
    weight = model.model.layers[0].self_attn.qkv_proj.weight
    [ours] = torch.autograd.grad(score(model, collated(ROWS, packed=True)).loss, weight)
    [theirs] = torch.autograd.grad(reference(model, ROWS), weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_correct_tokens(model: Phi3ForCausalLM):
    [(ids, prompt)] = ROWS[2:3]
    likeliest = model(input_ids=torch.tensor([ids])).logits.argmax(-1)[0].tolist()
    right = [*ids[: prompt + 1], likeliest[prompt]]  # its first answer token as it is, its second as the model says
    scored = score(model, collated([(right, prompt)], packed=True))
    expected = int(likeliest[prompt - 1] == ids[prompt]) + 1
    assert (scored.trained, scored.correct) == (2, expected)
