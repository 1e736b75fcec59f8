"""How builds are made, and how answers are drawn."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from phi3tune.config.base import Config, setting

Precision = Literal["int4", "int8", "fp32"]


class ExportConfig(Config):
    """A build of a model in another form."""

    model: str = setting("", "Model to build: a run, a checkpoint, or a Phi-3 folder.", unit="name", group="simple")
    format: Literal["merged", "onnx", "portable-onnx"] = setting(
        "onnx",
        "merged is one folder for transformers, onnx a build for onnxruntime-genai, portable-onnx a plain graph that "
        "any ONNX runtime reads, which classifiers need.",
        unit="name",
        group="simple",
    )
    precision: Precision = setting(
        "int4",
        "Number format of the ONNX weights; portable-onnx has int8 and fp32, and takes fp32 when none is given.",
        unit="name",
        group="simple",
    )
    parity_rows: int = setting(
        32, "Held-out conversations on which the build is compared with the merged model.", unit="rows", ge=1, le=10_000
    )

    @model_validator(mode="before")
    @classmethod
    def _portable_precision(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("format") == "portable-onnx":
            return {"precision": "fp32", **values}
        return values

    def conflicts(self) -> list[str]:
        if self.format == "portable-onnx" and self.precision == "int4":
            return ["--precision int4 is for --format onnx; portable-onnx takes int8 or fp32"]
        return []


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
    max_new_tokens: int = setting(256, "Longest answer.", unit="tokens", group="simple", ge=1, le=32_768)
    seed: int = setting(
        0, "Seed of the draw, used above temperature 0.", unit="integer", group="simple", ge=0, le=2**31 - 1
    )
