"""What a run would take, told before it starts: steps, time, memory, disk and cost. Starts nothing, loads no model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from phi3tune import data, system
from phi3tune.chat import NO_LOSS, Example, Renderer
from phi3tune.config import TrainConfig, flag
from phi3tune.engines import hub_models, models
from phi3tune.engines.folders import read_json
from phi3tune.paths import Workspace
from phi3tune.training import settings, tasks, token_cache
from phi3tune.training.machine import Machine, this_machine
from phi3tune.training.memory import FP32, Memory, Shape, estimate, largest_pass, optimizer_state, trained_parameters
from phi3tune.training.speed import Pass, Speed, expected_speed

Verdict = Literal["fits", "tight", "does_not_fit"]
# Of the free memory: what is above may still fit, when nothing else grows.
COMFORTABLE = 0.85
SHORTEST_REMEDY = 128
# A row's tokens are there as Python numbers (8 bytes in each of two lists, 32 of their own) and as an Arrow table.
ROW_BYTES = 64
DISK_BYTES_PER_SECOND = 500e6
CHECKPOINT_EXTRA = 2**20  # random states, the trainer's state, a tokenizer


@dataclass(frozen=True)
class Remedy:
    """The one change of a setting that makes a run fit. `flag` is as typed: `--max-length 512`; `peak` in bytes."""

    setting: str
    value: Any
    flag: str
    peak: int


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes, times in seconds, speeds in tokens per second.

    rows, validation_rows      conversations that bear loss after cutting
    tokens, trained_tokens     of one epoch; `trained_tokens` bear loss
    steps, epochs              optimizer steps, and the passes over the rows that they make
    micro_batch                conversations per forward pass
    checkpointing              whether activations are computed again in the backward pass
    tokens_per_second          assumed; `speed_source` says on what grounds
    seconds, _low, _high       from start to end, with the range that the grounds give
    memory                     at the peak of a step
    device, device_memory      where it trains and what that has in all; `memory_free` is what is left of it now
    verdict, remedy            whether it fits, and otherwise the one change that makes it fit; None: no single one does
    download                   what is fetched from the Hub first
    disk_needed, disk_free     checkpoints and result, and what the workspace's disk has
    cost                       seconds at `--price-per-hour`
    """

    rows: int
    validation_rows: int
    tokens: int
    trained_tokens: int
    steps: int
    epochs: float
    batch_size: int
    micro_batch: int
    checkpointing: bool
    tokens_per_second: float
    speed_source: str
    seconds: float
    seconds_low: float
    seconds_high: float
    memory: Memory
    device: str
    device_memory: int
    memory_free: int
    verdict: Verdict
    remedy: Remedy | None
    download: int
    disk_needed: int
    disk_free: int
    cost: float

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(self)


def plan(config: TrainConfig, workspace: Workspace) -> Plan:
    """Plan a run. Raises `UserError` where the run would be refused: no such model or data, or rows without answers."""
    base = _base(config, workspace)
    renderer = Renderer.load(base.folder)
    model = read_json(base.folder / "config.json")
    max_length = min(config.max_length, model.get("max_position_embeddings") or config.max_length)
    dataset = data.load(config, workspace)
    task = tasks.of(config, dataset.parts["train"])
    cached = partial(token_cache.rows, task, base=base.folder, workspace=workspace)
    rows, _ = cached(dataset.parts["train"], renderer, max_length, config.max_unlearnable_share)
    held_out, _ = cached(dataset.parts["validation"], renderer, max_length, None)

    machine = this_machine(workspace)
    number = number_bytes(config, machine, base.weights_bytes)
    fitting = _Fitting(config, Shape.of(model), rows.examples, machine, number, max_length)
    steps = steps_of(config, len(rows.examples))
    epochs = config.epochs if config.max_steps is None else steps * config.batch_size / len(rows.examples)
    speed = expected_speed(config, fitting.shape, fitting.usual, fitting.checkpointing, number, machine, workspace)
    seconds = _seconds(config, fitting, speed, rows.tokens * epochs, held_out.tokens, steps, base.weights_bytes)
    return Plan(
        rows=len(rows.examples),
        validation_rows=len(held_out.examples),
        tokens=rows.tokens,
        trained_tokens=rows.trained_tokens,
        steps=steps,
        epochs=round(epochs, 2),
        batch_size=config.batch_size,
        micro_batch=fitting.micro,
        checkpointing=fitting.checkpointing,
        tokens_per_second=round(speed.tokens_per_second, 1),
        speed_source=speed.source,
        seconds=round(seconds, 1),
        seconds_low=round(seconds * speed.low, 1),
        seconds_high=round(seconds * speed.high, 1),
        memory=fitting.memory,
        device=machine.name,
        device_memory=machine.memory,
        memory_free=fitting.room,
        verdict=fitting.verdict,
        remedy=fitting.remedy(),
        download=base.download_bytes,
        disk_needed=_disk(config, fitting.shape, number, base.weights_bytes),
        disk_free=system.disk_free(workspace.root),
        cost=round(seconds / 3600 * config.price_per_hour * config.machines, 2),
    )


@dataclass(frozen=True)
class _Base:
    """The folder of a model's small files; the size of its weights, and of what the Hub has yet to send."""

    folder: Path
    weights_bytes: int
    download_bytes: int


def _base(config: TrainConfig, workspace: Workspace) -> _Base:
    hub = models.hub_model(config.model, config.revision, workspace)
    if hub is None or hub_models.cached_folder(hub) is not None:
        ref = models.resolve(config.model if hub is None else str(hub), workspace)
        folder = models.starting_point(ref, workspace, adapter=config.adapter).base
        return _Base(folder, sum(path.stat().st_size for path in folder.glob("*.safetensors")), 0)
    small, access = hub_models.small_files(hub)
    weights = sum(file.size for file in access.files if file.path.endswith(".safetensors"))
    return _Base(small, weights, access.bytes_to_download)


def needs_checkpointing(
    config: TrainConfig, base: Path, rows: settings.Rows, *, micro: int, number: Literal[2, 4], gpu_free: int | None
) -> bool:
    """Whether a worker should compute activations again in the backward pass: as set, and with `auto` when the step's
    peak would take more than 85 % of what it may have.

    base      folder of the model, for its config.json
    number    bytes of a number that is computed with
    gpu_free  free bytes of the GPU before the model is loaded; None on a CPU, whose memory is looked at here
    """
    if config.gradient_checkpointing != "auto":
        return config.gradient_checkpointing == "on"
    runtime = system.process_memory() if gpu_free is None else None
    room = system.memory().available + (runtime or 0) if gpu_free is None else gpu_free
    peak = _peak(config, Shape.of(read_json(base / "config.json")), rows.examples, micro, number, False, runtime).peak
    return peak > COMFORTABLE * room


def number_bytes(config: TrainConfig, machine: Machine, weights_bytes: int) -> Literal[2, 4]:
    """Bytes of a number that a run computes with on `machine`, as `trainer.training_dtype` decides.

    `weights_bytes` are those of the checkpoint on disk, which is stored in 16 bits.
    """
    if config.dtype != "auto":
        return 4 if config.dtype == "fp32" else 2
    if machine.kind == "cpu" and 2 * weights_bytes <= machine.memory // 2:
        return 4
    return 2 if machine.bf16 else 4


class _Fitting:
    """A run's memory on a machine, and what it would be with one setting changed."""

    def __init__(
        self,
        config: TrainConfig,
        shape: Shape,
        examples: list[Example],
        machine: Machine,
        number: Literal[2, 4],
        max_length: int,
    ) -> None:
        self.config, self.shape, self._examples = config, shape, examples
        self._machine, self._number, self._max_length = machine, number, max_length
        gpu = system.gpu_memory() if machine.kind == "cuda" else None
        self.room = system.memory().available if gpu is None else gpu.available
        self.micro = self._micro(config)
        plain = self._memory(config, checkpointing=False)
        self.checkpointing = config.gradient_checkpointing == "on" or (
            config.gradient_checkpointing == "auto" and self._judged(plain) != "fits"
        )
        self.memory = self._memory(config, checkpointing=True) if self.checkpointing else plain
        self.verdict = self._judged(self.memory)

    @property
    def usual(self) -> Pass:
        share = self.micro / len(self._examples)
        tokens, scored = sum(len(e.input_ids) for e in self._examples), sum(e.trained for e in self._examples)
        processes = self.config.processes * self.config.machines
        return Pass(share * tokens, share * scored, self.config.batch_size // (self.micro * processes))

    def remedy(self) -> Remedy | None:
        """The first change that makes the run fit, the gentlest first; else the first that lets it just fit."""
        if self.verdict == "fits":
            return None
        tight = None
        for name, value in self._changes():
            changed = self.config.model_copy(update={name: value})
            checkpointing = changed.gradient_checkpointing == "on" or self.checkpointing
            memory = self._memory(changed, checkpointing=checkpointing)
            found = Remedy(name, value, f"{flag(name)} {value}", memory.peak)
            if (verdict := self._judged(memory)) == "fits":
                return found
            if verdict == "tight" and tight is None and self.verdict != "tight":
                tight = found
        return tight

    def _changes(self) -> Iterator[tuple[str, Any]]:
        config = self.config
        if not self.checkpointing:
            yield "gradient_checkpointing", "on"
        for size in range(self.micro - 1, 0, -1):
            if config.batch_size % size == 0:
                yield "micro_batch", size
        if config.adapter and config.base_bits == "as_stored" and config.init not in ("pissa", "olora"):
            yield "base_bits", "8"
            yield "base_bits", "4"
        if not config.adapter:
            yield "optimizer", "adafactor"
        if config.use_dora:
            yield "use_dora", False
        length = self._max_length // 2
        while length >= SHORTEST_REMEDY:
            yield "max_length", length
            length //= 2
        if not config.adapter and config.last_layers is None:
            yield "last_layers", max(1, self.shape.layers // 8)
            yield "method", "lora"

    def _micro(self, config: TrainConfig) -> int:
        if config.micro_batch is not None:
            return config.micro_batch
        length = min(config.max_length, self._max_length)
        mean = sum(min(length, len(e.input_ids)) for e in self._examples) / len(self._examples)
        tokens = min(length, settings.CPU_PASS_TOKENS) if self._machine.kind == "cpu" else length
        return settings.micro_batch(config.batch_size // (config.processes * config.machines), mean, tokens)

    def _memory(self, config: TrainConfig, *, checkpointing: bool) -> Memory:
        runtime = self._machine.runtime if self._machine.kind == "cpu" else None
        return _peak(config, self.shape, self._examples, self._micro(config), self._number, checkpointing, runtime)

    def _judged(self, memory: Memory) -> Verdict:
        if memory.peak <= COMFORTABLE * self.room:
            return "fits"
        return "tight" if memory.peak <= self.room else "does_not_fit"


def _peak(
    config: TrainConfig,
    shape: Shape,
    examples: list[Example],
    micro: int,
    number: Literal[2, 4],
    checkpointing: bool,
    runtime: int | None,
) -> Memory:
    length = config.max_length
    lengths = [(min(length, len(e.input_ids)), _scored(e, length)) for e in examples]
    epochs = config.epochs if config.max_steps is None else config.max_steps * config.batch_size / len(examples)
    packed = config.packing and micro > 1
    fed = largest_pass(lengths, micro=micro, packed=packed, passes=epochs, seed=config.seed)
    rows = ROW_BYTES * sum(tokens for tokens, _ in lengths)
    return estimate(
        config,
        shape,
        fed,
        number=number,
        accumulates=config.batch_size > micro * config.processes * config.machines,
        checkpointing=checkpointing,
        runtime=None if runtime is None else runtime + rows,
    )


def _scored(example: Example, length: int) -> int:
    """Loss-bearing tokens among an example's first `length`."""
    return example.trained if len(example.labels) <= length else length - example.labels[:length].count(NO_LOSS)


def steps_of(config: TrainConfig, rows: int) -> int:
    """Optimizer steps, as transformers' Trainer counts them."""
    if config.max_steps is not None:
        return config.max_steps
    return math.ceil(config.epochs * math.ceil(rows / config.batch_size))


def _seconds(
    config: TrainConfig,
    fitting: _Fitting,
    speed: Speed,
    tokens: float,
    held_out_tokens: int,
    steps: int,
    weights_bytes: int,
) -> float:
    """From the start of the worker to its end."""
    evaluations = steps // settings.Intervals.of(config, steps).evaluate if held_out_tokens else 0
    watching = evaluations * (held_out_tokens * speed.forward_share / speed.tokens_per_second + speed.sample_seconds)
    start = speed.start_seconds + weights_bytes / DISK_BYTES_PER_SECOND
    return start + tokens / speed.tokens_per_second + watching


def _disk(config: TrainConfig, shape: Shape, number: int, weights_bytes: int) -> int:
    """Checkpoints that exist at once, one of them still being written, and the result."""
    trained = trained_parameters(config, shape)
    whole = 0 if config.adapter else number * (shape.parameters - trained)
    checkpoint = FP32 * trained + whole + optimizer_state(config, shape) + CHECKPOINT_EXTRA
    kept = config.keep_checkpoints + 1 + (1 if config.keep_best else 0)
    return kept * checkpoint + (FP32 * trained if config.adapter else weights_bytes)
