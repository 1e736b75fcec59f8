"""How builds are made, and how answers are drawn."""

from __future__ import annotations

from typing import Literal

from phi3tune.config.base import Config, setting

Precision = Literal["int4", "int8", "fp32"]


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
