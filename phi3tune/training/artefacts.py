"""What a run leaves behind: the record of its base, the adapter, or the whole weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from phi3tune.chat import Renderer
from phi3tune.engines.folders import TOKENIZER_FILES
from phi3tune.errors import UserError
from phi3tune.paths import file_hash, new_folder, write_json

MODEL_RECORD = "model.json"


def record_base(run_dir: Path, ref: str, base: Path) -> None:
    """Write what the run starts from into `model.json`; on a resume, check that it is still the same.

    Raises `UserError` when config or weights changed since the run began: an adapter fits only its own base.
    """
    files = [base / "config.json", *sorted(base.glob("*.safetensors"))]
    found = {path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in files}
    record = run_dir / MODEL_RECORD
    if not record.exists():
        write_json(record, {"schema": 1, "model": ref, "files": found})
        return
    begun_with = _read(record)["files"]
    changed = sorted(name for name in {*found, *begun_with} if found.get(name) != begun_with.get(name))
    if changed:
        raise UserError(
            f"model {ref} is not the one that this run began with: {', '.join(changed)} in {base} changed; "
            "put the old files back, or start a new run"
        )


def save_model(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Weights and config in `folder`; of an adapter, only the adapter."""
    if isinstance(model, PeftModel):
        # "auto" would look the base up on the Hub, to see whether its vocabulary was changed.
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # a form that nobody filled in
    else:
        model.save_pretrained(folder)


def save_adapter(model: PeftModel, run_dir: Path) -> None:
    """`adapter/`: complete or absent."""
    with new_folder(run_dir / "adapter") as folder:
        save_model(model, folder)


def save_merged(model: PreTrainedModel, run_dir: Path, base: Path, renderer: Renderer) -> None:
    """`merged/`: whole weights in the number format of `base`, with its tokenizer. Converts `model` in place."""
    config = _read(base / "config.json")
    config.pop("auto_map", None)  # names code of the base's repository, which is not part of these weights
    generation = _read(base / "generation_config.json") if (base / "generation_config.json").is_file() else {}
    stored = config.get("dtype") or config.get("torch_dtype") or "float32"
    with new_folder(run_dir / "merged") as folder:
        save_model(model.to(getattr(torch, stored)), folder)
        copy_tokenizer(base, folder)
        write_json(folder / "config.json", config)
        write_json(folder / "generation_config.json", {**generation, "eos_token_id": sorted(renderer.end_ids)})


def copy_tokenizer(base: Path, folder: Path) -> None:
    """The tokenizer's files as they are: written anew by transformers, its chat template could differ."""
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
