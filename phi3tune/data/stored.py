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

from phi3tune import hosted
from phi3tune.data.files import SUFFIXES, suffix_of
from phi3tune.errors import UserError
from phi3tune.paths import BUNDLED_DATASETS, Workspace, file_hash, inside, new_folder, slug, write_json
from phi3tune.system import disk_free

MAX_UPLOAD_BYTES = 512 * 1024**2
INFO = "info.json"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset that can be named by its id. `name` is for people: an upload's original file name.

    `parent` is what a version was made from, an id or a path, and `root` the first one of its line.
    """

    id: str
    name: str
    kind: Literal["bundled", "stored"]
    path: Path
    version: int = 1
    parent: str | None = None
    root: str = ""

    @property
    def title(self) -> str:
        """`name`, with the version where it is not the first."""
        return self.name if self.version == 1 else f"{self.name} (version {self.version})"


def list_datasets(workspace: Workspace) -> list[DatasetInfo]:
    """Bundled datasets by name, then stored ones, oldest first."""
    bundled = sorted(p.name for p in BUNDLED_DATASETS.glob("*") if any(p.glob("train.*")))
    stored = sorted(workspace.datasets.glob(f"[!.]*/{INFO}"), key=lambda p: (p.stat().st_mtime_ns, p.parent.name))
    found = [find_dataset(name, workspace) for name in (*(p.parent.name for p in stored), *bundled)]
    return sorted((info for info in found if info is not None), key=lambda info: info.kind)


def find_dataset(dataset_id: str, workspace: Workspace) -> DatasetInfo | None:
    """The stored or, after that, the bundled dataset of this id."""
    if not _ID.fullmatch(dataset_id):
        return None
    folder = workspace.datasets / dataset_id
    if (folder / INFO).is_file():
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        return DatasetInfo(
            dataset_id,
            info["original_name"],
            "stored",
            folder / info["file"],
            info.get("version", 1),
            info.get("parent"),
            info.get("root", dataset_id),
        )
    folder = BUNDLED_DATASETS / dataset_id
    return DatasetInfo(dataset_id, dataset_id, "bundled", folder, root=dataset_id) if folder.is_dir() else None


def written_here(path: Path, workspace: Workspace) -> bool:
    """Whether this program wrote the file itself: a bundled dataset, or a version of a dataset, from our own rows."""
    if inside(path, BUNDLED_DATASETS):
        return True
    info = path.parent / INFO
    return inside(info, workspace.datasets) and info.is_file() and "parent" in json.loads(info.read_text("utf-8"))


def check_room(size: int, name: str, workspace: Workspace) -> None:
    """Raise `UserError` when the disk has no room for `size` bytes twice, or a visitor's share none for them."""
    hosted.check_storage(workspace, size)
    if (free := disk_free(workspace.root)) < size * 2:
        raise UserError(f"storing {name[:80]!r} needs {size * 2:,} bytes of disk, {free:,} are free: make room first")


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
    rules = hosted.rules(workspace)
    most = MAX_UPLOAD_BYTES if rules is None else min(MAX_UPLOAD_BYTES, int(rules.max_upload * hosted.MB))
    if size > most:
        raise UserError(f"{name[:80]!r} has {size:,} bytes; at most {most:,} are accepted: split the file")
    check_room(size, name, workspace)
    dataset_id = f"{slug(name.removesuffix(suffix))}-{uuid.uuid4().hex[:8]}"
    with new_folder(workspace.datasets / dataset_id) as folder:
        file = folder / f"data{suffix}"
        shutil.copyfile(path, file)
        info = {"schema": 1, "original_name": name, "file": file.name, "bytes": size, "sha256": file_hash(file)}
        write_json(folder / INFO, {**info, "created": time.time()})
    return dataset_id
