"""A tiny random Phi-3 in fp32, and random adapters that change what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from phi3tune.engines.torch_engine import TorchEngine
from tests.fakes import tiny_phi3


def random_adapter(folder: Path, base: Path, seed: int) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import Phi3ForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], init_lora_weights=False
    )
    model = get_peft_model(Phi3ForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.mul_(10)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {name: random_adapter(folder / name, tiny_model, seed) for seed, name in enumerate(("run.one", "run.two"))}


@pytest.fixture(scope="session")
def torch_engine(tiny_model: Path, adapters: dict[str, Path]) -> TorchEngine:
    return TorchEngine(tiny_model, adapters, dtype=torch.float32, threads=1)


@pytest.fixture(scope="session")
def build_fp32() -> Callable[[Path, Path], Path]:
    """Makes the fp32 build of a checkpoint, in a folder `fp32` of the folder named second."""

    def build(source: Path, folder: Path) -> Path:
        from phi3tune.export import onnx

        out = folder / "fp32"
        out.mkdir(parents=True)
        onnx.build(source, out, "fp32", folder)
        return out

    return build


@pytest.fixture(scope="session")
def fp32_build(
    tiny_model: Path, build_fp32: Callable[[Path, Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return build_fp32(tiny_model, tmp_path_factory.mktemp("builds"))


@pytest.fixture(scope="session")
def longrope_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Uses its long rotary factors from 32 tokens on."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
        "original_max_position_embeddings": 32,
        "short_factor": [1.0] * 8,
        "long_factor": [1.0 + n for n in range(8)],
    }
    folder = tmp_path_factory.mktemp("longrope") / "model"
    return tiny_phi3(folder, original_max_position_embeddings=32, rope_parameters=rope)
