"""Peak memory of a training step, from what is allocated: a model's shape, the settings, and the largest batch.

The formulas follow `Phi3DecoderLayer` of transformers 5.23 and `lora.Linear` of peft 0.21 tensor by tensor; the terms
name what autograd keeps. `benchmarks/memory_plan.py` compares them with measured peaks on a CPU. Those of a GPU follow
from the same list with its number formats, and have not been measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from phi3tune.config import TARGET_MODULES, TrainConfig

FP32 = 4
# Bytes that an optimizer keeps for each trained number, by the beginning of its name; the first that fits counts.
# GaLore and Apollo keep less for large matrices: theirs are upper bounds.
_STATE = (
    ("paged", 0.0),  # in the host's memory
    ("adamw_torch_4bit", 1.0),
    ("adamw_torch_8bit", 2.0),
    ("adamw_8bit", 2.0),
    ("adamw_bnb_8bit", 2.0),
    ("adamw_anyprecision", 4.0),
    ("ademamix_8bit", 3.0),
    ("ademamix", 12.0),
    ("grokadamw", 12.0),
    ("lion_8bit", 1.0),
    ("lion", 4.0),
    ("rmsprop_bnb_8bit", 1.0),
    ("rmsprop", 4.0),
    ("adagrad", 4.0),
    ("schedule_free_sgd", 4.0),
    ("sgd", 0.0),
    ("lomo", 0.0),
    ("galore_adamw_8bit", 2.0),
    ("", 8.0),  # Adam's two moments in fp32
)
_FUSED = ("adamw_torch_fused", "lomo", "adalomo")
# On a CPU: what a trainer, its dataset and its thread pools take before the first step.
FRAMEWORK = 60 * 2**20
# glibc does not use again the holes that freed aligned blocks leave, such as the short-lived products beside what is
# kept. Measured as 0.7 to 0.9 of activations and logits with LoRA; almost nothing with MALLOC_MMAP_THRESHOLD_=1048576.
_HOLES = 0.75
# Larger blocks are mapped one by one and given back at once (mallopt's limit of M_MMAP_THRESHOLD on 64-bit systems).
_MAPPED = 32 * 2**20
_CUDA_CONTEXT = 700 * 2**20  # context, kernels and cuBLAS workspaces of one process


@dataclass(frozen=True)
class Shape:
    """The widths of a Phi-3, from its config.json."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int
    tied: bool

    @classmethod
    def of(cls, config: dict[str, Any]) -> Shape:
        heads = config["num_attention_heads"]
        return cls(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            heads=heads,
            key_heads=config.get("num_key_value_heads") or heads,
            head_size=config.get("head_dim") or config["hidden_size"] // heads,
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", False)),
        )

    @property
    def queries(self) -> int:
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        return self.key_heads * self.head_size

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Name -> (inputs, outputs) of a layer's matrices."""
        return {
            "qkv_proj": (self.hidden, self.queries + 2 * self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_up_proj": (self.hidden, 2 * self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def layer_parameters(self) -> int:
        return sum(i * o for i, o in self.linears.values()) + 2 * self.hidden

    @property
    def table(self) -> int:
        """Numbers of the embeddings; the head has as many, unless it is the same matrix."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer_parameters + (1 if self.tied else 2) * self.table + self.hidden


@dataclass(frozen=True)
class Fed:
    """The largest forward pass of a run.

    rows, tokens  of the batch as it goes in: one row of everything when conversations are packed
    scored        positions that bear loss
    masked        whether attention needs a mask of tokens x tokens (packed or padded rows)
    """

    rows: int
    tokens: int
    scored: int
    masked: bool


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a training step.

    weights      of the base as it is held in memory
    adapter      matrices that are trained beside it
    gradients    of what is trained
    optimizer    its state, and what a step needs for itself
    activations  kept from the forward pass for the backward pass
    logits       the head's output over the vocabulary, with its gradient
    runtime      the process without its model, the rows, and holes between blocks (CPU), or the CUDA context (GPU)
    peak         what is held at once at the worst moment: less than the sum where gradients replace activations
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    runtime: int
    peak: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def estimate(
    config: TrainConfig,
    shape: Shape,
    fed: Fed,
    *,
    number: Literal[2, 4],
    accumulates: bool,
    checkpointing: bool,
    runtime: int | None,
) -> Memory:
    """Peak memory of one process.

    number       bytes of a number that is computed with: 4 for fp32, 2 for bf16 and fp16
    accumulates  whether a step has several forward passes, so that gradients are there during the next one
    runtime      resident bytes of the process before it loads a model; None on a GPU, where it is the CUDA context
    """
    trained = trained_parameters(config, shape)
    weights = _weights(config, shape, number)
    # PiSSA and OLoRA keep the matrices that they began with, to be saved as plain LoRA.
    copies = 2 if config.init in ("pissa", "olora") else 1
    adapter = copies * FP32 * trained if config.adapter else 0
    gradients = FP32 * trained
    largest = FP32 * max(_matrices(config, shape), default=0)
    state = optimizer_state(config, shape)
    step_room = 0 if config.optimizer in _FUSED else 3 * largest
    activations = _activations(config, shape, fed, number, checkpointing)
    if number == 2 and not config.adapter:
        activations += 2 * trained  # autocast keeps a 16-bit copy of every weight until the step is over
    # fp32: the head's output, its log-softmax and one more of them, of entropy and then of the gradient.
    block = FP32 * fed.scored * shape.vocabulary if config.task == "chat" else 0
    logits = 3 * block
    held = weights + adapter + state
    backward = _backward_room(config, shape, fed, number)
    moments = (
        held + (gradients if accumulates else 0) + activations + max(logits, backward),
        held + gradients + (largest if accumulates else 0) + backward // shape.layers,
        held + gradients + step_room,
    )
    base = _CUDA_CONTEXT
    if runtime is not None:
        # What DoRA and dropout add is kept, not short-lived; what is computed again leaves its holes again.
        plain = config.model_copy(update={"use_dora": False, "lora_dropout": 0.0})
        short_lived = _activations(plain, shape, fed, number, False) + (logits if block < _MAPPED else 0)
        base = runtime + FRAMEWORK + int(_HOLES * short_lived)
    return Memory(
        weights=weights,
        adapter=adapter,
        gradients=gradients,
        optimizer=state + step_room,
        activations=activations,
        logits=logits,
        runtime=base,
        peak=base + max(moments),
    )


def trained_parameters(config: TrainConfig, shape: Shape) -> int:
    """How many numbers the run trains."""
    return sum(_matrices(config, shape))


def _layers(config: TrainConfig, shape: Shape) -> int:
    """How many layers, counted from the last, have something to train."""
    return min(config.last_layers or shape.layers, shape.layers)


def _kept_layers(config: TrainConfig, shape: Shape) -> int:
    """How many layers the gradient goes back through: to the lowest thing that is trained."""
    if "embed_tokens" in config.target_modules:
        return shape.layers
    return 0 if set(config.target_modules) == {"lm_head"} else _layers(config, shape)


def _matrices(config: TrainConfig, shape: Shape) -> list[int]:
    """The sizes of what is trained, matrix by matrix."""
    layers = _layers(config, shape)
    if config.adapter:
        sizes = []
        for name in config.target_modules:
            inputs, outputs = shape.linears[name]
            sizes += [config.lora_rank * inputs, config.lora_rank * outputs]
            sizes += [outputs] if config.use_dora else []
        return sizes * layers
    everything = set(config.target_modules) == set(TARGET_MODULES)
    chosen = [name for name in shape.linears if name in config.target_modules]
    sizes = [shape.linears[name][0] * shape.linears[name][1] for name in chosen]
    norms = everything or "norms" in config.target_modules
    sizes = (sizes + ([shape.hidden] * 2 if norms else [])) * layers
    # Outside the layers everything is trained, unless layers or modules are named.
    outside = everything and config.last_layers is None
    sizes += [shape.hidden] if outside or "norms" in config.target_modules else []
    tables = [name for name in ("embed_tokens", "lm_head") if outside or name in config.target_modules]
    return sizes + [shape.table] * (min(1, len(tables)) if shape.tied else len(tables))


def _weights(config: TrainConfig, shape: Shape, number: int) -> int:
    if not config.adapter:  # what is trained is held in fp32
        return number * shape.parameters + (FP32 - number) * trained_parameters(config, shape)
    if config.base_bits == "as_stored":
        return number * shape.parameters
    linear = shape.layers * sum(i * o for i, o in shape.linears.values())
    # bitsandbytes: NF4 with a scale of 8 bits for each block of 64 numbers; 8 bits.
    packed = linear * (0.5 + 1 / 64) if config.base_bits == "4" else linear * 1.0
    return int(packed) + number * (shape.parameters - linear)


def optimizer_state(config: TrainConfig, shape: Shape) -> int:
    """Bytes that the optimizer keeps between steps, and a checkpoint of it holds."""
    if "adafactor" not in config.optimizer:
        size = next(size for name, size in _STATE if config.optimizer.startswith(name))
        return int(size * trained_parameters(config, shape))
    # A number for each row and each column of a matrix.
    if config.adapter:
        sides = sum(2 * config.lora_rank + sum(shape.linears[name]) for name in config.target_modules)
    else:
        sides = sum(i + o for i, o in shape.linears.values())
    return FP32 * (_layers(config, shape) * sides + 2 * (shape.vocabulary + shape.hidden))


def _activations(config: TrainConfig, shape: Shape, fed: Fed, number: int, checkpointing: bool) -> int:
    """What autograd keeps of the layers at the end of the forward pass."""
    layer = fed.tokens * layer_bytes(config, shape, number) + _mask_bytes(fed, number)
    around = fed.tokens * shape.hidden * (number + FP32) + fed.scored * shape.hidden * number
    if fed.masked:
        around += (fed.tokens // fed.rows) ** 2 * fed.rows  # the mask as yes or no, made once
    if not checkpointing:
        return _kept_layers(config, shape) * layer + around
    # The input of each layer is kept; the layers are computed again one at a time.
    residual = FP32 if number == FP32 or not config.adapter else number
    return shape.layers * fed.tokens * shape.hidden * residual + layer + around


def layer_bytes(config: TrainConfig, shape: Shape, number: int) -> int:
    """Bytes that one layer keeps for each token."""
    h, i, q, k = shape.hidden, shape.intermediate, shape.queries, shape.keys
    outputs = {name: o for name, (_, o) in shape.linears.items()}
    inputs = {name: n for name, (n, _) in shape.linears.items()}
    full = not config.adapter
    kept = 2 * h * FP32  # the input of both norms, in fp32 whatever is computed in
    kept += number * 2 * h  # their outputs: inputs of qkv_proj and gate_up_proj
    kept += 2 * h * FP32 if full else 0  # the normalised values, for the gradient of the norms' weights
    kept += number * (q + 2 * k)  # qkv_proj's output, of which attention keeps the values
    kept += number * (q + k)  # rotated queries and keys
    kept += number * q + FP32 * shape.heads  # attention's output, which is o_proj's input, and its log-sum
    kept += number * (2 * i + i + i)  # gate and up, silu(gate), and their product: down_proj's input
    if config.adapter:
        for name in config.target_modules:
            kept += number * config.lora_rank
            if config.lora_dropout:
                kept += number * inputs[name]  # the input after dropout, beside the one before
            if config.use_dora:
                kept += number * 2 * outputs[name]  # both terms that a magnitude multiplies
    return kept


def _mask_bytes(fed: Fed, number: int) -> int:
    """Attention turns the mask into numbers for itself, and keeps them for the backward pass."""
    return number * fed.rows * (fed.tokens // fed.rows) ** 2 if fed.masked else 0


def _backward_room(config: TrainConfig, shape: Shape, fed: Fed, number: int) -> int:
    """What the backward pass of one layer holds at once: gradients inside the MLP, or DoRA's dense matrices."""
    inside = fed.tokens * number * (shape.hidden + 5 * shape.intermediate)
    if config.adapter and config.use_dora:
        dense = [i * o for name, (i, o) in shape.linears.items() if name in config.target_modules]
        inside = max(inside, 4 * FP32 * max(dense))
    return inside


def largest_pass(lengths: Iterable[tuple[int, int]], *, micro: int, packed: bool, passes: float, seed: int) -> Fed:
    """The largest forward pass that random batches of `micro` conversations make.

    `lengths` are (tokens, scored) of each row; `passes` over the rows are drawn, at most so many that 200,000
    batches are looked at. Padded batches are as wide as their longest row.
    """
    import random

    rows = list(lengths)
    draw = random.Random(seed)
    batches = min(max(1, round(passes * len(rows) / micro)), 200_000)
    widest, most_scored, taken = 0, 0, 0
    order: list[tuple[int, int]] = []
    for _ in range(batches):
        if taken + micro > len(order):
            order, taken = draw.sample(rows, len(rows)), 0
        batch = order[taken : taken + micro]
        taken += micro
        size = sum(t for t, _ in batch) if packed else len(batch) * max(t for t, _ in batch)
        widest, most_scored = max(widest, size), max(most_scored, sum(s for _, s in batch))
    same = len({tokens for tokens, _ in rows}) == 1
    return Fed(
        rows=1 if packed else micro, tokens=widest, scored=most_scored, masked=packed or (micro > 1 and not same)
    )
