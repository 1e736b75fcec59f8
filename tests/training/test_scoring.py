"""The scorer against transformers' own loss."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Phi3ForCausalLM

from phi3tune.training.scoring import measured, score

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


@pytest.mark.parametrize("scale", [1.0, 40.0], ids=["flat", "peaked"])
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"loss": "dft"}], ids=["plain", "label smoothing", "dft"]
)
def test_measured_equals_torchs_own_functions(scale: float, options: dict[str, Any]):
    torch.manual_seed(0)
    logits = (scale * torch.randn(30, 500)).requires_grad_()
    targets = torch.randint(0, 500, (30,))
    if options.get("loss") == "dft":
        losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        expected = (losses * torch.exp(-losses.detach())).sum()
    else:
        expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum", **options)
    [theirs] = torch.autograd.grad(expected, logits)
    scored = measured(logits, targets, **options)
    [ours] = torch.autograd.grad(scored.loss, logits)
    torch.testing.assert_close(scored.loss, expected)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert scored.correct == int((logits.argmax(-1) == targets).sum())
    entropy = torch.distributions.Categorical(logits=logits.detach()).entropy().sum()
    assert scored.entropy == pytest.approx(float(entropy), rel=1e-5, abs=1e-3)


def test_nothing_to_score_is_zero_and_still_has_a_gradient():
    """A process that is given a row without loss takes part in the step all the same."""
    logits = torch.zeros(0, 500, requires_grad=True)
    scored = measured(logits, torch.zeros(0, dtype=torch.int64))
    scored.loss.backward()
    assert (float(scored.loss.detach()), scored.trained, scored.correct, scored.entropy) == (0.0, 0, 0, 0.0)
    assert logits.grad is not None


def test_other_losses_and_entropy_equal_their_definitions():
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 7, requires_grad=True), torch.tensor([0, 6, 3, 3, 1])
    logprobs = logits.log_softmax(-1)
    chosen = logprobs[range(5), targets]
    smoothed = torch.nn.functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(measured(logits, targets, label_smoothing=0.1).loss, smoothed)
    dft = measured(logits, targets, loss="dft")
    torch.testing.assert_close(dft.loss, -(chosen * chosen.exp()).sum())
    [ours] = torch.autograd.grad(dft.loss, logits, retain_graph=True)
    [theirs] = torch.autograd.grad(-(chosen * chosen.exp().detach()).sum(), logits, retain_graph=True)
    torch.testing.assert_close(ours, theirs)
    entropy = torch.distributions.Categorical(logits=logits).entropy().sum().item()
    assert dft.entropy == pytest.approx(entropy, rel=1e-5)
