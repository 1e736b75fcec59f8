"""What a run derives from its settings: learning rate, micro batches, intervals, rows that can be learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from phi3tune.chat import Example, Renderer
from phi3tune.config import TrainConfig
from phi3tune.data import Conversation, tokenise
from phi3tune.errors import UserError
from phi3tune.events import Notice

NAMED_ROWS = 5
LOGGED_POINTS = 400
EVALUATIONS = 5
CHECKPOINTS = 10
# A packed row's attention costs the square of its length; on a CPU nothing is gained from longer ones.
CPU_PASS_TOKENS = 512


def learning_rate(config: TrainConfig, hidden_size: int) -> float:
    """The peak learning rate: as set, else inversely proportional to the model's width.

    For Adam-like optimizers the best rate falls as 1/width (muP, Yang et al. 2022, arXiv 2203.03466);
    3e-4 is a usual rate of LoRA at Phi-3-mini's width of 3072. Full fine-tuning takes a tenth of
    LoRA's rate (https://thinkingmachines.ai/blog/lora).
    """
    if config.learning_rate is not None:
        return config.learning_rate
    rate = 3e-4 * 3072 / hidden_size
    if config.method == "full":
        rate /= 10
    return float(f"{min(max(rate, 1e-6), 5e-3):.2e}")


def micro_batch(batch_size: int, mean_tokens: float, pass_tokens: int) -> int:
    """Conversations per forward pass: the largest divisor of `batch_size` that averages `pass_tokens` or less."""
    fitting = max(1, int(pass_tokens // mean_tokens))
    return max(size for size in range(1, min(batch_size, fitting) + 1) if batch_size % size == 0)


@dataclass(frozen=True)
class Intervals:
    """Optimizer steps between two logged points, evaluations and checkpoints."""

    log: int
    evaluate: int
    save: int

    @classmethod
    def of(cls, config: TrainConfig, steps: int) -> Intervals:
        return cls(
            log=math.ceil(steps / LOGGED_POINTS),
            evaluate=config.eval_steps or math.ceil(steps / EVALUATIONS),
            save=config.save_steps or math.ceil(steps / CHECKPOINTS),
        )


@dataclass(frozen=True)
class Rows:
    """Conversations of one part that have a token to learn from, each with its tokens."""

    conversations: list[Conversation]
    examples: list[Example]

    @property
    def tokens(self) -> int:
        return sum(len(example.input_ids) for example in self.examples)

    @property
    def trained_tokens(self) -> int:
        return sum(example.trained for example in self.examples)

    @property
    def mean_tokens(self) -> float:
        return self.tokens / len(self.examples)


def learnable(
    conversations: Sequence[Conversation], renderer: Renderer, max_length: int, max_unlearnable_share: float | None
) -> tuple[Rows, list[Notice]]:
    """The rows that bear loss after cutting to `max_length` tokens, and what to tell about the others.

    TRL would drop rows without loss silently, or keep them. Raises `UserError` when more than
    `max_unlearnable_share` of the rows, or all of them, bear none; a share of None never refuses.
    """
    examples = tokenise(conversations, renderer, max_length)
    lost = [row for row, example in zip(conversations, examples, strict=True) if not example.trained]
    cut = [row for row, example in zip(conversations, examples, strict=True) if example.truncated and example.trained]
    total = len(conversations)
    if max_unlearnable_share is not None and (len(lost) > max_unlearnable_share * total or len(lost) == total):
        raise UserError(
            f"{len(lost)} of {total} rows have no answer token within --max-length {max_length} tokens "
            f"({_names(lost)}); at most {max_unlearnable_share:.0%} may: raise --max-length or shorten the prompts"
        )
    notices = []
    if lost:
        notices.append(
            Notice(
                code="rows_without_answer",
                message=f"{len(lost)} of {total} rows have no answer token within {max_length} tokens and are left out "
                f"({_names(lost)})",
                action="raise --max-length or shorten their prompts",
            )
        )
    if cut:
        notices.append(
            Notice(
                code="rows_truncated",
                message=f"{len(cut)} of {total} rows are longer than {max_length} tokens and are cut ({_names(cut)}); "
                "their cut answers teach no end",
                action="raise --max-length",
            )
        )
    kept = [(row, example) for row, example in zip(conversations, examples, strict=True) if example.trained]
    return Rows([row for row, _ in kept], [example for _, example in kept]), notices


def _names(rows: Sequence[Conversation]) -> str:
    shown = ", ".join(f"{row.file} row {row.row}" for row in rows[:NAMED_ROWS])
    return shown + (f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else "")
