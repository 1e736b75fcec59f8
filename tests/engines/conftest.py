"""A tiny random Phi-3 in fp32, and random adapters that change what it says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from phi3tune.engines.torch_engine import TorchEngine

PROMPT = [32010, 6324, 727, 32007, 32001]


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
def fp32_build(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stock builder's fp32 build of the tiny model."""
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    folder = tmp_path_factory.mktemp("builds")
    source, out, cache = str(tiny_model), folder / "fp32", str(folder / "cache")
    options = parse_extra_options(None, source, str(out), "fp32", "cpu", cache, [])
    create_model(None, source, str(out), "fp32", "cpu", cache, **options)
    shutil.copy(tiny_model / "generation_config.json", out)
    return out
