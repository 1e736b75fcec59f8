"""New versions of a dataset: repaired, without the rows that somebody does not want, and with rows of their own."""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3tune.chat import Message
from phi3tune.config import DatasetConfig
from phi3tune.data.conversation import Conversation
from phi3tune.data.division import FilePart
from phi3tune.data.problems import Change, DataError
from phi3tune.data.source import Source, canonical_name, content_hash
from phi3tune.data.stored import INFO, check_room, find_dataset, list_datasets
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, new_folder, slug, write_json, write_text

CHANGES = "changes.jsonl"


@dataclass(frozen=True)
class Version:
    """A stored dataset made from another; `rows` counts what is in each of its files."""

    id: str
    path: Path
    parent: str
    changes: list[Change]
    rows: dict[FilePart, int]


def new_version(
    config: DatasetConfig,
    workspace: Workspace,
    *,
    repair: bool = False,
    drop: Mapping[str, Collection[tuple[str, int]]] | None = None,
    add: Sequence[Sequence[Message]] = (),
    more: Mapping[str, Any] | None = None,
) -> Version:
    """Write a dataset's rows, repaired with `repair` and without those of `drop`, as a new stored dataset.

    `drop` names rows as (file, row) under the code of the finding that speaks against them, `add` are chats that
    follow the rows to train on, and `more` is kept in the version's record. The rows are in the
    messages format, or one `text` for plain text; every change is listed in `changes.jsonl`. The version is
    complete or absent, and the dataset it comes from stays as it is.
    Raises `UserError` when nothing would change or be left, `DataError` for errors that are not mended.
    """
    source = Source(config, workspace)
    check_room(sum(path.stat().st_size for path in source.files.values()), source.name, workspace)
    parent = canonical_name(config.dataset, workspace)
    info = find_dataset(parent, workspace)
    name, root = (info.name, info.root) if info is not None else (source.path.name, parent)
    numbers = [each.version for each in list_datasets(workspace) if each.root == root]
    version_id = f"{slug(name.split('.')[0])}-{uuid.uuid4().hex[:8]}"
    with new_folder(workspace.datasets / version_id) as folder:
        files, rows, changes = _write(folder, source, repair, drop or {}, add)
        if source.log.error_count:
            raise DataError(source.log.errors, source.log.error_count, config.dataset)
        if not changes:
            raise UserError(f"nothing in {source.name!r} would change; there is no need for a new version")
        if not rows[next(iter(rows))]:
            raise UserError(f"no row of {source.name!r} would be left to train on; drop fewer, or mend the file itself")
        lines = (json.dumps(dataclasses.asdict(change), ensure_ascii=False) for change in changes)
        write_text(folder / CHANGES, "".join(f"{line}\n" for line in lines))
        record: dict[str, Any] = {
            "schema": 1,
            "original_name": name,
            "file": files["all"].name if "all" in files else ".",
            "bytes": sum(path.stat().st_size for path in files.values()),
            "sha256": content_hash(files, {part: path.name for part, path in files.items()}),
            "created": time.time(),
            "parent": parent,
            "root": root,
            "version": 1 + max(numbers, default=1),
            "source_sha256": source.sha256,
            **(more or {}),
        }
        write_json(folder / INFO, record)
    path = workspace.datasets / version_id / record["file"]
    return Version(version_id, path, parent, changes, rows)


def _write(
    folder: Path,
    source: Source,
    repair: bool,
    drop: Mapping[str, Collection[tuple[str, int]]],
    add: Sequence[Sequence[Message]],
) -> tuple[dict[FilePart, Path], dict[FilePart, int], list[Change]]:
    """The files written and the rows in each, with all changes in the order of the rows."""
    unwanted = {place: code for code, places in drop.items() for place in places}
    alone = set(source.files) == {"all"}
    # A file that is divided beside a validation or test file of its own is what a folder calls the train file.
    parts: dict[FilePart, FilePart] = {part: part if alone or part != "all" else "train" for part in source.files}
    files = {part: folder / ("data.jsonl" if alone else f"{part}.jsonl") for part in parts.values()}
    rows = dict.fromkeys(files, 0)
    dropped: list[Change] = []
    with ExitStack() as stack:
        streams = {
            part: stack.enter_context(path.open("w", encoding="utf-8", newline="\n")) for part, path in files.items()
        }
        for part, conversation in source.read(repair=repair):
            place = (conversation.file, conversation.row)
            if (code := unwanted.get(place)) is not None:
                dropped.append(Change(code, *place, conversation.line, "row left out"))
                continue
            streams[parts[part]].write(json.dumps(_as_row(conversation), ensure_ascii=False) + "\n")
            rows[parts[part]] += 1
        first = next(iter(files))  # what is trained on comes first
        added = [
            Change("added", files[first].name, rows[first] + place, None, "row added") for place in range(len(add))
        ]
        streams[first].writelines(json.dumps({"messages": list(chat)}, ensure_ascii=False) + "\n" for chat in add)
        rows[first] += len(add)
    order = {name: number for number, name in enumerate(source.names.values())}
    changes = source.changes + dropped
    changes.sort(key=lambda change: (order.get(change.file, 0), -1 if change.row is None else change.row))
    return files, rows, changes + added


def _as_row(conversation: Conversation) -> dict[str, Any]:
    row: dict[str, Any] = {"messages": conversation.messages}
    if conversation.messages[0]["role"] == "text":
        row = {"text": conversation.reference}
    return row | ({"conversation_id": conversation.group} if conversation.group is not None else {})
