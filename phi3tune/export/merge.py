"""One folder of plain weights from a base model and its LoRA adapter, shard by shard and tensor by tensor.

The rule is peft's `merge_and_unload`: W + s * B @ A, with s = alpha / r (rsLoRA: alpha / sqrt(r)). DoRA gives every
row of that the length that it trained, its magnitude. Modules that an adapter carries whole (`modules_to_save`) take
the place of the base's; a classifier's head takes the place of the language model's.
A few megabytes of a shard are in memory at a time, so a model larger than memory can be merged.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open

from phi3tune.chat import Renderer
from phi3tune.engines.classifier import head_config
from phi3tune.engines.folders import TOKENIZER_FILES, labels_of, read_json, task_of
from phi3tune.errors import UserError
from phi3tune.export.shards import FLOATS, HashedFile, Stored, bytes_of, copy, read_header, rows, write_header
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
_LM_HEAD = "lm_head.weight"
_EMBEDDINGS = "model.embed_tokens.weight"

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

Tick = Callable[[int, int], None]
Finish = Callable[[Path], None]


class Lora:
    """The matrices of one adapter: `targets` are the weights that it changes, `whole` those that it replaces.

    Its tensors are float32 and are read when they are asked for. Raises `UserError` for an adapter of another kind.
    """

    def __init__(self, folder: Path) -> None:
        config = read_json(folder / ADAPTER_CONFIG)
        _check_kind(config)
        self._alpha: float = config["lora_alpha"]
        self._alphas: dict[str, float] = config.get("alpha_pattern") or {}
        self._sqrt = bool(config.get("use_rslora"))
        try:
            opened: Any = safe_open(folder / ADAPTER_WEIGHTS, framework="pt")
        except SafetensorError as error:
            raise UserError(f"the adapter in {folder} cannot be read: {error}; download or make it again") from None
        self._file = opened
        self._keys: set[str] = set(opened.keys())
        self.targets: set[str] = set()
        self.whole: dict[str, str] = {}
        for key in self._keys:
            module, lora, kind = key.removeprefix(_PREFIX).rpartition(".lora_")
            if lora and kind in ("A.weight", "B.weight", *([_MAGNITUDE] if config.get("use_dora") else [])):
                self.targets.add(f"{module}.weight")
            elif not lora and config.get("modules_to_save"):
                self.whole[key.removeprefix(_PREFIX)] = key
            else:
                raise UserError(f"the adapter holds {key!r}, which is no LoRA matrix of a linear layer")

    def replacement(self, target: str) -> torch.Tensor:
        """The tensor that takes the place of the base's."""
        return _finite(self._file.get_tensor(self.whole[target]), target)

    def matrices(self, target: str) -> tuple[torch.Tensor, torch.Tensor, float]:
        """A [r, in], B [out, r] and what their product is scaled by."""
        module = _PREFIX + target.removesuffix(".weight")
        first, second = (_finite(self._file.get_tensor(f"{module}.lora_{part}.weight"), target) for part in "AB")
        rank = first.shape[0]
        alpha = self._alphas.get(get_pattern_key(list(self._alphas), target.removesuffix(".weight")), self._alpha)
        return first, second, alpha / (math.sqrt(rank) if self._sqrt else rank)

    def magnitude(self, target: str) -> torch.Tensor | None:
        """DoRA's length of every row [out], or None."""
        key = f"{_PREFIX}{target.removesuffix('.weight')}.lora_{_MAGNITUDE}"
        return _finite(self._file.get_tensor(key), target) if key in self._keys else None


def _finite(tensor: torch.Tensor, target: str) -> torch.Tensor:
    if not bool(torch.isfinite(tensor).all()):
        raise UserError(f"the adapter's numbers for {target} are not all finite; its training diverged: train it again")
    return tensor.float()


def _check_kind(config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise UserError(f"adapter kind {config.get('peft_type')!r} cannot be merged; LORA can")
    odd = sorted(key for key, value in config.items() if key not in _UNDERSTOOD and value not in _NEUTRAL)
    if config.get("init_lora_weights", True) not in _PLAIN_INIT:
        odd.append("init_lora_weights")
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


def merge(base: Path, adapter: Path, out: Path, tick: Tick | None = None, finish: Finish | None = None) -> None:
    """Write base + adapter to the new folder `out`, each tensor in the dtype in which the base stores it.

    `tick(done, total)` is told the bytes written; what it raises ends the merge, and nothing is left. `finish(folder)`
    may add files before the folder gets its name.
    Raises `UserError` when the adapter is of another kind, or was not made for this base.
    """
    plan = _Plan(base, adapter)
    done, hashes = 0, dict[str, str]()
    with new_folder(out, hashes) as folder, _one_thread():
        for shard in plan.shards:
            with shard.open("rb") as source, HashedFile(folder / shard.name) as target:
                for length in plan.write(shard, source, target):
                    done += length
                    if tick is not None:
                        tick(done, plan.total)
            hashes[shard.name] = target.sha256
        if not (folder / _SINGLE).is_file():
            write_json(folder / _INDEX, {**read_json(base / _INDEX), "weight_map": plan.weight_map})
        write_model_files(base, folder, **plan.config_changes)
        write_json(folder / MERGE_RECORD, {"schema": MERGE_SCHEMA, "adapter": adapter_hash(adapter)})
        if finish is not None:
            finish(folder)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Pieces that fit a core's cache are not worth dividing, and the other core hashes and writes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Plan:
    """What of the base goes where: per shard, the tensors of the new file, and which of the base each is made from."""

    def __init__(self, base: Path, adapter: Path) -> None:
        self._lora = Lora(adapter)
        self.shards = weight_files(base)
        self.config_changes: dict[str, Any] = {}
        read = {shard: read_header(shard) for shard in self.shards}
        self._metadata = {shard: metadata for shard, (_, metadata) in read.items()}
        self._tensors = {shard: [(tensor, tensor) for tensor in tensors] for shard, (tensors, _) in read.items()}
        config = read_json(base / "config.json")
        if task_of(adapter) == "classification":
            self.config_changes = head_config(config, labels_of(adapter))
            self._change_head()
        elif config.get("tie_word_embeddings") and {_LM_HEAD, _EMBEDDINGS} & {*self._lora.targets, *self._lora.whole}:
            self.config_changes = {"tie_word_embeddings": False}
            self._untie()
        self._check(base)
        self.weight_map = {tensor.name: shard.name for shard, pairs in self._tensors.items() for tensor, _ in pairs}
        self.total = sum(tensor.length for pairs in self._tensors.values() for tensor, _ in pairs)

    def _change_head(self) -> None:
        """The classifier's head, in float32, in place of any other; first in its shard, where it is aligned."""
        head = self._lora.replacement(HEAD)
        new = Stored(HEAD, "F32", tuple(head.shape), 0, head.nbytes)
        for shard, pairs in self._tensors.items():
            self._tensors[shard] = [pair for pair in pairs if pair[0].name not in (_LM_HEAD, HEAD)]
        self._tensors[self.shards[-1]].insert(0, (new, new))

    def _untie(self) -> None:
        """Embeddings and head of a tied model part when only one of them changes, as they do in peft."""
        for pairs in self._tensors.values():
            for _, tensor in pairs[:]:
                if tensor.name == _EMBEDDINGS:
                    head = Stored(_LM_HEAD, tensor.dtype, tensor.shape, tensor.start, tensor.length)
                    pairs.append((head, tensor))

    def _check(self, base: Path) -> None:
        stored = {tensor.name: tensor for pairs in self._tensors.values() for tensor, _ in pairs}
        strangers = sorted({*self._lora.targets, *self._lora.whole} - stored.keys())
        if strangers:
            raise UserError(f"the adapter was not made for {base.name}: that has no weight {strangers[0]!r}")
        for name in sorted(self._lora.targets):
            first, second, _ = self._lora.matrices(name)
            self._fits(stored[name], (second.shape[0], first.shape[1]))
        for name in sorted(self._lora.whole):
            self._fits(stored[name], tuple(self._lora.replacement(name).shape))

    def _fits(self, tensor: Stored, shape: tuple[int, ...]) -> None:
        if tensor.shape != shape:
            raise UserError(
                f"the adapter was not made for this base: {tensor.name} has shape {list(tensor.shape)} in the base and "
                f"{list(shape)} in the adapter"
            )
        if tensor.dtype not in FLOATS:
            raise UserError(
                f"the base stores {tensor.name} as {tensor.dtype}, to which nothing can be added; "
                f"take a base in {', '.join(FLOATS)}"
            )

    def write(self, shard: Path, source: BinaryIO, target: HashedFile) -> Iterator[int]:
        """Write one file; yields the bytes written after each tensor."""
        pairs = self._tensors[shard]
        write_header(target, [tensor for tensor, _ in pairs], self._metadata[shard])
        for tensor, origin in pairs:
            if tensor.name in self._lora.whole:
                whole = self._lora.replacement(tensor.name)
                target.write(bytes_of(whole.to(FLOATS[tensor.dtype])))
            elif tensor.name in self._lora.targets:
                self._write_merged(tensor, origin, source, target)
            else:
                copy(source, origin, target)
            yield tensor.length

    def _write_merged(self, tensor: Stored, origin: Stored, source: BinaryIO, target: HashedFile) -> None:
        first, second, scale = self._lora.matrices(tensor.name)
        magnitude = self._lora.magnitude(tensor.name)
        memory = torch.empty(0)
        for start, weight in rows(source, origin):
            part = slice(start, start + len(weight))
            # One rounding, from float32: rounding the delta first would lose the small ones.
            changed = torch.mm(second[part], first, out=memory.resize_(weight.shape)).mul_(scale).add_(weight)
            if magnitude is not None:
                changed *= (magnitude[part] / torch.linalg.norm(changed, dim=1))[:, None]
            target.write(bytes_of(weight.copy_(changed)))


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
