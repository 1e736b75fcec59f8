"""Adapters and finished runs without training."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from phi3tune import data
from phi3tune.config import TARGET_MODULES, TrainConfig, to_yaml
from phi3tune.paths import Workspace, new_folder, write_json


def lora_adapter(
    base: Path, folder: Path, *, modules: Iterable[str] = TARGET_MODULES, seed: int = 1, **settings: Any
) -> Path:
    """A LoRA adapter with random matrices (a fresh one has B = 0 and would change nothing)."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Phi3ForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **settings}, target_modules=list(modules))
    model = get_peft_model(Phi3ForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return folder


def finished_run(workspace: Workspace, name: str, base: Path, dataset: Path, **lora: Any) -> Path:
    """The folder of a run of `base` on `dataset` as training leaves it, with a random adapter of `lora` settings."""
    config = TrainConfig(model=str(base), dataset=str(dataset))
    run = workspace.runs / name
    run.mkdir(parents=True)
    (run / "run.yaml").write_text(to_yaml(config))
    write_json(run / "dataset.json", data.load(config, workspace).record())
    with new_folder(run / "adapter") as folder:
        lora_adapter(base, folder, **lora)
    return run


def chats(path: Path, count: int, *, first: int = 0) -> Path:
    """A dataset file of short chats, all different."""
    rows = [
        [
            {"role": "user", "content": f"What comes after {number}?"},
            {"role": "assistant", "content": f"After {number} comes {number + 1}."},
        ]
        for number in range(first, first + count)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path
