from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from phi3tune.chat import Message, Renderer
from phi3tune.evaluation.metrics import TokenScore, exact_match, mean, token_f1


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("The lamp is red.", "a red lamp", 2 * (2 / 3) * 1 / (2 / 3 + 1)),  # lamp is red | red lamp
        ("blue", "red", 0.0),
        ("Red! Red!", "red", 2 * (1 / 2) * 1 / (1 / 2 + 1)),  # a word counts as often as the reference has it
        ("the lamp", "lamp.", 1.0),
        ("", "", 1.0),
        ("The.", "an", 1.0),  # no word left on either side
        ("", "red", 0.0),
        ("theory and another", "theory and another", 1.0),  # articles inside words stay
    ],
)
def test_token_f1_against_hand_computed_values(answer: str, reference: str, expected: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(expected)


def test_exact_match_is_raw_text() -> None:
    assert exact_match(" Red.\n", "Red.")
    assert not exact_match("red.", "Red.")
    assert not exact_match("Red", "Red.")


def test_perplexity_and_token_accuracy_agree_with_transformers(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    renderer = Renderer.load(tiny_model)
    chat: list[Message] = [
        {"role": "user", "content": "Which way is north?"},
        {"role": "assistant", "content": "Where moss grows."},
        {"role": "user", "content": "And south?"},
        {"role": "assistant", "content": "The other way, my friend."},
    ]
    examples = [renderer.training_example(chat), renderer.training_example(chat[:2])]
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    score, losses, weights = TokenScore(), [], []
    for example in examples:
        ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
        with torch.no_grad():
            output = model(ids, labels=labels)
        logprobs = output.logits[0, :-1].log_softmax(-1)
        argmax = logprobs.argmax(-1)
        score.add(example, logprobs.gather(1, ids[0, 1:, None])[:, 0].numpy(), argmax.numpy())
        losses.append(output.loss.item())
        weights.append(example.trained)
    loss = sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)
    assert score.tokens == sum(weights)
    assert score.perplexity == pytest.approx(math.exp(loss), rel=1e-4)


def test_token_accuracy_counts_first_choices(tiny_model: Path) -> None:
    renderer = Renderer.load(tiny_model)
    example = renderer.training_example(
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "It is 0."}]
    )
    right = np.array(example.input_ids[1:])
    argmax = right.copy()
    first_trained = next(i for i, label in enumerate(example.labels[1:]) if label >= 0)
    argmax[first_trained] += 1
    argmax[0] += 1  # part of the prompt: does not count
    score = TokenScore()
    score.add(example, np.full(len(right), -0.5, dtype=np.float32), argmax)
    assert score.tokens == example.trained == 7
    assert score.accuracy == pytest.approx(6 / 7)
    assert score.perplexity == pytest.approx(math.exp(0.5))


def test_nothing_to_score_is_none_not_zero() -> None:
    assert TokenScore().perplexity is None
    assert TokenScore().accuracy is None
    assert mean([]) is None
