"""Corrected answers become rows to train on: a new version of a dataset, which the Train tab offers next."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from phi3tune import data, hosted, jobs, system
from phi3tune.chat import Message, clean
from phi3tune.config import DatasetConfig
from phi3tune.data.stored import INFO, find_dataset
from phi3tune.data.versions import CHANGES
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, file_hash, new_folder, write_json, write_text

NAME = "corrected-answers"
MAX_CHARACTERS = 200_000
_LOCK_SECONDS = 30.0
_ROWS = "feedback_rows"  # in a version's record: how many of its rows were saved here


def save_row(messages: Sequence[Message], workspace: Workspace, dataset: str | None = None) -> data.DatasetInfo:
    """Add one chat, which ends with the answer that was wanted, to a dataset; `None` for one of such rows alone.

    The dataset itself stays as it is. The first row makes a new version of it; further rows join that version for as
    long as no job has used it, and then make the next one. So many corrections in a row are one version, and what a
    run was trained on never changes. Raises `UserError` for a chat that cannot be trained on, when the dataset does not
    exist or cannot be read, and for a visitor whose files are over their limit.
    """
    row = _checked(messages)
    hosted.check_storage(workspace)
    with _alone(workspace):
        newest = _newest(dataset, workspace)
        if newest is None:
            return _known(_first(row, workspace), workspace)
        count = _saved(newest, workspace)
        if count and not _used(newest, workspace):
            return _known(_joined(newest, row, count, workspace), workspace)
        version = data.new_version(DatasetConfig(dataset=newest), workspace, add=[row], more={_ROWS: 1})
        return _known(version.id, workspace)


def _checked(messages: Sequence[Message]) -> list[Message]:
    row: list[Message] = [{"role": m["role"], "content": clean(m["content"])} for m in messages]
    row = [message for message in row if message["content"] or message["role"] != "system"]
    roles = [message["role"] for message in row]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
        raise UserError("a row to train on is questions and answers in turn, which ends with an answer")
    if empty := next((place for place, message in enumerate(row, 1) if not message["content"]), 0):
        raise UserError(f"message {empty} of the row has no text; write what it should say")
    if (length := sum(len(message["content"]) for message in row)) > MAX_CHARACTERS:
        raise UserError(f"the row has {length:,} characters; at most {MAX_CHARACTERS:,} are accepted")
    return row


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """No other process or thread saves a row meanwhile."""
    workspace.datasets.mkdir(parents=True, exist_ok=True)
    lock = system.FolderLock(workspace.datasets / ".feedback.lock")
    if not lock.acquire(timeout=_LOCK_SECONDS):
        raise UserError("another row is being saved; try again")
    try:
        yield
    finally:
        lock.release()


def _newest(dataset: str | None, workspace: Workspace) -> str | None:
    """The dataset, or the last of the versions that saving rows has made of it; None where one is to be begun."""
    known = data.list_datasets(workspace)
    saved = [info for info in known if _saved(info.id, workspace)]
    if dataset is None:
        name = next((info.id for info in reversed(saved) if info.name == NAME and info.parent is None), None)
    else:
        name = data.canonical_name(dataset, workspace)
    while name is not None and (later := [info.id for info in saved if info.parent == name]):
        name = later[-1]
    return name


def _record(dataset_id: str, workspace: Workspace) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((workspace.datasets / dataset_id / INFO).read_text(encoding="utf-8"))
    return record


def _saved(dataset: str, workspace: Workspace) -> int:
    """How many rows of a dataset were saved here since the version before it; 0 for a dataset that is a path."""
    info = find_dataset(dataset, workspace)
    return int(_record(dataset, workspace).get(_ROWS, 0)) if info is not None and info.kind == "stored" else 0


def _used(dataset_id: str, workspace: Workspace) -> bool:
    """Whether a job names the dataset; ids are made so that nothing else contains one."""
    return any(dataset_id in (folder / jobs.JOB).read_text(encoding="utf-8") for folder in jobs.folders(workspace))


def _first(row: list[Message], workspace: Workspace) -> str:
    """Begin the dataset of corrected answers."""
    dataset_id = f"{NAME}-{uuid.uuid4().hex[:8]}"
    with new_folder(workspace.datasets / dataset_id) as folder:
        file = folder / "data.jsonl"
        write_text(file, _line({"messages": row}))
        record = {"schema": 1, "original_name": NAME, "file": file.name, "bytes": file.stat().st_size}
        record |= {"sha256": file_hash(file), "created": time.time(), "parent": None, _ROWS: 1}
        write_json(folder / INFO, record)
    return dataset_id


def _joined(dataset_id: str, row: list[Message], count: int, workspace: Workspace) -> str:
    """The same version with one row more: written beside it, then put in its place."""
    final, record = workspace.datasets / dataset_id, _record(dataset_id, workspace)
    with new_folder(final) as folder:
        shutil.copytree(final, folder, dirs_exist_ok=True)
        rows = folder / record["file"]  # one file, or a folder with one for each part
        file = rows / "train.jsonl" if rows.is_dir() else rows
        with file.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(_line({"messages": row}))
        if (folder / CHANGES).is_file():
            with (folder / CHANGES).open("a", encoding="utf-8", newline="\n") as stream:
                stream.write(
                    _line({"code": "added", "file": file.name, "row": None, "line": None, "what": "row added"})
                )
        record |= {_ROWS: count + 1, "sha256": data.fingerprint(str(rows), workspace)}
        record["bytes"] = sum(path.stat().st_size for path in folder.glob("*.jsonl") if path.name != CHANGES)
        write_json(folder / INFO, record)
    return dataset_id


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _known(dataset_id: str, workspace: Workspace) -> data.DatasetInfo:
    info = find_dataset(dataset_id, workspace)
    assert info is not None  # it was just written
    return info
