"""Rows that were tokenised before, kept in the workspace: a further run on the same data does not tokenise it again.

An entry's name is the hash of all that its tokens follow from: the rows, the tokenizer's files, the task and its
labels, the longest length, and this program's version. An entry is complete, with a manifest of hashes, or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from phi3tune import __version__
from phi3tune.chat import Example, Renderer
from phi3tune.data import Conversation
from phi3tune.engines.folders import TOKENIZER_FILES
from phi3tune.events import Notice
from phi3tune.paths import MANIFEST, Workspace, file_hash, manifest_problem, new_folder, write_json
from phi3tune.training.settings import Rows
from phi3tune.training.tasks import Task

LIMIT_BYTES = 2 * 2**30
TOKENS, NOTICES = "tokens.safetensors", "notices.json"


def rows(
    task: Task,
    conversations: Sequence[Conversation],
    renderer: Renderer,
    max_length: int,
    max_unlearnable_share: float | None,
    *,
    base: Path,
    workspace: Workspace,
) -> tuple[Rows, list[Notice]]:
    """`task.rows`, from the cache where it has them. `base` is the folder that `renderer` was loaded from.

    Raises what `task.rows` raises; a cache that cannot be read or written only costs the time of tokenising.
    """
    settings = (__version__, type(task).__name__, task.labels, max_length, max_unlearnable_share)
    entry = workspace.root / "cache" / "tokens" / _key(conversations, base, settings)
    found = _read(entry, conversations)
    if found is None:
        found = task.rows(conversations, renderer, max_length, max_unlearnable_share)
        with suppress(OSError):  # a full disk, or another run that wrote the same entry
            _write(entry, conversations, *found)
            _shrink(entry.parent)
    return found


def _key(conversations: Sequence[Conversation], base: Path, settings: tuple[object, ...]) -> str:
    tokenizer = {name: file_hash(base / name) for name in TOKENIZER_FILES if (base / name).is_file()}
    digest = hashlib.sha256(json.dumps([settings, tokenizer]).encode())
    for row in conversations:
        # ASCII, so that half a surrogate pair can be hashed too. Files and numbers are named in the notices.
        digest.update(json.dumps([row.file, row.row, row.messages]).encode())
    return digest.hexdigest()


def _read(entry: Path, conversations: Sequence[Conversation]) -> tuple[Rows, list[Notice]] | None:
    if manifest_problem(entry) is not None:
        return None
    from safetensors.numpy import load_file

    arrays = load_file(entry / TOKENS)
    ids, labels = arrays["input_ids"].tolist(), arrays["labels"].tolist()
    examples, start = [], 0
    for length, truncated in zip(arrays["lengths"].tolist(), arrays["truncated"].tolist(), strict=True):
        examples.append(Example(ids[start : start + length], labels[start : start + length], truncated))
        start += length
    kept = [conversations[place] for place in arrays["kept"].tolist()]
    notices = [Notice.model_validate(notice) for notice in json.loads((entry / NOTICES).read_text(encoding="utf-8"))]
    with suppress(OSError):  # on a disk that cannot be written to
        os.utime(entry)  # the entry unused for longest goes first
    return Rows(kept, examples), notices


def _write(entry: Path, conversations: Sequence[Conversation], found: Rows, notices: Sequence[Notice]) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    place = {id(row): number for number, row in enumerate(conversations)}
    arrays = {
        "input_ids": np.array([token for e in found.examples for token in e.input_ids], dtype=np.int32),
        "labels": np.array([label for e in found.examples for label in e.labels], dtype=np.int32),
        "lengths": np.array([len(e.input_ids) for e in found.examples], dtype=np.int32),
        "truncated": np.array([e.truncated for e in found.examples], dtype=np.bool_),
        "kept": np.array([place[id(row)] for row in found.conversations], dtype=np.int32),
    }
    with new_folder(entry) as folder:
        save_file(arrays, folder / TOKENS)
        write_json(folder / NOTICES, [notice.model_dump(mode="json", exclude={"time"}) for notice in notices])


def _shrink(cache: Path) -> None:
    """Remove the entries unused for longest until `LIMIT_BYTES` hold the rest; leftovers of killed writers age too."""
    entries = sorted((path.stat().st_mtime, path) for path in cache.iterdir() if path.is_dir())
    size = {path: sum(file.stat().st_size for file in path.iterdir()) for _, path in entries}
    total = sum(size.values())
    for _, path in entries[:-1]:
        if total <= LIMIT_BYTES:
            return
        (path / MANIFEST).unlink(missing_ok=True)  # from here on nobody reads it
        shutil.rmtree(path, ignore_errors=True)
        total -= size[path]
