"""What a folder holds, told from its small files only: a Phi-3 checkpoint, an adapter or a build, and for which task.

Nothing of a folder is ever run: `auto_map` is not followed, and weights must be safetensors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from phi3tune.errors import UserError

FolderKind = Literal["weights", "adapter", "build", "portable", "build adapter"]
Task = Literal["chat", "classification"]
ARCHITECTURE = "Phi3ForCausalLM"
CLASSIFIER = "Phi3ForSequenceClassification"
PORTABLE = "export.json"  # what transformers' exporters leave beside model.onnx
LABELS = "labels.json"
ONNX_ADAPTER = "adapter.onnx_adapter"
ADAPTER_BASE = "base.json"  # of an .onnx_adapter: the build that it belongs to
PARITY = "parity.json"  # of a build: how it compares with the model that it was made from
_RELATIVES = {
    "phi": "Phi-1 and Phi-2 have another architecture",
    "phi3small": "Phi-3-small has another architecture and tokenizer",
    "phimoe": "Phi-3.5-MoE has another architecture",
    "phi3_v": "Phi-3-vision takes images",
    "phi4mm": "Phi-4-multimodal takes images and sound",
    "phi4_multimodal": "Phi-4-multimodal takes images and sound",
}
_ACCEPTED = "accepted are text models of the class Phi3ForCausalLM: Phi-3-mini, Phi-3-medium, Phi-3.5-mini, Phi-4-mini"

# What a checkpoint's tokenizer may consist of; it goes wherever the weights go.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; `UserError` when it cannot be read as one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object")
    return value


def folder_kind(folder: Path) -> FolderKind:
    """What kind of model `folder` holds, after checking that it is complete and of the Phi-3 class.

    Raises `UserError` with the reason when it is none that can be loaded.
    """
    if (folder / "genai_config.json").is_file():
        check_build(folder)
        return "build"
    if (folder / PORTABLE).is_file():
        check_portable(folder)
        return "portable"
    if (folder / ADAPTER_BASE).is_file():
        _need(folder, ONNX_ADAPTER, "build the folder again")
        return "build adapter"
    if (folder / "config.json").is_file():
        check_weights(folder)
        return "weights"
    if (folder / "adapter_config.json").is_file():
        check_adapter(folder)
        return "adapter"
    raise UserError(
        f"folder {folder} holds no model: it has neither config.json (a checkpoint), adapter_config.json (an adapter) "
        f"nor genai_config.json or {PORTABLE} (an ONNX build)"
    )


def task_of(folder: Path) -> Task:
    """What the weights, the adapter or the portable build in `folder` were trained for."""
    if (folder / "config.json").is_file():
        classifies = CLASSIFIER in (read_json(folder / "config.json").get("architectures") or [])
    else:
        classifies = read_json(folder / "adapter_config.json").get("task_type") == "SEQ_CLS"
    return "classification" if classifies else "chat"


def labels_of(folder: Path) -> tuple[str, ...]:
    """The labels of a classifier in the order of its outputs, from its config or beside its adapter.

    Raises `UserError` when they are not there: without them, its outputs mean nothing.
    """
    if (folder / "config.json").is_file():
        names = read_json(folder / "config.json").get("id2label")
        found = list(names.items()) if isinstance(names, dict) else []
        labels = [label for _, label in sorted(found, key=lambda item: int(item[0]) if item[0].isdigit() else -1)]
        numbered = sorted(key for key, _ in found) == sorted(map(str, range(len(found))))
    else:
        labels = read_json(folder / LABELS).get("labels", []) if (folder / LABELS).is_file() else []
        numbered = isinstance(labels, list)
    if not numbered or len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        raise UserError(f"{folder} does not name the labels of its classifier; train it again, or restore its files")
    return tuple(labels)


def fails_parity(folder: Path) -> bool:
    """Whether the build in `folder` was compared with its model and missed the limits."""
    return (folder / PARITY).is_file() and read_json(folder / PARITY).get("passed") is not True


def check_weights(folder: Path) -> None:
    """Raise `UserError` unless `folder` is a whole Phi-3 checkpoint in safetensors with its tokenizer."""
    check_config(folder)
    _check_shards(folder)
    _need(folder, "tokenizer.json", "copy it from the model that the checkpoint was made from")


def check_config(folder: Path) -> None:
    """Raise `UserError` unless the config.json in `folder` is that of a Phi-3 text model."""
    config = read_json(folder / "config.json")
    model_type = config.get("model_type")
    if model_type != "phi3":
        reason = _RELATIVES.get(str(model_type), "it is not a Phi-3 model")
        raise UserError(f"{folder} has model_type {str(model_type)[:60]!r}: {reason}; {_ACCEPTED}")
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not {ARCHITECTURE, CLASSIFIER} & set(map(str, architectures)):
        raise UserError(f"{folder} names the architectures {str(architectures)[:80]}; {_ACCEPTED}")
    if CLASSIFIER in architectures:
        labels_of(folder)
    rope = config.get("rope_scaling") or {}
    if isinstance(rope, dict) and "su" in (rope.get("type"), rope.get("rope_type")):
        raise UserError(
            f"{folder} has the withdrawn rope_scaling type 'su' of April 2024, which transformers no longer loads; "
            "download the model's newer revision"
        )


def check_adapter(folder: Path) -> None:
    """Raise `UserError` unless `folder` holds a LoRA adapter in safetensors."""
    kind = read_json(folder / "adapter_config.json").get("peft_type")
    if kind != "LORA":
        raise UserError(f"{folder} holds an adapter of type {str(kind)[:40]!r}; only LoRA adapters are accepted")
    _need(folder, "adapter_model.safetensors", "save the adapter again as safetensors")


def check_build(folder: Path) -> None:
    """Raise `UserError` unless `folder` is an onnxruntime-genai build of a decoder with its tokenizer."""
    path = folder / "genai_config.json"
    try:
        config = read_json(path)["model"]
        name = config["decoder"]["filename"]
        model_type = config["type"]
    except (KeyError, TypeError):
        raise UserError(f"{path} does not describe a text model; build the folder again") from None
    if not str(model_type).startswith("phi3") or model_type == "phi3v":
        raise UserError(f"{path} has model type {str(model_type)[:40]!r}; {_ACCEPTED}")
    if not _plain(name):
        raise UserError(f"{path} names the model file {str(name)[:80]!r}, which is not a plain file name")
    _need(folder, name, "build the folder again")
    _need(folder, "tokenizer.json", "build the folder again")


def check_portable(folder: Path) -> None:
    """Raise `UserError` unless `folder` is a portable ONNX build of a Phi-3 with its tokenizer."""
    form = read_json(folder / PORTABLE).get("export_format")
    if form != "onnx":
        raise UserError(f"{folder} holds an export of the format {str(form)[:40]!r}; only onnx is accepted")
    _need(folder, "config.json", "build the folder again")
    check_config(folder)
    for name in ("model.onnx", "model.onnx.data", "tokenizer.json"):
        _need(folder, name, "build the folder again")


def _check_shards(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return
    if not index.is_file():
        if any(folder.glob("*.bin")):
            raise UserError(
                f"{folder} holds its weights as .bin (pickle), which can run code; convert to safetensors: "
                "load it with transformers in a place that you trust and save it with save_pretrained"
            )
        raise UserError(f"{folder} holds no weights: model.safetensors or its shards with an index are needed")
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(_plain(name) for name in shards.values()):
        raise UserError(f"{index} must map each weight to a safetensors file beside it")
    missing = sorted({name for name in shards.values() if not (folder / name).is_file()})
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"{folder} lacks {', '.join(missing[:3])}{more} of its weights; download it again")


def _plain(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and not any(sign in name for sign in "/\\\0")


def _need(folder: Path, name: str, what_to_do: str) -> None:
    if not (folder / name).is_file():
        raise UserError(f"{folder} lacks {name}; {what_to_do}")
