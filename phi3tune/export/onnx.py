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

from phi3tune.config import Precision
from phi3tune.engines.folders import read_json
from phi3tune.export.merge import weight_files, write_model_files

# Measured on phi3-nano. int4: embeddings too (Gather), for half the size at 1.4 times the divergence, a tenth of
# what is allowed; only the default algorithm quantises them. Longer blocks would save another tenth there, but
# large models are more sensitive to them. int8: the longest block is still a fiftieth of what is allowed.
BUILDER_OPTIONS: dict[Precision, dict[str, str]] = {
    "int4": {"block_size": "32", "op_types_to_quantize": "MatMul/Gather"},
    "int8": {"block_size": "128"},
    "fp32": {},
}
# Reads the keys at full length, so that a chat can be rewound past the window; no credentials, no remote code.
COMMON_OPTIONS = {"windowed_kv_cache": "false", "hf_token": "false", "hf_remote": "false"}


def build(source: Path, out: Path, precision: Precision, scratch: Path) -> None:
    """Write the CPU build of the checkpoint in `source` into the existing, empty folder `out`.

    `scratch` is a folder on a disk of the caller's for small temporary files. The builder prints
    what it does; here that goes to standard error.
    """
    onnxruntime_genai.disable_telemetry_events()
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    with builder_input(source, scratch) as folder, _quiet():
        cache = str(folder / "cache")
        options = [f"{key}={value}" for key, value in {**COMMON_OPTIONS, **BUILDER_OPTIONS[precision]}.items()]
        parsed = parse_extra_options(None, str(folder), str(out), precision, "cpu", cache, options)
        create_model(None, str(folder), str(out), precision, "cpu", cache, **parsed)
        # For our engine: the end tokens, and where the rotary factors change. The runtime has them in its own config.
        for file in ("config.json", "generation_config.json"):
            shutil.copyfile(folder / file, out / file)


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
    """Keep standard output free for our own result, and the quantiser's line per node out of the log."""
    log = logging.getLogger("onnxruntime.quantization")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        log.setLevel(level)
