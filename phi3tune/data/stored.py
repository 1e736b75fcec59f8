"""Datasets that have a name: uploads in the workspace, and the bundled ones."""

from __future__ import annotations

import json
import re
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phi3tune.data.files import SUFFIXES, suffix_of
from phi3tune.errors import UserError
from phi3tune.paths import BUNDLED_DATASETS, Workspace, file_hash, new_folder, slug, write_json
from phi3tune.system import disk_free

MAX_UPLOAD_BYTES = 512 * 1024**2
_INFO = "info.json"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset that can be named by its id. `name` is for people: an upload's original file name."""

    id: str
    name: str
    kind: Literal["bundled", "stored"]
    path: Path


def list_datasets(workspace: Workspace) -> list[DatasetInfo]:
    """Bundled datasets by name, then stored ones, oldest first."""
    bundled = sorted(p.name for p in BUNDLED_DATASETS.glob("*") if any(p.glob("train.*")))
    stored = sorted(workspace.datasets.glob(f"[!.]*/{_INFO}"), key=lambda p: (p.stat().st_mtime_ns, p.parent.name))
    found = [find_dataset(name, workspace) for name in (*(p.parent.name for p in stored), *bundled)]
    return sorted((info for info in found if info is not None), key=lambda info: info.kind)


def find_dataset(dataset_id: str, workspace: Workspace) -> DatasetInfo | None:
    """The stored or, after that, the bundled dataset of this id."""
    if not _ID.fullmatch(dataset_id):
        return None
    folder = workspace.datasets / dataset_id
    if (folder / _INFO).is_file():
        info = json.loads((folder / _INFO).read_text(encoding="utf-8"))
        return DatasetInfo(dataset_id, info["original_name"], "stored", folder / info["file"])
    folder = BUNDLED_DATASETS / dataset_id
    return DatasetInfo(dataset_id, dataset_id, "bundled", folder) if folder.is_dir() else None


def store_upload(path: Path, original_name: str, workspace: Workspace) -> str:
    """Copy an uploaded file into the workspace under an id made here, and return the id.

    Of the original name only the type is used; it is kept for display. Raises `UserError` for a type
    that cannot be read, a file beyond the size limit, or a full disk.
    """
    name = original_name.replace("\\", "/").rsplit("/", 1)[-1][-200:]
    suffix = suffix_of(name)
    if suffix is None:
        raise UserError(f"{name[:80]!r} cannot be read as a dataset; the types are {', '.join(SUFFIXES)}")
    size = path.stat().st_size
    if size > MAX_UPLOAD_BYTES:
        raise UserError(f"{name[:80]!r} has {size:,} bytes; at most {MAX_UPLOAD_BYTES:,} are accepted: split the file")
    if (free := disk_free(workspace.root)) < size * 2:
        raise UserError(f"storing {name[:80]!r} needs {size * 2:,} bytes of disk, {free:,} are free: make room first")
    dataset_id = f"{slug(name.removesuffix(suffix))}-{uuid.uuid4().hex[:8]}"
    with new_folder(workspace.datasets / dataset_id) as folder:
        file = folder / f"data{suffix}"
        shutil.copyfile(path, file)
        info = {"schema": 1, "original_name": name, "file": file.name, "bytes": size, "sha256": file_hash(file)}
        write_json(folder / _INFO, {**info, "created": time.time()})
    return dataset_id
