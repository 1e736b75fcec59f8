"""Small stand-ins that the tests share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

TOKENIZER = Path(__file__).parent / "fixtures" / "phi3-mini-4k-tokenizer"


def tiny_phi3(folder: Path, *, tokenizer: Path = TOKENIZER, seed: int = 0, **changes: Any) -> Path:
    """A random Phi-3 with a real tokenizer: hidden 64, 2 layers, saved as safetensors in fp32."""
    import torch
    from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    official = json.loads((tokenizer / "config.json").read_text())
    generation = json.loads((tokenizer / "generation_config.json").read_text())
    settings = {
        "vocab_size": official["vocab_size"],
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "original_max_position_embeddings": 512,
        "bos_token_id": official["bos_token_id"],
        "eos_token_id": official["eos_token_id"],
        "pad_token_id": official["pad_token_id"],
        "sliding_window": None,
    }
    torch.manual_seed(seed)
    model = Phi3ForCausalLM(Phi3Config(**{**settings, **changes}))
    model.generation_config = GenerationConfig(
        bos_token_id=generation["bos_token_id"],
        eos_token_id=generation["eos_token_id"],
        pad_token_id=generation["pad_token_id"],
    )
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / name)
    return folder


class RecordingReporter:
    """Keeps what a job says; asks it to stop when `stop_when(event)` was true once."""

    def __init__(self, stop_when: Any = None) -> None:
        self.events: list[Any] = []
        self._stop_when = stop_when
        self._stop = False

    def emit(self, event: Any) -> None:
        self.events.append(event)
        if self._stop_when is not None and self._stop_when(event):
            self._stop = True

    def stop_requested(self) -> bool:
        return self._stop

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]
