"""What an ONNX build is made of: its settings, its name, and the record of them that it carries."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from phi3tune.config import Algorithm, BuildDevice, BuildFormat, ExportConfig, Precision

BUILD = "build.json"
BUILD_SCHEMA = 1
# Its setup.py looks for a GPU, and imports packages that it does not declare; with these it builds on any machine.
GPTQ_INSTALL = "BUILD_CUDA_EXT=0 pip install --no-build-isolation gptqmodel==7.5.0 requests"
# Bytes that a parameter takes in a build at most: scales come on top, and some weights stay finer.
_BUILD_BYTES: dict[Precision, float] = {"int4": 1.0, "int8": 1.6, "fp16": 2.1, "fp32": 4.1}


@dataclass(frozen=True)
class Recipe:
    """How one build is made; the last four are for 4-bit weights and None for others."""

    form: BuildFormat
    precision: Precision
    device: BuildDevice = "cpu"
    algorithm: Algorithm | None = None
    block_size: int | None = None
    mixed: bool | None = None
    quantize_embeddings: bool | None = None

    @classmethod
    def of(cls, config: ExportConfig) -> Recipe:
        """The build that a config asks for."""
        if config.precision != "int4" or config.format == "portable-onnx":
            return cls(config.format, config.precision, config.device)
        return cls(
            config.format,
            config.precision,
            config.device,
            config.algorithm,
            config.block_size,
            config.mixed,
            config.quantize_embeddings,
        )

    def of_width(self, width: int) -> Recipe:
        """The same with the block size that it gets for a model whose hidden states are so wide."""
        if self.algorithm is None:
            return self
        from phi3tune.export import onnx

        return replace(self, block_size=int(onnx.quantisation("int4", width, block_size=self.block_size)["block_size"]))

    @property
    def name(self) -> str:
        """`<precision>[-<algorithm>][-<device>][-portable|-adapter]`: what was left at its default is not named."""
        parts = [
            str(self.precision),
            self.algorithm if self.algorithm not in (None, "auto") else None,
            self.device if self.device != "cpu" else None,
            {"portable-onnx": "portable", "onnx-adapter": "adapter"}.get(self.form),
        ]
        return "-".join(part for part in parts if part)

    def options(self) -> dict[str, Any]:
        """Arguments of `onnx.build` besides the folders."""
        chosen = {key: value for key, value in asdict(self).items() if value is not None and key != "form"}
        # A calibrated checkpoint brings its 4-bit matrices; what it does not bring is rounded as usual.
        return {**chosen, "algorithm": "auto"} if self.algorithm == "gptq" else chosen

    def record(self, made_from: str) -> dict[str, Any]:
        """The content of build.json."""
        settings = {key: value for key, value in asdict(self).items() if key != "form"}
        return {"schema": BUILD_SCHEMA, "format": self.form, **settings, "made_from": made_from}

    def bytes_needed(self, parameters: int) -> int:
        """Room on disk for a build of a model with so many parameters."""
        return int(parameters * _BUILD_BYTES[self.precision])
