"""How builds are made."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from phi3tune.config.base import Config, flag, setting

BuildFormat = Literal["merged", "onnx", "portable-onnx", "onnx-adapter"]
Precision = Literal["int4", "int8", "fp16", "fp32"]
BuildDevice = Literal["cpu", "cuda", "dml", "webgpu"]
Algorithm = Literal["auto", "rtn", "k_quant", "gptq"]
INT4_ONLY = ("algorithm", "block_size", "mixed", "quantize_embeddings")


class ExportConfig(Config):
    """A build of a model in another form."""

    model: str = setting("", "Model to build: a run, a checkpoint, or a Phi-3 folder.", unit="name", group="simple")
    format: BuildFormat = setting(
        "onnx",
        "merged is one folder for transformers, onnx a build for onnxruntime-genai, portable-onnx a plain graph that "
        "any ONNX runtime reads, which classifiers need, onnx-adapter a small file beside one build of the base that "
        "all its LoRA runs share.",
        unit="name",
        group="simple",
    )
    precision: Precision = setting(
        "int4",
        "Number format of the ONNX weights; portable-onnx has int8 and fp32, and takes fp32 when none is given.",
        unit="name",
        group="simple",
    )
    device: BuildDevice = setting(
        "cpu", "Where the build will run; dml is DirectML on Windows, webgpu a browser.", unit="name"
    )
    auto: bool = setting(
        False,
        "Make several int4 builds, measure each, and keep the one closest to the model within the limits below.",
        unit="switch",
        group="simple",
    )
    max_size: float | None = setting(
        None, "With auto: largest build that is kept; empty for no limit.", unit="MB", gt=0.0, le=1_000_000.0
    )
    min_speed: float | None = setting(
        None, "With auto: slowest decoding that is kept; empty for no limit.", unit="tokens per second", gt=0.0, le=1e6
    )
    algorithm: Algorithm = setting(
        "auto",
        "How weights become 4 bits: rtn rounds to nearest, k_quant searches the scale of each block, gptq calibrates "
        "on the rows of the training; auto takes what was closest on measured models without calibration.",
        unit="name",
        group="simple",
    )
    calibration_rows: int = setting(64, "Training conversations that gptq calibrates on.", unit="rows", ge=8, le=4096)
    block_size: Literal[16, 32, 64, 128, 256] | None = setting(
        None, "Weights that share one 4-bit scale; empty takes 16 for narrow models and 32 for others.", unit="weights"
    )
    mixed: bool = setting(
        True, "Keep the matrices that suffer most from 4 bits, and the head, in 8 bits.", unit="switch"
    )
    quantize_embeddings: bool = setting(
        True, "Store the embeddings in 4 bits, too; otherwise they stay in fp32, which is large.", unit="switch"
    )
    parity_rows: int = setting(
        32, "Held-out conversations on which the build is compared with the merged model.", unit="rows", ge=1, le=10_000
    )
    parity_tokens: int = setting(
        4096,
        "Longest prompt of the check at 25, 50, 75 and 100 % of the context; 0 leaves that check out.",
        unit="tokens",
        ge=0,
        le=131_072,
    )

    @field_validator("block_size", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @model_validator(mode="before")
    @classmethod
    def _portable_precision(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("format") == "portable-onnx":
            return {"precision": "fp32", **values}
        return values

    def conflicts(self) -> list[str]:
        found = []
        if self.format == "portable-onnx" and self.precision in ("int4", "fp16"):
            found.append(f"--precision {self.precision} is for --format onnx; portable-onnx takes int8 or fp32")
        if self.format not in ("onnx", "onnx-adapter") and self.device != "cpu":
            found.append(f"--device {self.device} is for --format onnx; {self.format} is the same for every device")
        changed = self.differing_int4()
        if changed and (self.precision != "int4" or self.format not in ("onnx", "onnx-adapter")):
            named = ", ".join(map(flag, changed))
            found.append(f"{named} shape 4-bit weights; use --format onnx --precision int4, or leave them out")
        if self.auto and (self.precision != "int4" or self.format != "onnx"):
            found.append("--auto chooses among int4 builds; use --format onnx --precision int4, or leave it out")
        if self.auto and changed:
            found.append(
                "--auto chooses these itself; leave out " + " ".join("--" + name.replace("_", "-") for name in changed)
            )
        if not self.auto and (self.max_size is not None or self.min_speed is not None):
            found.append("--max-size and --min-speed are limits of --auto; add --auto, or leave them out")
        if self.format == "onnx-adapter" and self.algorithm == "gptq":
            found.append("--algorithm gptq calibrates on one run, and an onnx-adapter shares its base: use rtn or auto")
        return found

    def differing_int4(self) -> list[str]:
        """Names of the settings of 4-bit weights that are not at their defaults."""
        fields = type(self).model_fields
        return [name for name in INT4_ONLY if getattr(self, name) != fields[name].default]
