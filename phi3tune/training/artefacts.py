"""What a run leaves behind: the record of its base, the adapter, or the whole weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from phi3tune.chat import Renderer
from phi3tune.config import TrainConfig
from phi3tune.engines.classifier import head_config
from phi3tune.engines.folders import TOKENIZER_FILES
from phi3tune.engines.models import MODEL_RECORD, ModelRef
from phi3tune.errors import UserError
from phi3tune.paths import file_hash, new_folder, write_json
from phi3tune.training.methods import Adapter


def record_base(run_dir: Path, start: ModelRef, config: TrainConfig) -> None:
    """Write what the run starts from into `model.json`; on a resume, check that it is still the same.

    `base` names the whole weights, also when the run trains on an adapter. Raises `UserError` when config, weights or
    adapter changed since the run began: what is trained fits only its own base.
    """
    found = {path.name: _file(path) for path in _model_files(start.base)}
    if start.adapter is not None:
        found |= {f"adapter/{path.name}": _file(path) for path in sorted(start.adapter.glob("adapter_*"))}
    record = run_dir / MODEL_RECORD
    if not record.exists():
        write_json(
            record,
            {
                "schema": 1,
                "model": start.ref,
                "base": start.origin or start.ref,
                "base_bits": config.base_bits,
                "files": found,
            },
        )
        return
    begun_with = _read(record)["files"]
    changed = sorted(name for name in {*found, *begun_with} if found.get(name) != begun_with.get(name))
    if changed:
        raise UserError(
            f"model {start.ref} is not the one that this run began with: {', '.join(changed)} in {start.base} changed; "
            "put the old files back, or start a new run"
        )


def _model_files(base: Path) -> list[Path]:
    return [base / "config.json", *sorted(base.glob("*.safetensors"))]


def _file(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_hash(path)}


def save_adapter(adapter: Adapter, run_dir: Path, whole: dict[str, torch.Tensor] | None = None) -> None:
    """`adapter/`: complete or absent. `whole` as for `Adapter.save`."""
    with new_folder(run_dir / "adapter") as folder:
        adapter.save(folder, whole)


def save_merged(
    model: PreTrainedModel,
    run_dir: Path,
    base: Path,
    renderer: Renderer,
    labels: tuple[str, ...] | None,
    whole: dict[str, torch.Tensor] | None = None,
) -> None:
    """`merged/`: whole weights in the number format of `base`, with its tokenizer. Converts `model` in place.

    `whole` holds its tensors where its own are divided over processes.
    """
    config = _read(base / "config.json")
    config.pop("auto_map", None)  # names code of the base's repository, which is not part of these weights
    if labels is not None:
        config |= head_config(config, labels)
    generation = _read(base / "generation_config.json") if (base / "generation_config.json").is_file() else {}
    stored = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")
    with new_folder(run_dir / "merged") as folder:
        if whole is None:
            model.to(stored).save_pretrained(folder)
        else:
            model.save_pretrained(folder, state_dict={name: tensor.to(stored) for name, tensor in whole.items()})
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
