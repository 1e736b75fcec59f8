"""The validation part during training: its exact loss, and the model's answers to a few of its prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from phi3tune.chat import Renderer
from phi3tune.events import Sample
from phi3tune.training.scoring import score
from phi3tune.training.settings import Rows

SAMPLE_TOKENS = 64

Collate = Callable[[list[dict[str, list[int]]]], dict[str, Any]]


class HeldOut:
    """Fixed validation rows and prompts. Measuring leaves weights and random states as they were."""

    def __init__(self, rows: Rows, renderer: Renderer, *, sample_count: int, max_prompt: int, batch_size: int) -> None:
        self._rows = rows
        self._renderer = renderer
        self._batch_size = batch_size
        short = [row for row in rows.conversations if len(renderer.prompt(row.prompt_messages)) <= max_prompt]
        count = min(sample_count, len(short))
        self._asked = [short[index * len(short) // count] for index in range(count)]

    def __bool__(self) -> bool:
        return bool(self._rows.examples)

    def loss(self, model: PreTrainedModel, collate: Collate) -> dict[str, float]:
        """`eval_loss` per loss-bearing token and `eval_token_accuracy`, over every row; weighted exactly.

        (Trainer's own `eval_loss` is a mean of batch means, which long answers bias.)
        """
        examples = [{"input_ids": e.input_ids, "labels": e.labels} for e in self._rows.examples]
        loss, trained, correct = 0.0, 0, 0
        with quiet(model):
            for start in range(0, len(examples), self._batch_size):
                batch = collate(examples[start : start + self._batch_size])
                part = score(model, {name: to_device(value, model) for name, value in batch.items()})
                loss += part.loss.item()
                trained += part.trained
                correct += part.correct
        return {"eval_loss": loss / trained, "eval_token_accuracy": correct / trained}

    def samples(self, model: PreTrainedModel, step: int) -> list[Sample]:
        """Greedy answers of at most 64 tokens to the fixed prompts."""
        if not self._asked:
            return []
        answers = self._generate(model, [self._renderer.prompt(row.prompt_messages) for row in self._asked])
        return [
            Sample(step=step, prompt=row.prompt_messages[-1]["content"], expected=row.reference, answer=answer)
            for row, answer in zip(self._asked, answers, strict=True)
        ]

    def _generate(self, model: PreTrainedModel, prompts: Sequence[list[int]]) -> list[str]:
        pad = self._renderer.eos_id
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=ids.device)
        ends = self._renderer.end_ids
        greedy = GenerationConfig(
            do_sample=False, max_new_tokens=SAMPLE_TOKENS, eos_token_id=sorted(ends), pad_token_id=pad
        )
        with quiet(model):
            answers = model.generate(input_ids=ids, attention_mask=mask, generation_config=greedy)[:, width:].tolist()
        return [self._renderer.decode(_until(answer, ends)) for answer in answers]


@contextmanager
def quiet(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients, random states kept: a run's losses do not depend on being watched."""
    training = model.training
    devices = [model.device] if model.device.type == "cuda" else []
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        model.train(training)


def _until(ids: list[int], ends: frozenset[int]) -> list[int]:
    return ids[: next((index for index, token in enumerate(ids) if token in ends), len(ids))]


def to_device(value: Any, model: PreTrainedModel) -> Any:
    """A tensor of a batch on the device of the model; anything else as it is."""
    return value.to(model.device) if isinstance(value, torch.Tensor) else value
