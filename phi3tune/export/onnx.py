"""The ONNX build that onnxruntime-genai runs: its own model builder, given an input it reads right."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime_genai

from phi3tune.config import Algorithm, BuildDevice, Precision
from phi3tune.engines.folders import read_json
from phi3tune.export.merge import weight_files, write_model_files

_NARROW = 1024
# The cache at full length, so that a chat can be rewound past the window; no credentials, no code of the model's.
COMMON_OPTIONS = {"windowed_kv_cache": "false", "hf_token": "false", "hf_remote": "false"}


def build(
    source: Path,
    out: Path,
    precision: Precision,
    scratch: Path,
    *,
    device: BuildDevice = "cpu",
    algorithm: Algorithm = "auto",
    block_size: int | None = None,
    mixed: bool = True,
    quantize_embeddings: bool = True,
) -> None:
    """Write the build of the checkpoint in `source` for `device` into the existing, empty folder `out`.

    The last four are for int4, see `quantisation`; a checkpoint that GPTQ quantised keeps its matrices as they are.
    Memory is bounded, see `streamed`. `scratch` is a folder on a disk of the caller's for small temporary files. The
    builder prints what it does; here that goes to standard error.
    """
    onnxruntime_genai.disable_telemetry_events()
    from phi3tune.export.streamed import create

    with builder_input(source, scratch) as folder, _quiet():
        width = read_json(folder / "config.json")["hidden_size"]
        options = quantisation(
            precision,
            width,
            device=device,
            algorithm=algorithm,
            block_size=block_size,
            mixed=mixed,
            quantize_embeddings=quantize_embeddings,
        )
        create(folder, out, precision, device, {**COMMON_OPTIONS, **options})
        # For our engine: the end tokens, and where the rotary factors change. The runtime has them in its own config.
        for file in ("config.json", "generation_config.json"):
            shutil.copyfile(folder / file, out / file)


def quantisation(
    precision: Precision,
    width: int,
    *,
    device: BuildDevice = "cpu",
    algorithm: Algorithm = "auto",
    block_size: int | None = None,
    mixed: bool = True,
    quantize_embeddings: bool = True,
) -> dict[str, str]:
    """The builder's options for a precision, and for the width of the model's hidden states.

    Measured on phi3-nano tuned to three degrees on lantern-support, against its limits:

        int4, as here                  mean KL 2.9e-3 to 3.6e-3, perplexity ratio up to 1.0095, 5.2 MB
        int4, blocks of 32             mean KL 4.2e-3 to 5.2e-3, perplexity ratio up to 1.0115, 4.5 MB
        int4, no matrix in int8        mean KL 6.2e-3 to 7.4e-3, perplexity ratio up to 1.0155, 4.3 MB
        int4, the builder's default    mean KL 6.0e-3, embeddings in fp32, 7.2 MB
        int8, as here                  mean KL 5.7e-5 to 6.7e-5, 9.0 MB

    auto and rtn are the builder's default, round to nearest with a symmetric scale. On phi3-nano as it ships, blocks of
    32, k_quant has half its mean KL (5.1e-4 and 9.5e-4) for 2 % more bytes and about seven times the processor time,
    which a model of billions of parameters pays with a quarter of an hour: it is for those who ask for it.
    """
    if precision in ("fp16", "fp32"):
        return {}
    if precision == "int8":
        return {"block_size": "64"}
    # A scale for every 16 weights costs 2 bits a weight, which only a narrow model needs.
    options = {"block_size": str(block_size or (16 if width < _NARROW else 32))}
    if algorithm == "k_quant":
        options["algo_config"] = "k_quant"
    if mixed:
        # The head and the matrices that llama.cpp, too, keeps finer.
        options["matmul_mixed_precision"] = "last_matmul:int8,mixed_layers:int8"
    if quantize_embeddings and device != "dml":  # no kernel for DirectML: they stay in fp16
        options["op_types_to_quantize"] = "MatMul/Gather"
    return options


@contextlib.contextmanager
def builder_input(source: Path, scratch: Path) -> Iterator[Path]:
    """A folder like `source` with links to its weights and a config.json that the builder reads right."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".builder.tmp-", dir=scratch) as name:
        folder = Path(name)
        config = read_json(source / "config.json")
        write_model_files(source, folder, **config_changes(config))
        for path in [*weight_files(source), *source.glob("*.safetensors.index.json")]:
            _link(path.resolve(), folder / path.name)
        yield folder


def config_changes(config: dict[str, Any]) -> dict[str, Any]:
    """What the builder needs in a Phi-3 config.json and does not find there.

    - Without `layer_types` it writes full attention but a cache of the window's size: a prompt past
      the window fails, and tokens just before it attend to too much.
    - It looks for longrope under the key `type`, which newer configs call `rope_type`.
    """
    changes: dict[str, Any] = {}
    if config.get("sliding_window"):
        changes["layer_types"] = ["sliding_attention"] * config["num_hidden_layers"]
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get(key)
        if isinstance(rope, dict) and "type" not in rope and rope.get("rope_type") == "longrope":
            changes[key] = {**rope, "type": "longrope"}
    return changes


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the system allows neither kind of link."""
    for make in (os.symlink, os.link):
        try:
            make(source, target)
        except OSError:
            continue
        return
    shutil.copyfile(source, target)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep standard output free for our own result, and the quantisers' lines per matrix out of the log."""
    logs = [logging.getLogger(name) for name in ("onnxruntime.quantization", "neural_compressor")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
