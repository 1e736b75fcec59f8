"""From a dataset's name to conversations in parts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from phi3tune.chat import Message
from phi3tune.config import DatasetConfig, Part
from phi3tune.data import formats, split
from phi3tune.data.files import SUFFIXES, read_rows, suffix_of
from phi3tune.data.problems import DataError, Problem, ProblemLog, RowError
from phi3tune.data.stored import find_dataset, list_datasets
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, file_hash

SCHEMA = 1
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class Conversation:
    """A checked conversation; `row` counts from 0 in `file`, `line` from 1 where the file has lines."""

    messages: tuple[Message, ...]
    row: int
    file: str
    line: int | None = None

    @property
    def prompt_messages(self) -> tuple[Message, ...]:
        return self.messages[:-1]

    @property
    def reference(self) -> str:
        return self.messages[-1]["content"]


@dataclass
class Dataset:
    """Conversations in parts, with what is needed to get the same parts again."""

    source: str
    name: str
    sha256: str
    format: str
    mapping: dict[str, str]
    parts: dict[Part, list[Conversation]]
    config: DatasetConfig
    log: ProblemLog = field(default_factory=ProblemLog)
    duplicates: list[list[Conversation]] = field(default_factory=list)

    @property
    def problems(self) -> list[Problem]:
        """Errors, then warnings; at most 100 of each."""
        return self.log.problems

    @property
    def conversations(self) -> list[Conversation]:
        return [conversation for part in PARTS for conversation in self.parts[part]]

    def record(self) -> dict[str, Any]:
        """What a run keeps of its dataset: where it came from, its hash, and which row is in which part."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "name": self.name,
            "sha256": self.sha256,
            "format": self.format,
            "mapping": self.mapping,
            "config": {name: getattr(self.config, name) for name in DatasetConfig.model_fields},
            "split": {part: [[c.file, c.row] for c in rows] for part, rows in self.parts.items()},
        }


def load(config: DatasetConfig, workspace: Workspace, *, saved: dict[str, Any] | None = None) -> Dataset:
    """Read, check and divide a dataset.

    `saved` is the `record()` of an earlier load: on the same data its division is taken over exactly.
    Raises `DataError` when anything in it is an error, `UserError` when there is no such dataset.
    """
    dataset = read(config, workspace, saved=saved)
    if dataset.log.error_count:
        raise DataError(dataset.log.errors, dataset.log.error_count, config.dataset)
    return dataset


def read(config: DatasetConfig, workspace: Workspace, *, saved: dict[str, Any] | None = None) -> Dataset:
    """`load` without raising for what is in the files: the conversations that can be used, and all problems."""
    name, path = resolve(config.dataset, workspace)
    files = _files(path)
    log = ProblemLog()
    found: dict[str, list[Conversation]] = {}
    format = ""
    mapping: dict[str, str] = {}
    for part, file in files.items():
        found[part], read_as = _read_file(file, config, log)
        if read_as and not format:
            format, mapping = read_as
    sha256 = _hash(files)
    keys = {id(c): split.key(c.messages) for rows in found.values() for c in rows}
    dataset = Dataset(str(path), name, sha256, format, mapping, {part: [] for part in PARTS}, config, log)
    dataset.duplicates = _duplicates(found, keys, log)
    if saved is not None and saved.get("schema") == SCHEMA and saved.get("sha256") == sha256:
        rows = {(c.file, c.row): c for part in found.values() for c in part}
        for part in PARTS:
            places = (tuple(place) for place in saved["split"].get(part, []))
            dataset.parts[part] = [rows[place] for place in places if place in rows]
        return dataset
    _divide(dataset, found, keys)
    dataset.parts["train"] = dataset.parts["train"][: config.max_rows]
    return dataset


def fingerprint(given: str, workspace: Workspace) -> str:
    """The sha256 that `load` gives a dataset, without reading its rows. Raises `UserError` as `resolve`."""
    return _hash(_files(resolve(given, workspace)[1]))


def canonical_name(given: str, workspace: Workspace) -> str:
    """A name that means the same dataset from any folder: its id where it has one, else its absolute path."""
    path = resolve(given, workspace)[1]
    ids = (info.id for info in list_datasets(workspace) if info.path.resolve() == path.resolve())
    return next(ids, str(path))


def resolve(given: str, workspace: Workspace) -> tuple[str, Path]:
    """Name and path of a dataset: an existing path, then a stored dataset's id, then a bundled name."""
    if not given:
        raise UserError(f"no dataset is given; choose {_accepted(workspace)}")
    path = Path(given).expanduser()
    try:
        exists = path.exists()
    except (OSError, ValueError):  # a name that no file system takes
        exists = False
    if exists:
        suffix = suffix_of(path.name) or path.suffix if path.is_file() else ""
        return path.name[: len(path.name) - len(suffix)] or path.resolve().name, path.absolute()
    if info := find_dataset(given, workspace):
        return info.id, info.path
    hint = "; Hub ids are not read: download the file and give its path" if given.count("/") == 1 else ""
    raise UserError(f"dataset {given[:200]!r} does not exist; choose {_accepted(workspace)}{hint}")


def _accepted(workspace: Workspace) -> str:
    known = ", ".join(info.id for info in list_datasets(workspace)) or "none"
    return f"an existing file or folder, or one of the stored and bundled datasets ({known})"


def _files(path: Path) -> dict[str, Path]:
    """The files of a dataset: `all` for one file to divide, part names for a folder."""
    if path.is_file():
        return {"all": path}
    files: dict[str, Path] = {}
    for file in sorted(p for p in path.iterdir() if p.is_file()):
        suffix = suffix_of(file.name)
        part = file.name[: -len(suffix)] if suffix else ""
        if part not in PARTS:
            continue
        if part in files:
            raise UserError(f"{path} has both {files[part].name} and {file.name}; keep one file for each part")
        files[part] = file
    if "train" not in files:
        kinds = ", ".join(s for s in SUFFIXES if not s.endswith(".gz"))
        raise UserError(
            f"the folder {path} has no train file; it must hold train.*, and may hold validation.* and test.* ({kinds})"
        )
    return {part: files[part] for part in PARTS if part in files}


def _hash(files: dict[str, Path]) -> str:
    if "all" in files:
        return file_hash(files["all"])
    lines = "".join(f"{file.name} {file_hash(file)}\n" for file in files.values())
    return hashlib.sha256(lines.encode()).hexdigest()


def _read_file(
    path: Path, config: DatasetConfig, log: ProblemLog
) -> tuple[list[Conversation], tuple[str, dict[str, str]] | None]:
    rows = list(read_rows(path, log))
    columns = list(dict.fromkeys(column for row in rows for column in row.value))
    read_as = formats.detect(columns, config.format, config.columns)
    if read_as is None:
        if rows:
            _unknown_columns(path, columns, rows[0].line, config, log)
        return [], None
    conversations = []
    tools = 0
    for row in rows:
        try:
            messages = formats.convert(row.value, read_as[1])
        except RowError as fault:
            found = fault.found if row.line is not None else f"{fault.found} (row {row.index})"
            log.error(fault.code, path.name, row.line, found, fault.expected, fault.fix)
            continue
        tools += row.value.get("tools") not in (None, "", "[]", [])
        if token := formats.RESERVED.search(" ".join(message["content"] for message in messages)):
            expected, fix = "text without the model's own tokens", "nothing to do: it is trained as plain text"
            log.warn("reserved_token", path.name, row.line, f"{token[0]} (row {row.index})", expected, fix)
        conversations.append(Conversation(messages, row.index, path.name, row.line))
    if tools:
        found, fix = f"tool definitions in {tools:,} rows", "nothing to do: the column is not used"
        log.warn("unsupported_content", path.name, None, found, "chats without tools", fix)
    return conversations, read_as


def _unknown_columns(path: Path, columns: list[str], line: int | None, config: DatasetConfig, log: ProblemLog) -> None:
    expected = formats.expected_columns(config.format, config.columns)
    fix = "rename the columns, or name them with --columns user=...,assistant=..."
    code, found = "missing_column", f"the columns {', '.join(columns)}"
    suffix = suffix_of(path.name) or ""
    if suffix.startswith((".csv", ".tsv")):
        other = next((d for d in (";", "\t", ",") if d in columns[0]), None) if len(columns) == 1 else None
        if other is not None:
            code, found = "wrong_delimiter", f"one column, {columns[0][:60]!r}"
            expected = "cells separated by " + ("tabs" if suffix.startswith(".tsv") else "commas")
            fix = "save the file with that separator"
        elif any(not name or len(name.split()) > 3 or name[0].isdigit() or name[-1] in ".?!" for name in columns):
            code, fix = "missing_header", "add a first line with the names of the columns"
    log.error(code, path.name, line if code == "missing_column" else 1, found, expected, fix)


def _duplicates(
    found: dict[str, list[Conversation]], keys: dict[int, bytes], log: ProblemLog
) -> list[list[Conversation]]:
    """Groups of identical conversations; warns of them, and of test rows that a given train file repeats."""
    groups: dict[bytes, list[Conversation]] = {}
    for rows in found.values():
        for conversation in rows:
            groups.setdefault(keys[id(conversation)], []).append(conversation)
    repeated = [group for group in groups.values() if len(group) > 1]
    if repeated:
        first, again = repeated[0][:2]
        extra = sum(len(group) - 1 for group in repeated)
        found_text = f"{extra:,} rows that repeat another, first {again.file} row {again.row} (as row {first.row})"
        fix = "remove them; repeated rows weigh more in training"
        log.warn("duplicate_rows", again.file, again.line, found_text, "every conversation once", fix)
    train = {keys[id(c)] for c in found.get("train", [])}
    for part in ("validation", "test"):
        leaked = [c for c in found.get(part, []) if keys[id(c)] in train]
        if leaked:
            found_text = f"{len(leaked):,} rows that are in the train file, too"
            fix = "remove them; a score on them is no held-out score"
            log.warn("leak", leaked[0].file, leaked[0].line, found_text, "rows that training has not seen", fix)
    return repeated


def _divide(dataset: Dataset, found: dict[str, list[Conversation]], keys: dict[int, bytes]) -> None:
    config = dataset.config
    pool = found.get("all", found.get("train", []))
    for part in ("validation", "test"):
        dataset.parts[part] = found.get(part, [])
    shares: dict[Part, float] = {"test": config.test_share, "validation": config.validation_share}
    shares = {part: share for part, share in shares.items() if part not in found}
    divided = split.divide([keys[id(c)] for c in pool], config.split_seed, shares)
    if divided is None:
        dataset.parts["train"] = pool
        if not dataset.log.error_count:
            needed = 1 + sum(share > 0 for share in shares.values())
            fix = "add rows, or set the shares of validation and test to 0"
            file = pool[0].file if pool else Path(dataset.source).name
            found_text = f"{len({keys[id(c)] for c in pool}):,} different rows"
            dataset.log.error("too_few_rows", file, None, found_text, f"at least {needed} to divide", fix)
        return
    for part in PARTS:
        taken = [c for c, where in zip(pool, divided, strict=True) if where == part]
        dataset.parts[part] = dataset.parts[part] + taken
