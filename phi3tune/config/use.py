"""How models are fetched, and how answers are drawn."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from phi3tune.config.base import Config, names_from_text, setting


class DownloadConfig(Config):
    """A model of the Hub, fetched into the Hub client's cache."""

    model: str = setting("", "Hub id of the model, as owner/name.", unit="name", group="simple")
    revision: str | None = setting(
        None, "Branch, tag or commit; empty takes the main branch.", unit="name", group="simple"
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
    top_k: int = setting(0, "Draw only from so many of the likeliest tokens; 0 for all.", unit="tokens", ge=0, le=1_000)
    repetition_penalty: float = setting(
        1.0,
        "Above 1, tokens that are in the chat already become less likely (arXiv 1909.05858).",
        unit="factor",
        ge=1.0,
        le=2.0,
    )
    max_new_tokens: int = setting(256, "Longest answer.", unit="tokens", group="simple", ge=1, le=32_768)
    seed: int = setting(
        0, "Seed of the draw, used above temperature 0.", unit="integer", group="simple", ge=0, le=2**31 - 1
    )
    stop: list[str] = setting([], "Texts at which the answer ends, the text itself left out.", unit="texts, by comma")

    @field_validator("stop", mode="before")
    @classmethod
    def _stops(cls, value: Any) -> Any:
        return [text for text in value.split(",") if text] if isinstance(value, str) else value


class PromptsConfig(SamplingConfig):
    """Many prompts from a file, answered by one or more models with nobody watching."""

    prompts: str = setting(
        "",
        "File of prompts: .txt with one on each line, .jsonl with prompt or messages, or .csv with a prompt column.",
        unit="path",
        group="simple",
    )
    models: list[str] = setting(
        ["phi3-nano"],
        "Models that answer: phi3-nano, runs, checkpoints, builds, folders, or an endpoint (http://host/v1#model).",
        unit="names",
        group="simple",
        min_length=1,
        max_length=8,
    )
    key_variable: str = setting(
        "OPENAI_API_KEY", "Environment variable with the key of endpoints; a key is never stored.", unit="name"
    )

    _models = field_validator("models", mode="before")(names_from_text)
