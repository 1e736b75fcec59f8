"""A random Phi-3-mini on disk: 3.8 billion parameters in bf16, two shards: `python benchmarks/full_size.py FOLDER`.

The other full-size benchmarks take the folder. `--layers N` makes a shallower one of the same widths.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
TOKENIZER = ROOT / "tests" / "fixtures" / "phi3-mini-4k-tokenizer"
SHARD_BYTES = 4_980_000_000  # the official checkpoint's first shard is 4.97 GB
STD = 0.02

Shapes = dict[str, tuple[int, ...]]


def shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every weight of a Phi-3 checkpoint, in the official order."""
    width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"] + 2 * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", (vocabulary, width)
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        yield f"{name}.input_layernorm.weight", (width,)
        yield f"{name}.self_attn.qkv_proj.weight", (heads * width // config["num_attention_heads"], width)
        yield f"{name}.self_attn.o_proj.weight", (width, width)
        yield f"{name}.post_attention_layernorm.weight", (width,)
        yield f"{name}.mlp.gate_up_proj.weight", (2 * inner, width)
        yield f"{name}.mlp.down_proj.weight", (width, inner)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (vocabulary, width)


def size(shape: tuple[int, ...]) -> int:
    """Bytes of a bf16 tensor."""
    return 2 * torch.Size(shape).numel()


def write_shard(path: Path, parts: Shapes, generator: torch.Generator) -> None:
    """One safetensors file, tensor by tensor: the whole shard is never in memory."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in parts.items():
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size(shape)]}
        end += size(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in parts.values():
            weight = torch.ones(shape) if len(shape) == 1 else torch.empty(shape).normal_(0, STD, generator=generator)
            file.write(weight.to(torch.bfloat16).view(torch.uint8).numpy())


def make(folder: Path, layers: int) -> None:
    """Write the checkpoint with the real tokenizer's files."""
    folder.mkdir(parents=True)
    config = {**json.loads((TOKENIZER / "config.json").read_text()), "num_hidden_layers": layers}
    shards: list[Shapes] = [{}]
    for name, shape in shapes(config):
        if sum(map(size, shards[-1].values())) + size(shape) > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = shape
    generator = torch.Generator().manual_seed(0)
    places = {}
    for number, parts in enumerate(shards, start=1):
        path = folder / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_shard(path, parts, generator)
        places.update(dict.fromkeys(parts, path.name))
    index = {"metadata": {"total_size": sum(size(s) for parts in shards for s in parts.values())}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for path in TOKENIZER.iterdir():
        shutil.copyfile(path, folder / path.name)
    (folder / "config.json").write_text(json.dumps(config))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    given = parser.parse_args()
    make(given.folder, given.layers)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
