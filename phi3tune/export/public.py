"""The files of a model as others may have them: no path of this machine, nothing that was not meant to leave it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from phi3tune.engines.folders import LABELS, PARITY, PORTABLE, TOKENIZER_FILES, read_json
from phi3tune.errors import UserError
from phi3tune.export import card, page, provenance
from phi3tune.export.recipe import BUILD
from phi3tune.paths import MANIFEST, MANIFEST_SCHEMA, Workspace, file_hash

Files = dict[str, Path | bytes]
# Only what is named here leaves the machine.
_WEIGHTS = ("*.safetensors", "*.onnx", "*.onnx.data", "*.onnx_adapter")
_RECORDS = (
    "config.json", "generation_config.json", "genai_config.json", "adapter_config.json", "model.safetensors.index.json",
    BUILD, "base.json", "auto.json", PARITY, PORTABLE, LABELS,
)  # fmt: skip
_COPIED = (*TOKENIZER_FILES, page.FILE)
# Keys of records that say where something lay; a folder's name is not a model's.
_BASE_KEYS = ("base_model_name_or_path", "made_from", "base")
_DROPPED_KEYS = ("_name_or_path", "name_or_path")


def public_files(folder: Path, workspace: Workspace, *, repo: str | None = None) -> Files:
    """What would be published of the model in `folder`, by name: large files by path, others by content.

    The records are written without this machine's paths, the card anew, and the manifest with the hashes of just these
    files, so that who downloads them can check them. Raises `UserError` when a path would still be told.
    """
    base = provenance.of(folder, workspace).base
    files: Files = {path.name: path for pattern in _WEIGHTS for path in sorted(folder.glob(pattern)) if path.is_file()}
    for name in _RECORDS:
        if (folder / name).is_file():
            files[name] = _bytes(_without_paths(read_json(folder / name), base))
    files |= {name: (folder / name).read_bytes() for name in _COPIED if (folder / name).is_file()}
    files[card.FILE] = card.text(folder, workspace, repo=repo).encode()
    entries = {name: _entry(content) for name, content in sorted(files.items())}
    files[MANIFEST] = _bytes({"schema": MANIFEST_SCHEMA, "files": entries})
    _check(files, workspace)
    return files


def _without_paths(value: Any, base: str, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _without_paths(v, base, name) for name, v in value.items() if name not in _DROPPED_KEYS}
    if isinstance(value, list):
        return [_without_paths(each, base, key) for each in value]
    if isinstance(value, str) and provenance.is_path(value):
        return base if key in _BASE_KEYS else provenance.public_name(value)
    return value


def _entry(content: Path | bytes) -> dict[str, Any]:
    if isinstance(content, Path):
        return {"bytes": content.stat().st_size, "sha256": file_hash(content)}
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _check(files: Files, workspace: Workspace) -> None:
    """Records may hold anything that a folder's maker wrote: the workspace's own path is looked for in all of them."""
    secret = str(workspace.root).encode()
    for name, content in files.items():
        if isinstance(content, bytes) and secret in content:
            raise UserError(f"{name} tells the path {workspace.root}; remove it from the file, then try again")
