"""How models are compared."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from phi3tune.config.base import names_from_text, setting
from phi3tune.config.dataset import DatasetConfig, Part

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

    _benchmarks = field_validator("benchmarks", mode="before")(names_from_text)
