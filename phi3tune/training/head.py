"""The model of a classifier in training: transformers' own with a new head, what it scores and how it is watched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from phi3tune.chat import NO_LOSS
from phi3tune.engines.classifier_torch import head_options, unreported
from phi3tune.engines.folders import labels_of, task_of
from phi3tune.events import Sample
from phi3tune.training.heldout import quiet, to_device
from phi3tune.training.scoring import measured
from phi3tune.training.settings import Rows
from phi3tune.training.tasks import Collate


class Phi3ForSequenceClassification(transformers.Phi3ForSequenceClassification):  # type: ignore[misc]
    """transformers' own, that can also look at chosen positions: `heads` [B, T], several of them in a packed row.

    It has the name of the original because saved configs repeat it.
    """

    def forward(self, input_ids: Any = None, heads: torch.Tensor | None = None, **inputs: Any) -> Any:
        if heads is None:
            return super().forward(input_ids=input_ids, **inputs)
        for name in ("labels", "return_dict", "inputs_embeds"):  # peft passes them all on
            inputs.pop(name, None)
        hidden = self.model(input_ids=input_ids, **inputs).last_hidden_state[heads]
        # The last of its weights is the one in use: peft keeps the untrained head before its copy.
        trained = list(self.score.parameters())[-1]
        return SequenceClassifierOutputWithPast(logits=self.score(hidden.to(trained.dtype)))


def load(base: Path, labels: tuple[str, ...], seed: int, **options: Any) -> PreTrainedModel:
    """The model with a head for the labels; `options` go to `from_pretrained`.

    The head in `base` is kept where that chooses from the same labels; a new one is drawn from `seed`.
    """
    with unreported():
        model = Phi3ForSequenceClassification.from_pretrained(
            base, trust_remote_code=False, **head_options(base, labels), **options
        )
    # TRL sets the pad token in it, whatever the model.
    model.generation_config = GenerationConfig.from_model_config(model.config)
    model.score.float()  # a narrow format would lose small steps, and it is small
    if task_of(base) != "classification" or labels_of(base) != labels:
        generator = torch.Generator().manual_seed(seed)
        head = torch.empty(model.score.weight.shape).normal_(std=model.config.initializer_range, generator=generator)
        with torch.no_grad():
            model.score.weight.copy_(head)
    return model


class HeldOutLabels:
    """Fixed validation rows with their labels. Measuring leaves weights and random states as they were."""

    def __init__(self, rows: Rows, labels: Sequence[str], *, sample_count: int, batch_size: int) -> None:
        self._rows = rows
        self._labels = labels
        self._batch_size = batch_size
        count = min(sample_count, len(rows.examples))
        self._asked = [index * len(rows.examples) // count for index in range(count)]

    def __bool__(self) -> bool:
        return bool(self._rows.examples)

    def loss(self, model: PreTrainedModel, collate: Collate) -> dict[str, float]:
        """`eval_loss` per row, `eval_accuracy`, and `eval_macro_f1` over the labels of the rows, from scikit-learn."""
        from sklearn.metrics import accuracy_score, f1_score

        examples = [{"input_ids": e.input_ids, "labels": e.labels} for e in self._rows.examples]
        loss = 0.0
        wanted: list[int] = []
        given: list[int] = []
        with quiet(model):
            for start in range(0, len(examples), self._batch_size):
                batch = collate(examples[start : start + self._batch_size])
                logits, targets = choices(model, {name: to_device(value, model) for name, value in batch.items()})
                loss += measured(logits, targets).loss.item()
                wanted += targets.tolist()
                given += logits.argmax(-1).tolist()
        macro = f1_score(wanted, given, labels=sorted(set(wanted)), average="macro", zero_division=0.0)
        return {
            "eval_loss": loss / len(wanted),
            "eval_accuracy": float(accuracy_score(wanted, given)),
            "eval_macro_f1": float(macro),
        }

    def samples(self, model: PreTrainedModel, step: int) -> list[Sample]:
        """The likeliest label of a few rows, with its probability."""
        told = []
        with quiet(model):
            for place in self._asked:
                example, row = self._rows.examples[place], self._rows.conversations[place]
                ids = torch.tensor([example.input_ids], device=model.device)
                batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                labels = torch.tensor([example.labels], device=model.device)
                logits, _ = choices(model, {**batch, "labels": labels})
                share, best = logits.float().softmax(-1)[0].max(-1)
                answer = f"{self._labels[int(best)]} ({float(share):.0%})"
                prompt = row.prompt_messages[-1]["content"]
                told.append(Sample(step=step, prompt=prompt, expected=row.reference.strip(), answer=answer))
        return told


def choices(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, L] and labels [N] of the N rows of a batch, padded or packed."""
    heads = batch["labels"] != NO_LOSS
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return model(**inputs, use_cache=False, heads=heads).logits, batch["labels"][heads]
