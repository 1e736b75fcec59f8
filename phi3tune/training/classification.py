"""The task of choosing a label, at the last token of the prompt. Loads torch only when a model is loaded or scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from phi3tune.chat import NO_LOSS, Example, Renderer
from phi3tune.config import TrainConfig
from phi3tune.data import Conversation
from phi3tune.engines.classifier import Prompts
from phi3tune.evaluation.labels import classes
from phi3tune.events import Notice
from phi3tune.training.settings import Rows, named

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from phi3tune.training.scoring import Score
    from phi3tune.training.tasks import Watched

IMBALANCE = 5.0  # the commonest label has this many times the rows of the rarest
NAMED_LABELS = 5


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
        from phi3tune.training import head

        return head.load(base, self._labels, self._seed, **options)

    def score(self, model: Any, batch: dict[str, Any]) -> Score:
        """Cross entropy over the rows of a batch."""
        from phi3tune.training import head, scoring

        return scoring.measured(*head.choices(model, batch), label_smoothing=self._label_smoothing)

    def held_out(
        self, rows: Rows, renderer: Renderer, *, sample_count: int, max_prompt: int, batch_size: int
    ) -> Watched:
        from phi3tune.training import head

        return head.HeldOutLabels(rows, self._labels, sample_count=sample_count, batch_size=batch_size)


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
