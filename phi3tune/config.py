"""One definition of every setting.

The YAML file, the command line's flags, the page's widgets and the docs are all derived from these
models: a default, a range or a sentence is written here and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from phi3tune.errors import ConfigError, UserError

Method = Literal["lora", "full"]
Precision = Literal["int4", "int8", "fp32"]
DataFormat = Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "text"]
Part = Literal["train", "validation", "test"]
Metric = Literal[
    "auto",
    "exact_match",
    "exact_match_normalised",
    "token_f1",
    "rouge_l",
    "chrf",
    "numeric_match",
    "pattern_match",
    "json_valid",
    "json_schema_valid",
    "accuracy",
    "token_accuracy",
]
TARGET_MODULES = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def setting(default: Any, sentence: str, *, unit: str, group: str = "advanced", **limits: Any) -> Any:
    """A field with its unit and one sentence. `group` is `simple` or `advanced` (the page's forms)."""
    return Field(default, description=sentence, json_schema_extra={"unit": unit, "group": group}, **limits)


class Config(BaseModel):
    """Settings are strict about names: an unknown one is an error, not a silence."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


class DatasetConfig(Config):
    """Which rows, how they are read, and how they are divided."""

    dataset: str = setting(
        "",
        "Chats to use: a file or folder, a stored dataset's id, a bundled name, or a Hub dataset id.",
        unit="path or name",
        group="simple",
    )
    format: DataFormat = setting("auto", "Shape of the rows; auto detects it from the columns.", unit="name")
    columns: dict[str, str] = setting(
        {}, "Which column holds what, as field=column, such as user=question,assistant=answer.", unit="field=column"
    )
    unsupported: Literal["refuse", "drop"] = setting(
        "refuse",
        "What becomes of rows with tool calls or images: refuse names them, drop leaves them out.",
        unit="name",
    )
    validation_file: str | None = setting(
        None, "A file or stored dataset whose rows are all used for validation.", unit="path or name"
    )
    test_file: str | None = setting(
        None, "A file or stored dataset whose rows are all held out for evaluation.", unit="path or name"
    )
    validation_share: float = setting(
        0.1, "Share of the rows kept from training to watch it.", unit="share of rows", ge=0.0, le=0.5
    )
    test_share: float = setting(
        0.1,
        "Share of the rows held out for evaluation, when the dataset has no test file.",
        unit="share of rows",
        ge=0.0,
        le=0.5,
    )
    validation_rows: int | None = setting(
        None, "Rows kept for validation; wins over the share.", unit="rows", ge=0, le=10_000_000
    )
    test_rows: int | None = setting(None, "Rows held out; wins over the share.", unit="rows", ge=0, le=10_000_000)
    split_seed: int = setting(7, "Seed of the random division into parts.", unit="integer", ge=0, le=2**32 - 1)
    max_rows: int | None = setting(
        None, "Use only the first rows of the training part; empty uses all.", unit="rows", ge=1, le=100_000_000
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _columns_from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [part.split("=", 1) for part in value.split(",") if part.strip()]
        if any(len(pair) != 2 or not pair[0].strip() or not pair[1].strip() for pair in pairs):
            raise ValueError("write it as field=column,field=column, such as user=question,assistant=answer")
        return {field.strip(): column.strip() for field, column in pairs}


class TrainConfig(DatasetConfig):
    """A training run."""

    model: str = setting(
        "phi3-nano",
        "Model to start from: phi3-nano, a run, a folder with a Phi-3 checkpoint, or a Hub id.",
        unit="name or path",
        group="simple",
    )
    name: str | None = setting(
        None, "Name of the run; empty takes the dataset's name and a number.", unit="name", group="simple"
    )
    epochs: float = setting(3.0, "Passes over the training rows.", unit="epochs", group="simple", gt=0.0, le=1000.0)
    max_steps: int | None = setting(
        None,
        "Stop after this many optimizer steps; empty trains for the epochs.",
        unit="optimizer steps",
        ge=1,
        le=10_000_000,
    )
    method: Method = setting(
        "lora", "lora trains small adapter matrices, full trains every weight.", unit="name", group="simple"
    )
    lora_rank: int = setting(
        16,
        "Rank of the adapter matrices; more rank learns more and costs more memory.",
        unit="rank",
        group="simple",
        ge=1,
        le=512,
    )
    lora_alpha: float = setting(
        32.0, "Scale of the adapter; its weight is alpha divided by rank.", unit="number", gt=0.0, le=4096.0
    )
    lora_dropout: float = setting(
        0.0, "Share of adapter inputs dropped at random while training.", unit="share", ge=0.0, lt=1.0
    )
    learning_rate: float | None = setting(
        None,
        "Peak learning rate; empty chooses it from the model's width and the method.",
        unit="per step",
        group="simple",
        gt=0.0,
        le=1.0,
    )
    scheduler: Literal["cosine", "linear", "constant"] = setting(
        "cosine", "How the learning rate moves after warm-up.", unit="name"
    )
    warmup_share: float = setting(
        0.05, "Share of the steps over which the learning rate rises from zero.", unit="share of steps", ge=0.0, le=0.9
    )
    weight_decay: float = setting(0.0, "Decay of the trained weights (AdamW).", unit="per step", ge=0.0, le=1.0)
    max_grad_norm: float = setting(1.0, "Gradients are scaled down to this norm.", unit="L2 norm", gt=0.0, le=1000.0)
    batch_size: int = setting(8, "Conversations per optimizer step.", unit="conversations", ge=1, le=4096)
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
    dtype: Literal["auto", "fp32", "bf16"] = setting(
        "auto",
        "Number format while training; auto takes bf16 on GPUs that have it, and fp32 on CPUs while the model fits.",
        unit="name",
    )
    gradient_checkpointing: bool = setting(
        False, "Recompute activations in the backward pass: less memory, a third more time.", unit="yes or no"
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
    sample_count: int = setting(
        3, "Held-out prompts answered at each evaluation, to watch the answers change.", unit="prompts", ge=0, le=20
    )
    seed: int = setting(42, "Seed of weights, order and dropout.", unit="integer", ge=0, le=2**32 - 1)


class EvalConfig(DatasetConfig):
    """An evaluation of one or more models on the same held-out rows."""

    models: list[str] = setting(
        ["phi3-nano"],
        "Models to compare: phi3-nano, runs, checkpoints, builds, folders, or an endpoint (http://host/v1#model).",
        unit="names",
        group="simple",
        min_length=1,
        max_length=8,
    )
    split: Part = setting("test", "Part of the dataset to answer.", unit="name", group="simple")
    limit: int | None = setting(
        None,
        "Evaluate only the first rows of the part; empty takes all.",
        unit="rows",
        group="simple",
        ge=1,
        le=10_000_000,
    )
    max_new_tokens: int = setting(
        256, "Longest answer that a model may give.", unit="tokens", group="simple", ge=1, le=32_768
    )
    metric: Metric = setting(
        "auto", "What the verdict is about; auto chooses it from the shape of the reference answers.", unit="name"
    )
    pattern: str | None = setting(
        None,
        "Regular expression that a right answer holds; a group in it must match the same text as in the reference.",
        unit="regular expression",
    )
    json_schema: str | None = setting(None, "File with the JSON schema that a right answer satisfies.", unit="path")
    resamples: int = setting(
        10_000, "Bootstrap resamples behind every interval.", unit="resamples", ge=1_000, le=1_000_000
    )
    eval_seed: int = setting(0, "Seed of the bootstrap.", unit="integer", ge=0, le=2**32 - 1)
    key_variable: str = setting(
        "OPENAI_API_KEY", "Environment variable with the key of endpoints; a key is never stored.", unit="name"
    )
    judge: str | None = setting(
        None,
        "Endpoint that compares the answers of the first and the other models, as http://host/v1#model.",
        unit="address",
    )
    judge_rows: int = setting(100, "Rows that the judge compares, each in both orders.", unit="rows", ge=1, le=100_000)
    safety: str | None = setting(
        None,
        "CSV file of prompts to check refusals with, columns prompt and label (safe or unsafe), such as XSTest.",
        unit="path",
    )
    benchmarks: list[str] = setting(
        [], "Tasks of EleutherAI's lm-evaluation-harness to run, when it is installed.", unit="names"
    )
    benchmark_tasks: str | None = setting(None, "Folder with task files of your own for the harness.", unit="path")
    benchmark_limit: int | None = setting(
        None, "Only the first documents of each task.", unit="documents", ge=1, le=10_000_000
    )

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _names_from_text(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


class ExportConfig(Config):
    """A build of a model in another form."""

    model: str = setting("", "Model to build: a run, a checkpoint, or a Phi-3 folder.", unit="name", group="simple")
    format: Literal["merged", "onnx"] = setting(
        "onnx",
        "merged is one folder for transformers; onnx is a build for onnxruntime-genai.",
        unit="name",
        group="simple",
    )
    precision: Precision = setting("int4", "Number format of the ONNX weights.", unit="name", group="simple")
    parity_rows: int = setting(
        32, "Held-out conversations on which the build is compared with the merged model.", unit="rows", ge=1, le=10_000
    )


class SamplingConfig(Config):
    """How an answer is drawn in the playground and in the terminal chat."""

    system: str = setting("", "Instruction that the model sees before the chat.", unit="text", group="simple")
    temperature: float = setting(
        0.0,
        "0 always takes the likeliest token; higher values vary more.",
        unit="number",
        group="simple",
        ge=0.0,
        le=2.0,
    )
    top_p: float = setting(
        1.0,
        "Draw only from the likeliest tokens that make up this share.",
        unit="share",
        group="simple",
        gt=0.0,
        le=1.0,
    )
    max_new_tokens: int = setting(256, "Longest answer.", unit="tokens", group="simple", ge=1, le=32_768)
    seed: int = setting(
        0, "Seed of the draw, used above temperature 0.", unit="integer", group="simple", ge=0, le=2**31 - 1
    )


C = TypeVar("C", bound=Config)


def limits(field: FieldInfo) -> str:
    """A field's range in words: `above 0, at most 1`; empty where there is none."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = []
    for mark in field.metadata:
        for name, word in words.items():
            if (bound := getattr(mark, name, None)) is not None:
                found.append(f"{word} {f'{bound:,}'.removesuffix('.0')}")
    return ", ".join(found)


def flag(field: str) -> str:
    """The command-line flag of a field: `learning_rate` -> `--learning-rate`."""
    return "--" + field.replace("_", "-")


def parse(model: type[C], values: dict[str, Any]) -> C:
    """Build a config; raise one `ConfigError` that names every wrong setting with its range."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors(include_url=False):
            name = str(item["loc"][0]) if item["loc"] else ""
            if item["type"] == "extra_forbidden":
                known = ", ".join(model.model_fields)
                problems.append(f"{name!r} is not a setting; the settings are: {known}")
                continue
            given = "" if item["type"] == "missing" else f" {item['input']!r} is not accepted:"
            problems.append(f"{flag(name) if name else 'settings'}{given} {_lower(item['msg'])}")
        raise ConfigError(problems) from None


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings from a YAML file; `UserError` when it is missing or is not a table of settings."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"settings file {path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"settings file {path} cannot be read: {detail}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"settings file {path} must hold 'name: value' lines")
    return values


def to_yaml(config: Config) -> str:
    """All settings of a config, in their order of definition."""
    import yaml

    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
