"""One folder of plain weights from a base model and its LoRA adapter, shard by shard.

The rule is peft's `merge_and_unload`: W + s * B @ A, with s = alpha / r (rsLoRA: alpha / sqrt(r)). DoRA gives every
row of that the length that it trained, its magnitude.
A classifier's head, which its adapter carries whole, takes the place of the language model's.
Only one shard is in memory at a time, so a model larger than memory can be merged.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from phi3tune.chat import Renderer
from phi3tune.engines.classifier import head_config
from phi3tune.engines.folders import TOKENIZER_FILES, labels_of, read_json, task_of
from phi3tune.errors import UserError
from phi3tune.paths import file_hash, manifest_problem, new_folder, write_json

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MERGE_RECORD = "merge.json"
MERGE_SCHEMA = 1
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_PREFIX = "base_model.model."
_MAGNITUDE = "magnitude_vector"
HEAD = "score.weight"
_HEAD_MODULES = {"classifier", "score"}  # what peft keeps whole of any classifier; of a Phi-3, only the latter exists
_OLD_HEADS = ("lm_head.weight", HEAD)

# Settings of a LoRA adapter that change nothing in how it is merged, or that are read below.
_UNDERSTOOD = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core",
    "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision",
    "runtime_config", "target_modules", "task_type", "use_dora", "use_rslora",
}  # fmt: skip
_NEUTRAL: tuple[Any, ...] = (None, False, "none", {}, [])
# Initialisations that leave the base weights as they were; the others (PiSSA, OLoRA, ...) change them.
_PLAIN_INIT = (True, False, "gaussian")


class _Lora:
    """The matrices of one adapter and what each makes of its weight."""

    def __init__(self, folder: Path) -> None:
        config = read_json(folder / ADAPTER_CONFIG)
        _check_kind(config)
        self._alpha: float = config["lora_alpha"]
        self._alphas: dict[str, float] = config.get("alpha_pattern") or {}
        self._sqrt = bool(config.get("use_rslora"))
        self._tensors = load_file(folder / ADAPTER_WEIGHTS)
        self.head = self._tensors.pop(_PREFIX + HEAD, None)
        self.targets: set[str] = set()
        for key in self._tensors:
            module, _, kind = key.removeprefix(_PREFIX).rpartition(".lora_")
            if kind not in ("A.weight", "B.weight", *([_MAGNITUDE] if config.get("use_dora") else [])):
                raise UserError(f"the adapter holds {key!r}, which is no LoRA matrix of a linear layer")
            self.targets.add(f"{module}.weight")

    def merged(self, target: str, weight: torch.Tensor) -> torch.Tensor:
        """The weight [out, in] with its adapter, in its own dtype. Raises `UserError` when their shapes differ."""
        module = _PREFIX + target.removesuffix(".weight")
        first = self._tensors[f"{module}.lora_A.weight"].float()
        second = self._tensors[f"{module}.lora_B.weight"].float()
        rank = first.shape[0]
        alpha = self._alphas.get(get_pattern_key(list(self._alphas), target.removesuffix(".weight")), self._alpha)
        delta = (second @ first) * (alpha / (math.sqrt(rank) if self._sqrt else rank))
        if delta.shape != weight.shape:
            raise UserError(
                f"the adapter was not made for this base: {target} has shape {list(weight.shape)} in the base and "
                f"{list(delta.shape)} in the adapter"
            )
        changed = weight.float() + delta
        magnitude = self._tensors.get(f"{module}.lora_{_MAGNITUDE}")
        if magnitude is not None:
            changed *= (magnitude.float() / torch.linalg.norm(changed, dim=1))[:, None]
        # One rounding, from float32: rounding the delta first would lose the small ones.
        return changed.to(weight.dtype)


def _check_kind(config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise UserError(f"adapter kind {config.get('peft_type')!r} cannot be merged; LORA can")
    odd = sorted(key for key, value in config.items() if key not in _UNDERSTOOD and value not in _NEUTRAL)
    if config.get("init_lora_weights", True) not in _PLAIN_INIT:
        odd.append("init_lora_weights")
    if set(config.get("modules_to_save") or ()) - _HEAD_MODULES:
        odd.append("modules_to_save")
    if odd:
        given = ", ".join(f"{key}={config[key]!r}" for key in odd)
        raise UserError(f"an adapter with {given} cannot be merged; LoRA, rsLoRA and DoRA can")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors shards of a checkpoint that `engines.folders.check_weights` accepted."""
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    return sorted(folder / name for name in set(read_json(folder / _INDEX)["weight_map"].values()))


def adapter_hash(adapter: Path) -> str:
    """One hash for the adapter's matrices and its settings."""
    return file_hash(adapter / ADAPTER_WEIGHTS) + file_hash(adapter / ADAPTER_CONFIG)


def is_current(merged: Path, adapter: Path) -> bool:
    """True when `merged` is whole and was made from this very adapter."""
    if not (merged / MERGE_RECORD).is_file() or manifest_problem(merged) is not None:
        return False
    return bool(read_json(merged / MERGE_RECORD).get("adapter") == adapter_hash(adapter))


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Write base + adapter to the new folder `out`, each tensor in the dtype in which the base stores it.

    Raises `UserError` when the adapter is of another kind, or was not made for this base.
    """
    lora = _Lora(adapter)
    shards = weight_files(base)
    stored: set[str] = set()
    for shard in shards:
        with safe_open(shard, framework="pt") as file:
            stored.update(file.keys())
    strangers = sorted(lora.targets - stored)
    if strangers:
        raise UserError(f"the adapter was not made for {base.name}: that has no weight {strangers[0]!r}")
    changes: dict[str, Any] = {}
    if task_of(adapter) == "classification":
        changes = head_config(read_json(base / "config.json"), labels_of(adapter))
    with new_folder(out) as folder:
        for shard in shards:
            _merge_shard(shard, lora, folder / shard.name, last=shard == shards[-1])
        if not (folder / _SINGLE).is_file():
            write_json(folder / _INDEX, _index(base, lora, shards[-1].name))
        write_model_files(base, folder, **changes)
        write_json(folder / MERGE_RECORD, {"schema": MERGE_SCHEMA, "adapter": adapter_hash(adapter)})


def _index(base: Path, lora: _Lora, last: str) -> dict[str, Any]:
    index = read_json(base / _INDEX)
    if lora.head is not None:
        kept = {key: name for key, name in index["weight_map"].items() if key not in _OLD_HEADS}
        index["weight_map"] = {**kept, HEAD: last}
    return index


def _merge_shard(shard: Path, lora: _Lora, out: Path, *, last: bool) -> None:
    """Write one shard; the last one has the classifier's head, where there is one."""
    tensors = {}
    with safe_open(shard, framework="pt") as file:
        metadata = file.metadata()
        for key in file.keys():  # noqa: SIM118 - not a dict
            if lora.head is not None and key in _OLD_HEADS:
                continue
            weight = file.get_tensor(key)
            if key in lora.targets:
                weight = lora.merged(key, weight)
            tensors[key] = weight
    if last and lora.head is not None:
        tensors[HEAD] = lora.head.contiguous()
    save_file(tensors, out, metadata=metadata)


def write_model_files(base: Path, folder: Path, **changes: Any) -> None:
    """Config, generation config and tokenizer of `base`, written to `folder` without code references.

    `changes` are added to config.json. Every end token of the model is in generation_config.json:
    a model that knows only <|endoftext|> would never stop at the end of its turn.
    """
    config = read_json(base / "config.json")
    for key in ("auto_map", "_name_or_path"):
        config.pop(key, None)
    write_json(folder / "config.json", {**config, **changes})
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    write_json(folder / "generation_config.json", _generation_config(base, config))


def _generation_config(base: Path, config: dict[str, Any]) -> dict[str, Any]:
    path = base / "generation_config.json"
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    generation = read_json(path) if path.is_file() else {name: config.get(name) for name in names}
    given = generation.get("eos_token_id")
    ends = given if isinstance(given, list) else [] if given is None else [given]
    return {**generation, "eos_token_id": [*ends, *sorted(Renderer.load(base).end_ids.difference(ends))]}
