"""What a run derives from its settings: learning rate, micro batches, intervals, rows that can be learned from.

And what it checks of them before it starts: what a method or an optimizer needs, and what an adapter brings along.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phi3tune import system
from phi3tune.chat import Example, Renderer
from phi3tune.config import TARGET_MODULES, TrainConfig, flag
from phi3tune.data import Conversation, tokenise
from phi3tune.engines.folders import read_json
from phi3tune.engines.models import ModelRef
from phi3tune.errors import ConfigError, UserError
from phi3tune.events import Notice
from phi3tune.training import optimizers, spread, trackers, warnings

NAMED_ROWS = 5
LOGGED_POINTS = 400
EVALUATIONS = 5
CHECKPOINTS = 10
# A packed row's attention costs the square of its length; on a CPU nothing is gained from longer ones.
CPU_PASS_TOKENS = 512

# Settings that an adapter has already when a run trains it on.
ADAPTER_FIELDS = ("lora_rank", "lora_alpha", "use_rslora", "use_dora", "init", "target_modules", "last_layers", "task")


def check(config: TrainConfig, start: ModelRef) -> TrainConfig:
    """The settings as they hold for `start`: those of its adapter are taken over.

    Raises one `ConfigError` for all that keeps the run from starting: a package or a GPU that its method, optimizer or
    trackers need, more last layers than the model has, settings that contradict the adapter.
    """
    gpu = system.gpu_visible()
    problems = [*optimizers.problems(config, gpu=gpu), *trackers.problems(config.trackers)]
    problems += spread.problems(config, gpu=gpu)
    if config.dtype == "fp16" and not gpu:
        problems.append("--dtype fp16 needs a GPU; use --dtype auto")
    layers: int = read_json(start.base / "config.json")["num_hidden_layers"]
    if config.last_layers is not None and config.last_layers > layers:
        problems.append(f"--last-layers {config.last_layers} is more than the {layers} that {start.label} has")
    if start.adapter is None and start.task == "classification" and config.task == "chat":
        problems.append(f"{start.label} is a classifier and has no head for chats; use --task classification")
    if config.adapter and start.adapter is not None:
        brought = _brought(start, layers)
        for name, value in brought.items():
            given = getattr(config, name)
            # A default counts as not given: forms and files name every setting.
            if given not in (value, type(config).model_fields[name].get_default(call_default_factory=True)):
                problems.append(
                    f"{flag(name)} {_typed(given)} contradicts the adapter of {start.label}, which has "
                    f"{_typed(value)}; leave it out, or merge {start.label} and train a new adapter on that"
                )
        config = config.model_copy(update=brought)
    if problems:
        raise ConfigError(problems)
    return config


def _brought(start: ModelRef, layers: int) -> dict[str, Any]:
    """`ADAPTER_FIELDS` as they are in the adapter of `start`. Raises `UserError` for one that cannot be trained on."""
    assert start.adapter is not None
    lora = read_json(start.adapter / "adapter_config.json")
    targets: Any = lora.get("target_modules")
    layer: Any = lora.get("layers_to_transform")
    chosen = sorted([layer] if isinstance(layer, int) else layer or range(layers))
    odd = [name for name in ("rank_pattern", "alpha_pattern") if lora.get(name)]
    if not isinstance(targets, list) or not targets or not set(targets) <= set(TARGET_MODULES):
        odd.append("target_modules")
    if chosen != list(range(layers - len(chosen), layers)):
        odd.append("layers_to_transform")
    if lora.get("init_lora_weights") not in (None, True, False, "gaussian"):
        odd.append("init_lora_weights")  # its base weights are not the untouched ones
    if odd:
        raise UserError(
            f"the adapter of {start.label} cannot be trained on for its {', '.join(odd)}; merge it, and train a new "
            "adapter on the merged weights"
        )
    return {
        "lora_rank": lora["r"],
        "lora_alpha": float(lora["lora_alpha"]),
        "use_rslora": bool(lora.get("use_rslora")),
        "use_dora": bool(lora.get("use_dora")),
        "init": "default",
        "target_modules": [name for name in TARGET_MODULES if name in targets],
        "last_layers": None if len(chosen) == layers else len(chosen),
        "task": start.task,
    }


def _typed(value: Any) -> str:
    """A setting's value as it is typed on the command line."""
    return ",".join(value) if isinstance(value, list) else "none" if value is None else str(value)


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
            log=config.log_steps or math.ceil(steps / LOGGED_POINTS),
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
            f"({named(lost)}); at most {max_unlearnable_share:.0%} may: raise --max-length or shorten the prompts"
        )
    notices = []
    if lost:
        notices.append(
            Notice(
                code="rows_without_answer",
                message=f"{len(lost)} of {total} rows have no answer token within {max_length} tokens and are left out "
                f"({named(lost)})",
                action="raise --max-length or shorten their prompts",
            )
        )
    if cut:
        notices.append(warnings.rows_cut(len(cut), total, max_length, named(cut)))
    kept = [(row, example) for row, example in zip(conversations, examples, strict=True) if example.trained]
    return Rows([row for row, _ in kept], [example for _, example in kept]), notices


def named(rows: Sequence[Conversation]) -> str:
    """The first few rows by file and number, and how many more there are."""
    shown = ", ".join(f"{row.file} row {row.row}" for row in rows[:NAMED_ROWS])
    return shown + (f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else "")
