"""What differs between the tasks that a model can be trained for. Loads torch only when a model is loaded or scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from phi3tune.chat import Renderer
from phi3tune.config import TrainConfig
from phi3tune.data import Conversation
from phi3tune.events import Notice, Sample
from phi3tune.training.settings import Rows, learnable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from phi3tune.training.scoring import Score

AdapterType = Literal["CAUSAL_LM", "SEQ_CLS"]  # peft's names of the tasks
Collate = Callable[[list[dict[str, list[int]]]], dict[str, Any]]


class Watched(Protocol):
    """A validation part that is measured on the way. False when it has no rows."""

    def __bool__(self) -> bool: ...

    def loss(self, model: PreTrainedModel, collate: Collate) -> dict[str, float]:
        """`eval_loss` and the task's other metrics over every row; weights and random states stay as they are."""

    def samples(self, model: PreTrainedModel, step: int) -> list[Sample]:
        """Answers to a few of its prompts; none where the task has no answers to show."""


class Task(Protocol):
    """One task, made for the rows of one run.

    labels  what a classifier chooses from, in the order of its outputs; None for a task without labels
    """

    adapter_type: AdapterType
    labels: tuple[str, ...] | None

    def rows(
        self,
        conversations: Sequence[Conversation],
        renderer: Renderer,
        max_length: int,
        max_unlearnable_share: float | None,
    ) -> tuple[Rows, list[Notice]]:
        """The rows that can be learned from as `input_ids` and `labels`, and what to tell about the others.

        `labels` is as long as `input_ids`, begins with -100, and bears loss where it is not -100: the trainer's
        collator packs and pads rows of any task alike. Raises `UserError` when more than `max_unlearnable_share` of
        the rows cannot be learned from; None never refuses.
        """

    def load(self, base: Path, **options: Any) -> PreTrainedModel:
        """The model with the weights in `base`; `options` go to `from_pretrained`."""

    def score(self, model: Any, batch: dict[str, Any]) -> Score:
        """Sums over a batch of the trainer's collator; the loss is what is trained on and carries the gradient."""

    def held_out(
        self, rows: Rows, renderer: Renderer, *, sample_count: int, max_prompt: int, batch_size: int
    ) -> Watched:
        """The validation part; `sample_count` of its prompts of at most `max_prompt` tokens are answered."""


class ChatTask:
    """Learning to answer: the next token of every answer."""

    adapter_type: AdapterType = "CAUSAL_LM"
    labels: tuple[str, ...] | None = None

    def __init__(self, config: TrainConfig) -> None:
        self._loss = config.loss
        self._label_smoothing = config.label_smoothing

    def rows(
        self,
        conversations: Sequence[Conversation],
        renderer: Renderer,
        max_length: int,
        max_unlearnable_share: float | None,
    ) -> tuple[Rows, list[Notice]]:
        return learnable(conversations, renderer, max_length, max_unlearnable_share)

    def load(self, base: Path, **options: Any) -> PreTrainedModel:
        from transformers import Phi3ForCausalLM

        # The class is named and code of the folder is never run.
        return Phi3ForCausalLM.from_pretrained(base, trust_remote_code=False, **options)

    def score(self, model: Any, batch: dict[str, Any]) -> Score:
        from phi3tune.training.scoring import score

        return score(model, batch, loss=self._loss, label_smoothing=self._label_smoothing)

    def held_out(
        self, rows: Rows, renderer: Renderer, *, sample_count: int, max_prompt: int, batch_size: int
    ) -> Watched:
        from phi3tune.training.heldout import HeldOut

        return HeldOut(rows, renderer, sample_count=sample_count, max_prompt=max_prompt, batch_size=batch_size)


def of(config: TrainConfig, train: Sequence[Conversation]) -> Task:
    """The task of a run; `train` are the conversations that a classifier finds its labels in."""
    if config.task == "classification":
        from phi3tune.training.classification import ClassificationTask

        return ClassificationTask(config, train)
    return ChatTask(config)
