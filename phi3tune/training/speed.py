"""How fast a run will train: from earlier runs like it, else from its operations and what this machine does."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from phi3tune.config import TrainConfig, read_yaml
from phi3tune.engines import models
from phi3tune.engines.folders import read_json
from phi3tune.errors import UserError
from phi3tune.events import read_events
from phi3tune.paths import Workspace
from phi3tune.training.machine import Machine
from phi3tune.training.memory import Shape, layer_bytes, trained_parameters
from phi3tune.training.summary import kept_metrics

LOOKED_AT = 20  # newest runs
SAMPLE_TOKENS = 64
# What makes two runs of one model equally fast, near enough.
_ALIKE = ("method", "task", "base_bits", "use_dora", "last_layers", "dtype", "packing", "processes", "machines")
# A kept number is written and read in the forward pass, and read, and its gradient written and read, in the backward.
_PASSES_OVER_KEPT = 6


@dataclass(frozen=True)
class Pass:
    """An ordinary forward pass: its tokens, those of them that bear loss, and how many passes make a step."""

    tokens: float
    scored: float
    per_step: int


@dataclass(frozen=True)
class Speed:
    """tokens_per_second   of training, evaluations and saving left out
    source              on what grounds
    low, high           factors on the run's time: the range that the grounds give
    forward_share       time of a forward pass alone over that of a training pass
    sample_seconds      to answer the held-out prompts once
    start_seconds       until the model can be loaded
    """

    tokens_per_second: float
    source: str
    low: float
    high: float
    forward_share: float
    sample_seconds: float
    start_seconds: float


def expected_speed(
    config: TrainConfig,
    shape: Shape,
    usual: Pass,
    checkpointing: bool,
    number: int,
    machine: Machine,
    workspace: Workspace,
) -> Speed:
    """What to expect of passes like `usual`, in numbers of `number` bytes."""
    forward, whole = _pass_seconds(config, shape, usual, checkpointing, number, machine)
    answers = SAMPLE_TOKENS * (number * shape.parameters / machine.bandwidth + 1e-3 * shape.layers)
    watching = {
        "forward_share": forward / whole,
        "sample_seconds": answers if config.sample_count and config.task == "chat" else 0.0,
        "start_seconds": machine.import_seconds,
    }
    found = _earlier(config, shape, workspace)
    if found:
        typical = median(found)
        source = f"{len(found)} earlier run{'s' if len(found) > 1 else ''} of this model and method here"
        return Speed(typical, source, 0.85 * typical / max(found), 1.2 * typical / min(found), **watching)
    processes = config.processes * config.machines
    return Speed(
        processes * usual.tokens / whole,
        "the model's operations, and matrix products measured on this machine",
        0.6,
        1.8,
        **watching,
    )


def _pass_seconds(
    config: TrainConfig,
    shape: Shape,
    usual: Pass,
    checkpointing: bool,
    number: int,
    machine: Machine,
) -> tuple[float, float]:
    """Seconds of one forward pass, and of it with the backward pass and its share of the optimizer's step."""
    tokens = usual.tokens
    linear = sum(i * o for i, o in shape.linears.values())
    attention = 2 * tokens * shape.queries  # numbers of the two products with every other token of the pass
    head = usual.scored / tokens * shape.table if config.task == "chat" else 0.0
    forward = 2 * (shape.layers * (linear + attention) + head) * tokens
    trained = trained_parameters(config, shape)
    # Backward: the gradient of the inputs costs as much as the forward pass, that of trained matrices once more.
    backward = forward + (6 if config.adapter else 2) * trained * tokens
    if config.adapter and config.use_dora:  # the dense product of both matrices, in every pass
        rank = config.lora_rank
        forward += shape.layers * sum(2 * rank * i * (i + o) for i, o in shape.linears.values())
    kept = shape.layers * tokens * layer_bytes(config, shape, number)
    rate = machine.operations_per_second(shape.hidden)
    moving = _PASSES_OVER_KEPT * kept / machine.bandwidth
    again = 1 if checkpointing else 0
    one = forward / rate + moving / 3
    # The optimizer reads weight, gradient and two moments and writes three of them, in fp32.
    step = 7 * 4 * trained / machine.bandwidth
    return one, (1 + again) * one + backward / rate + 2 * moving / 3 + step / usual.per_step


def _earlier(config: TrainConfig, shape: Shape, workspace: Workspace) -> list[float]:
    """Tokens per second of the newest completed runs of the same shape and method."""
    wanted = {name: getattr(config, name) for name in _ALIKE}
    found = []
    for folder in workspace.run_folders()[::-1][:LOOKED_AT]:
        try:
            values = read_yaml(folder / "run.yaml")
            if any(values.get(name, default) != default for name, default in wanted.items()):
                continue
            if Shape.of(_model_config(values, workspace)) != shape:
                continue
        except (UserError, KeyError):
            continue  # its model is gone
        told = [m.values.get("tokens_per_second") for m in kept_metrics(read_events(folder / "events.jsonl")[0])]
        speeds = [speed for speed in told if speed]
        if speeds:
            found.append(median(speeds))
    return found


def _model_config(values: dict[str, Any], workspace: Workspace) -> dict[str, Any]:
    ref = models.resolve(str(values.get("model", models.NANO_NAME)), workspace, download=False)
    return read_json(ref.base / "config.json")
