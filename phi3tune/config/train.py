"""How a model is trained: settings in groups, method presets, and the combinations that cannot be."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from phi3tune.config.base import Config, names_from_text, setting
from phi3tune.config.conflicts import conflicts
from phi3tune.config.dataset import DatasetConfig
from phi3tune.config.names import MODULES, TARGET_MODULES, Method, Module, Optimizer, Scheduler, Tracker, WatchedMetric

# What the names of `--method` stand for; each is `lora` or `full` with other settings.
PRESETS: dict[str, dict[str, Any]] = {
    "rslora": {"method": "lora", "use_rslora": True},
    "dora": {"method": "lora", "use_dora": True},
    "pissa": {"method": "lora", "init": "pissa"},
    "loraplus": {"method": "lora", "loraplus_ratio": 16.0},
    "qlora": {"method": "lora", "base_bits": "4"},
    "qlora8": {"method": "lora", "base_bits": "8"},
    "last_layers": {"method": "full", "last_layers": 2},
}

# What `--quality` stands for, beside what was given: how much is spent on one pass over the rows.
QUALITY: dict[str, dict[str, Any]] = {
    "fast": {"lora_rank": 8, "sample_count": 1, "max_length": 512},
    "balanced": {},
    "thorough": {"lora_rank": 64, "use_rslora": True, "keep_best": True},
}


class ModelSettings(Config):
    """The model, and what the run is called."""

    section: ClassVar[str] = "Model and run"

    model: str = setting(
        "phi3-nano",
        "Model to start from: phi3-nano, a run (its adapter is trained on), a folder with a Phi-3, or a Hub id.",
        unit="name or path",
        group="simple",
    )
    revision: str | None = setting(
        None, "Branch, tag or commit of a Hub model; empty takes its main branch.", unit="name"
    )
    task: Literal["chat", "classification"] = setting(
        "chat",
        "chat learns to answer; classification puts a head on the model that chooses one of the dataset's labels.",
        unit="name",
        group="simple",
    )
    name: str | None = setting(
        None, "Name of the run; empty takes the dataset's name and a number.", unit="name", group="simple"
    )
    project: str | None = setting(None, "Project that the run is listed under.", unit="name")
    tags: list[str] = setting([], "Words to find the run by.", unit="names")
    note: str = setting("", "A remark kept with the run.", unit="text")

    _tags = field_validator("tags", mode="before")(names_from_text)


class MethodSettings(Config):
    """What is trained."""

    section: ClassVar[str] = "Method"

    method: Method = setting(
        "lora",
        "lora trains small adapter matrices, full trains the weights; the other names are presets of the settings "
        "below.",
        unit="name",
    )
    quality: Literal["fast", "balanced", "thorough"] = setting(
        "balanced",
        "How much to spend: fast takes a small adapter and shorter rows, thorough a large adapter and the best of all "
        "evaluations. What is set by itself wins.",
        unit="name",
        group="simple",
    )
    lora_rank: int = setting(
        16,
        "Rank of the adapter matrices; more rank learns more and costs more memory.",
        unit="rank",
        ge=1,
        le=512,
    )
    lora_alpha: float = setting(
        32.0, "Scale of the adapter; its weight is alpha divided by rank.", unit="number", gt=0.0, le=4096.0
    )
    lora_dropout: float = setting(
        0.0, "Share of adapter inputs dropped at random while training.", unit="share", ge=0.0, lt=1.0
    )
    use_rslora: bool = setting(False, "Divide alpha by the square root of the rank (rsLoRA).", unit="yes or no")
    use_dora: bool = setting(
        False, "Train a magnitude for every output beside the adapter's direction (DoRA).", unit="yes or no"
    )
    init: Literal["default", "gaussian", "pissa", "olora"] = setting(
        "default",
        "How the adapter begins: zero change, or the main directions of the weights themselves (PiSSA, OLoRA).",
        unit="name",
    )
    loraplus_ratio: float | None = setting(
        None, "Learning rate of the adapter's B over that of its A (LoRA+); empty is 1.", unit="ratio", gt=0.0, le=1000
    )
    base_bits: Literal["as_stored", "8", "4"] = setting(
        "as_stored", "Bits of the frozen weights under the adapter; 8 and 4 are QLoRA (bitsandbytes).", unit="bits"
    )
    target_modules: list[Module] = setting(
        list(TARGET_MODULES),
        "Layers that get an adapter, the first four. With full, the layers that are trained; there the default four "
        "mean every weight.",
        unit="names",
    )
    last_layers: int | None = setting(
        None, "Train only this many of the last layers; empty trains all.", unit="layers", ge=1, le=1000
    )
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto",
        "Number format while training; auto takes bf16 on GPUs that have it, and fp32 on CPUs while the model fits.",
        unit="name",
    )

    _modules = field_validator("target_modules", mode="before")(names_from_text)

    @field_validator("target_modules")
    @classmethod
    def _some_module(cls, value: list[Module]) -> list[Module]:
        if not value:
            raise ValueError(f"name one or more of {', '.join(MODULES)}")
        return list(dict.fromkeys(value))


class LossSettings(Config):
    """How long, on what, and with which loss."""

    section: ClassVar[str] = "Length and loss"

    epochs: float = setting(3.0, "Passes over the training rows.", unit="epochs", group="simple", gt=0.0, le=1000.0)
    max_steps: int | None = setting(
        None,
        "Stop after this many optimizer steps; empty trains for the epochs.",
        unit="optimizer steps",
        ge=1,
        le=10_000_000,
    )
    batch_size: int = setting(8, "Conversations per optimizer step.", unit="conversations", ge=1, le=4096)
    micro_batch: int | None = setting(
        None,
        "Conversations per forward pass, a divisor of the batch size: the rest is gradient accumulation; empty "
        "chooses it from their lengths.",
        unit="conversations",
        ge=1,
        le=4096,
    )
    max_length: int = setting(
        1024,
        "Longest conversation in tokens; what is longer is cut, and counted in the report.",
        unit="tokens",
        ge=8,
        le=131_072,
    )
    packing: bool = setting(
        True, "Put several short conversations in one sequence, each seeing only itself.", unit="yes or no"
    )
    max_unlearnable_share: float = setting(
        0.05,
        "Refuse the run when more rows than this have no answer token left after cutting.",
        unit="share of rows",
        ge=0.0,
        le=1.0,
    )
    loss: Literal["cross_entropy", "dft"] = setting(
        "cross_entropy",
        "cross_entropy, or dft, which weighs every token by the probability that the model gives it already.",
        unit="name",
    )
    label_smoothing: float = setting(
        0.0, "Share of every target spread over the whole vocabulary.", unit="share", ge=0.0, le=0.5
    )
    neftune_alpha: float | None = setting(
        None, "Noise added to the embeddings while training (NEFTune); empty adds none.", unit="number", gt=0.0, le=100
    )


class OptimizerSettings(Config):
    """How the weights move."""

    section: ClassVar[str] = "Optimizer"

    learning_rate: float | None = setting(
        None,
        "Peak learning rate; empty chooses it from the model's width and the method.",
        unit="per step",
        gt=0.0,
        le=1.0,
    )
    optimizer: Optimizer = setting(
        "adamw_torch_fused", "Optimizer; 8-bit and paged ones save memory and need bitsandbytes.", unit="name"
    )
    scheduler: Scheduler = setting("cosine", "How the learning rate moves after warm-up.", unit="name")
    warmup_share: float = setting(
        0.05, "Share of the steps over which the learning rate rises from zero.", unit="share of steps", ge=0.0, le=0.9
    )
    weight_decay: float = setting(0.0, "Decay of the trained weights.", unit="per step", ge=0.0, le=1.0)
    max_grad_norm: float = setting(
        1.0, "Gradients are scaled down to this norm; 0 leaves them.", unit="L2 norm", ge=0.0, le=1000.0
    )
    adam_beta1: float = setting(0.9, "Decay of the mean of the gradients (Adam).", unit="share", ge=0.0, lt=1.0)
    adam_beta2: float = setting(
        0.999, "Decay of the mean of the squared gradients (Adam).", unit="share", ge=0.0, lt=1.0
    )
    adam_epsilon: float = setting(1e-8, "Added below the root, against division by zero (Adam).", unit="number", gt=0.0)
    gradient_checkpointing: Literal["auto", "on", "off"] = setting(
        "auto",
        "Recompute activations in the backward pass: less memory, a third more time; auto does so when the plan "
        "would not fit otherwise.",
        unit="name",
    )


class WatchSettings(Config):
    """What is measured, kept and told on the way."""

    section: ClassVar[str] = "Watching and saving"

    log_steps: int | None = setting(
        None,
        "Optimizer steps between logged points; empty gives 400 points in all.",
        unit="optimizer steps",
        ge=1,
        le=1_000_000,
    )
    eval_steps: int | None = setting(
        None,
        "Optimizer steps between evaluations; empty takes a fifth of the run.",
        unit="optimizer steps",
        ge=1,
        le=1_000_000,
    )
    save_steps: int | None = setting(
        None,
        "Optimizer steps between checkpoints; empty takes a tenth of the run.",
        unit="optimizer steps",
        ge=1,
        le=1_000_000,
    )
    keep_checkpoints: int = setting(2, "Newest checkpoints kept on disk.", unit="checkpoints", ge=1, le=100)
    keep_best: bool = setting(
        False, "Take the weights of the best evaluation as the result, not those of the last step.", unit="yes or no"
    )
    best_metric: WatchedMetric = setting(
        "eval_loss", "Metric of the validation part that best and early stopping go by.", unit="name"
    )
    early_stopping: int | None = setting(
        None,
        "Stop after this many evaluations in a row without a better metric; empty never stops early.",
        unit="evaluations",
        ge=1,
        le=1000,
    )
    early_stopping_delta: float = setting(
        0.0, "How much better the metric must be to count.", unit="number", ge=0.0, le=100.0
    )
    sample_count: int = setting(
        3, "Held-out prompts answered at each evaluation, to watch the answers change.", unit="prompts", ge=0, le=20
    )
    trackers: list[Tracker] = setting(
        [], "Also send the curves to trackio, tensorboard or wandb, when installed.", unit="names"
    )
    seed: int = setting(42, "Seed of weights, order and dropout.", unit="integer", ge=0, le=2**32 - 1)
    price_per_hour: float = setting(
        0.0, "Price of the machine, for the plan's cost.", unit="per hour", ge=0.0, le=100_000.0
    )

    _trackers = field_validator("trackers", mode="before")(names_from_text)


class SpreadSettings(Config):
    """More than one process."""

    section: ClassVar[str] = "Several processes"

    processes: int = setting(
        1, "Training processes on each machine, one per GPU where there are GPUs.", unit="processes", ge=1, le=64
    )
    machines: int = setting(
        1, "Machines that train together; each is given the same command.", unit="machines", ge=1, le=1024
    )
    machine_rank: int = setting(0, "Which of the machines this is; 0 keeps the run.", unit="rank", ge=0, le=1023)
    main_address: str = setting(
        "127.0.0.1:29500", "host:port of machine 0 that the others connect to.", unit="host:port"
    )
    sharding: Literal["none", "fsdp", "deepspeed_zero2", "deepspeed_zero3"] = setting(
        "none",
        "Divide weights and optimizer over the processes, on GPUs: FSDP2 or DeepSpeed; none keeps whole copies.",
        unit="name",
    )


# Pydantic takes fields from the last base first: read the bases upward for the order of the settings.
class TrainConfig(
    SpreadSettings, WatchSettings, OptimizerSettings, LossSettings, MethodSettings, ModelSettings, DatasetConfig
):
    """A training run."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        """Replace the names of presets by what they stand for; what was given beside them wins."""
        if not isinstance(values, dict):
            return values
        preset = PRESETS.get(str(values.get("method")), {})
        quality = QUALITY.get(str(values.get("quality")), {})
        if values.get("method") in ("full", "last_layers"):  # an adapter's settings mean nothing there
            quality = {name: value for name, value in quality.items() if name != "use_rslora"}
        return {**quality, **preset, **values, "method": preset.get("method", values.get("method", "lora"))}

    @property
    def adapter(self) -> bool:
        """Whether the run trains an adapter rather than weights."""
        return self.method == "lora"

    def conflicts(self) -> list[str]:
        return conflicts(self)
