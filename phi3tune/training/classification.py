"""The task of choosing a label: `Phi3ForSequenceClassification`, a new head on the last token of the prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from phi3tune.chat import NO_LOSS, Example, Renderer
from phi3tune.config import TrainConfig
from phi3tune.data import Conversation
from phi3tune.engines.classifier import Prompts
from phi3tune.engines.classifier_torch import head_options, unreported
from phi3tune.engines.folders import labels_of, task_of
from phi3tune.evaluation.labels import classes
from phi3tune.events import Notice, Sample
from phi3tune.training.heldout import quiet, to_device
from phi3tune.training.scoring import Score, measured
from phi3tune.training.settings import Rows, named
from phi3tune.training.tasks import Collate

IMBALANCE = 5.0  # the commonest label has this many times the rows of the rarest
NAMED_LABELS = 5


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


class ClassificationTask:
    """Learning to choose one of the labels that the training rows have for an answer.

    Raises `UserError` when their answers are no labels.
    """

    adapter_type: Literal["CAUSAL_LM", "SEQ_CLS"] = "SEQ_CLS"
    labels: tuple[str, ...] | None

    def __init__(self, config: TrainConfig, train: Sequence[Conversation]) -> None:
        self.labels = self._labels = classes(train)
        self._label_smoothing = config.label_smoothing
        self._seed = config.seed

    def rows(
        self,
        conversations: Sequence[Conversation],
        renderer: Renderer,
        max_length: int,
        max_unlearnable_share: float | None,
    ) -> tuple[Rows, list[Notice]]:
        """Prompts, with the number of the label at their last token.

        A prompt that is too long loses its middle and never its end, so that every row with a known label can be
        learned from; a row of the validation part whose label is in no training row is left out.
        """
        place = {label: number for number, label in enumerate(self._labels)}
        known = [row for row in conversations if row.reference.strip() in place]
        examples = []
        for row, (ids, cut) in zip(
            known, Prompts(renderer, max_length).ids([row.prompt_messages for row in known]), strict=True
        ):
            labels = [NO_LOSS] * (len(ids) - 1) + [place[row.reference.strip()]]
            examples.append(Example(ids, labels, cut))
        notices = [*_cut(known, examples, max_length), *_unseen(conversations, place)]
        if max_unlearnable_share is not None:  # the training part
            notices += _imbalance(known)
        return Rows(known, examples), notices

    def load(self, base: Path, **options: Any) -> PreTrainedModel:
        """The model with a head for the labels: the one in `base` where that has it, else a new one, seeded."""
        with unreported():
            model = Phi3ForSequenceClassification.from_pretrained(
                base, trust_remote_code=False, **head_options(base, self._labels), **options
            )
        # TRL sets the pad token in it, whatever the model.
        model.generation_config = GenerationConfig.from_model_config(model.config)
        model.score.float()  # a narrow format would lose small steps, and it is small
        if task_of(base) != "classification" or labels_of(base) != self._labels:
            generator = torch.Generator().manual_seed(self._seed)
            head = torch.empty(model.score.weight.shape).normal_(
                std=model.config.initializer_range, generator=generator
            )
            with torch.no_grad():
                model.score.weight.copy_(head)
        return model

    def score(self, model: Any, batch: dict[str, Any]) -> Score:
        """Cross entropy over the rows of a batch."""
        return measured(*_choices(model, batch), label_smoothing=self._label_smoothing)

    def held_out(
        self, rows: Rows, renderer: Renderer, *, sample_count: int, max_prompt: int, batch_size: int
    ) -> HeldOutLabels:
        return HeldOutLabels(rows, self._labels, sample_count=sample_count, batch_size=batch_size)


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
                logits, targets = _choices(model, {name: to_device(value, model) for name, value in batch.items()})
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
                logits, _ = _choices(model, {**batch, "labels": labels})
                share, best = logits.float().softmax(-1)[0].max(-1)
                answer = f"{self._labels[int(best)]} ({float(share):.0%})"
                prompt = row.prompt_messages[-1]["content"]
                told.append(Sample(step=step, prompt=prompt, expected=row.reference.strip(), answer=answer))
        return told


def _choices(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, L] and labels [N] of the N rows of a batch, padded or packed."""
    heads = batch["labels"] != NO_LOSS
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return model(**inputs, use_cache=False, heads=heads).logits, batch["labels"][heads]


def _cut(rows: Sequence[Conversation], examples: Sequence[Example], max_length: int) -> list[Notice]:
    cut = [row for row, example in zip(rows, examples, strict=True) if example.truncated]
    if not cut:
        return []
    message = f"{len(cut)} of {len(rows)} rows are longer than {max_length} tokens: the end of their text is cut"
    return [Notice(code="rows_truncated", message=f"{message} ({named(cut)})", action="raise --max-length")]


def _unseen(rows: Sequence[Conversation], place: dict[str, int]) -> list[Notice]:
    unseen = Counter(row.reference.strip() for row in rows if row.reference.strip() not in place)
    if not unseen:
        return []
    message = f"{unseen.total()} of {len(rows)} held-out rows have labels that no training row has, and are left out"
    action = "add rows of these labels, or divide the rows anew with another --split-seed"
    return [Notice(code="labels_unseen", message=f"{message}: {_listed(unseen)}", action=action)]


def _imbalance(rows: Sequence[Conversation]) -> list[Notice]:
    counts = Counter(row.reference.strip() for row in rows)
    ordered = counts.most_common()
    if ordered[0][1] < IMBALANCE * ordered[-1][1]:
        return []
    rare = Counter(dict([each for each in reversed(ordered) if each[1] * IMBALANCE <= ordered[0][1]]))
    message = f"the labels are out of balance: {ordered[0][0]} has {ordered[0][1]} rows, but {_listed(rare)}"
    action = "add rows of the rare labels, and go by macro F1 (--best-metric eval_macro_f1) rather than by accuracy"
    return [Notice(code="labels_imbalanced", message=message, action=action)]


def _listed(counts: Counter[str]) -> str:
    """`blue 3, red 1 and 2 more`."""
    shown = ", ".join(f"{label} {count}" for label, count in list(counts.items())[:NAMED_LABELS])
    return shown + (f" and {len(counts) - NAMED_LABELS} more" if len(counts) > NAMED_LABELS else "")
