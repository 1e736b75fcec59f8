"""Calibrated 4-bit weights: optimum's GPTQ on rows of the training, as a checkpoint that the model builder reads.

GPTQ rounds a matrix column by column and lets the columns that are left make up for the error on real inputs
(Frantar et al. 2022, arXiv 2210.17323). Of those inputs only their second moments are used, and nothing of the rows is
written anywhere.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import Phi3ForCausalLM

from phi3tune.chat import Renderer
from phi3tune.data import Conversation
from phi3tune.engines.folders import read_json
from phi3tune.engines.torch_model import choose_device, inference_dtype, load_weights, parameters
from phi3tune.errors import UserError
from phi3tune.events import Phase, Progress, Reporter
from phi3tune.export.merge import weight_files, write_model_files
from phi3tune.export.recipe import GPTQ_INSTALL

_MAX_TOKENS = 2048  # of a calibration row: longer ones add hours and little to learn from
_FINER = ("self_attn.qkv_proj", "mlp.down_proj")
_SEQUENTIAL = [["self_attn.qkv_proj"], ["self_attn.o_proj"], ["mlp.gate_up_proj"], ["mlp.down_proj"]]


def installed() -> bool:
    """Whether the packages are there."""
    return find_spec("gptqmodel") is not None and find_spec("optimum") is not None


def check_installed() -> None:
    """Raise `UserError`, with the line that installs it, unless the optional package is there."""
    if not installed():
        raise UserError(f"--algorithm gptq needs the optional package gptqmodel; install it with: {GPTQ_INSTALL}")


def fits(shape: dict[str, Any], block_size: int | None) -> bool:
    """Whether whole blocks make up every row of a model with this config.json, as the checkpoint's format needs."""
    return block_size is not None and not any(shape[key] % block_size for key in ("hidden_size", "intermediate_size"))


def check_blocks(shape: dict[str, Any], block_size: int | None) -> None:
    """Raise `UserError` unless `fits`."""
    if not fits(shape, block_size):
        raise UserError(
            f"--algorithm gptq needs blocks that divide the model's widths {shape['hidden_size']} and "
            f"{shape['intermediate_size']}, and {block_size} does not; use --block-size 16 or 32"
        )


@contextlib.contextmanager
def quantised(
    weights: Path,
    chats: Sequence[Conversation],
    scratch: Path,
    reporter: Reporter,
    *,
    block_size: int,
    mixed: bool = True,
) -> Iterator[Path]:
    """A temporary checkpoint like `weights` whose matrices are 4 bits, calibrated on `chats`; gone afterwards.

    `block_size` weights share a scale. `mixed` keeps in 8 bits the matrices that the model builder keeps
    so. Embeddings, head and norms are as they were.
    """
    check_installed()
    reporter.emit(Phase(name="calibrating"))
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gptq.tmp-", dir=scratch) as name:
        folder = Path(name)
        with contextlib.redirect_stdout(sys.stderr):  # its banner and bars; ours is for results
            _write(weights, folder, _examples(weights, chats), block_size, mixed, reporter)
        yield folder


def _examples(weights: Path, chats: Sequence[Conversation]) -> list[dict[str, list[list[int]]]]:
    """The rows as they were trained on, tokenised here: optimum's way would split their special tokens."""
    length = min(_MAX_TOKENS, int(read_json(weights / "config.json")["max_position_embeddings"]))
    rows = Renderer.load(weights).training_examples([chat.messages for chat in chats], length)
    return [{"input_ids": [row.input_ids], "attention_mask": [[1] * len(row.input_ids)]} for row in rows]


def _write(weights: Path, folder: Path, examples: list[Any], block_size: int, mixed: bool, reporter: Reporter) -> None:
    from optimum.gptq import GPTQQuantizer  # type: ignore[import-untyped]

    device = choose_device()
    dtype = inference_dtype(device, 4 * parameters(weights))
    model = load_weights(weights, dtype, Phi3ForCausalLM).to(device).eval()
    quantizer = GPTQQuantizer(
        bits=4,
        dataset=examples,
        group_size=block_size,
        sym=True,
        modules_in_block_to_quantize=_SEQUENTIAL,
        block_name_to_quantize="model.layers",
    )
    hooks = _follow(model, reporter)
    model = quantizer.quantize_model(model)
    for hook in hooks:
        hook.remove()
    # Both hold the rows, and would write them into config.json and a file beside it.
    quantizer.dataset = None
    settings = {"quant_method": "gptq", "format": "gptq", "bits": 4, "group_size": block_size}
    settings |= {"sym": True, "desc_act": False}
    model.config.quantization_config = settings
    quantizer.save(model.to("cpu"), str(folder))
    for path in folder.glob("*.json"):
        if not path.name.endswith(".safetensors.index.json"):
            path.unlink()
    if mixed:
        finer = _finer_modules(model.config.num_hidden_layers)
        settings["dynamic"] = {rf"model\.layers\.{name}\.": {"bits": 8} for name in finer}
        _keep_finer(weights, folder, {f"model.layers.{name}" for name in finer}, block_size)
    write_model_files(weights, folder, quantization_config=settings)


def _finer_modules(layers: int) -> list[str]:
    """Which matrices of which layers `mixed_layers` of the model builder keeps in 8 bits: llama.cpp's choice
    (`make_matmul_mixed_precision` in its builders/base.py)."""
    eighth = layers / 8
    chosen = [i for i in range(layers) if i < eighth or i >= 7 * eighth or (i - round(eighth)) % 3 == 2]
    return [f"{layer}.{module}" for layer in chosen for module in _FINER]


def _keep_finer(weights: Path, folder: Path, modules: set[str], block_size: int) -> None:
    """Put the original matrices, in 8 bits, in place of the 4 bits of some modules."""
    found: dict[str, torch.Tensor] = {}
    for shard in weight_files(weights):
        with safe_open(shard, framework="pt") as file:
            for module in modules & {key.removesuffix(".weight") for key in file.keys()}:  # noqa: SIM118 - not a dict
                packed = _eight_bits(file.get_tensor(f"{module}.weight"), block_size)
                found |= {f"{module}.{name}": tensor for name, tensor in packed.items()}
    for shard in weight_files(folder):
        tensors = load_file(shard)
        save_file({key: found.get(key, tensor) for key, tensor in tensors.items()}, shard, metadata={"format": "pt"})


def _eight_bits(weight: torch.Tensor, block_size: int) -> dict[str, torch.Tensor]:
    """A matrix [out, in] rounded to nearest, packed as GPTQ checkpoints are: four numbers of a column to an int32.

    The zero point is 128, of which that format holds one less.
    """
    outputs, inputs = weight.shape
    blocks = weight.float().view(outputs, -1, block_size)
    scales = (blocks.abs().amax(dim=2) / 127).clamp(min=1e-7).half()
    numbers = (blocks / scales.float()[:, :, None]).round_().clamp_(-128, 127).add_(128).to(torch.uint8)
    fours = numbers.view(outputs, inputs // 4, 4).transpose(0, 1).contiguous()
    zeros = torch.full((inputs // block_size, outputs // 4), 0x7F7F7F7F, dtype=torch.int32)
    return {
        "qweight": fours.view(torch.int32).squeeze(2).contiguous(),
        "qzeros": zeros,
        "scales": scales.T.contiguous(),
    }


def _follow(model: Any, reporter: Reporter) -> list[Any]:
    """Hooks that tell the layer at hand, and that end the work when the user stops the job."""
    from phi3tune.export.make import check_stop

    layers = model.model.layers
    told = -1

    def hook(number: int) -> Any:
        def begin(_module: torch.nn.Module, _args: Any) -> None:
            nonlocal told
            check_stop(reporter)
            if number > told:
                told = number
                reporter.emit(Progress(done=number, total=len(layers), unit="layers"))

        return begin

    return [layer.register_forward_pre_hook(hook(number)) for number, layer in enumerate(layers)]
