"""From a dataset's name to conversations in parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from phi3tune.config import DatasetConfig, Part
from phi3tune.data.conversation import Conversation
from phi3tune.data.division import PARTS, FilePart, divide
from phi3tune.data.problems import DataError, Problem, ProblemLog
from phi3tune.data.source import Source, canonical_name, fingerprint, resolve
from phi3tune.paths import Workspace

__all__ = ["Dataset", "Source", "canonical_name", "fingerprint", "load", "read", "resolve"]
SCHEMA = 1


@dataclass
class Dataset:
    """Conversations in parts, with what is needed to get the same parts again.

    `sha256` is of all files, `own_sha256` leaves given validation and test files out.
    """

    source: str
    name: str
    sha256: str
    format: str
    mapping: dict[str, str]
    parts: dict[Part, list[Conversation]]
    config: DatasetConfig
    log: ProblemLog = field(default_factory=ProblemLog)
    duplicates: list[list[Conversation]] = field(default_factory=list)
    own_sha256: str = ""

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
            "own_sha256": self.own_sha256 or self.sha256,
            "format": self.format,
            "mapping": self.mapping,
            "config": {name: getattr(self.config, name) for name in DatasetConfig.model_fields},
            "split": {part: [[c.file, c.row] for c in rows] for part, rows in self.parts.items()},
        }


def load(config: DatasetConfig, workspace: Workspace, *, saved: dict[str, Any] | None = None) -> Dataset:
    """Read, check and divide a dataset.

    `saved` is the `record()` of an earlier load: on the same data its division is taken over exactly, but for
    parts that `config` gives a file of their own.
    Raises `DataError` when anything in it is an error, `UserError` when there is no such dataset.
    """
    dataset = read(config, workspace, saved=saved)
    if dataset.log.error_count:
        raise DataError(dataset.log.errors, dataset.log.error_count, config.dataset)
    return dataset


def read(config: DatasetConfig, workspace: Workspace, *, saved: dict[str, Any] | None = None) -> Dataset:
    """`load` without raising for what is in the files: the conversations that can be used, and all problems."""
    source = Source(config, workspace)
    found: dict[FilePart, list[Conversation]] = {part: [] for part in source.files}
    for part, conversation in source.read():
        found[part].append(conversation)
    parts: dict[Part, list[Conversation]] = {part: [] for part in PARTS}
    dataset = Dataset(
        str(source.path), source.name, source.sha256, source.format, source.mapping, parts, config, source.log
    )
    dataset.own_sha256 = source.own_sha256
    if (
        saved is None
        or saved.get("schema") != SCHEMA
        or saved.get("own_sha256", saved.get("sha256")) != source.own_sha256
    ):
        divide(dataset, found)
        return dataset
    divide(dataset, found, saved["split"])
    given: dict[Part, str | None] = {"validation": config.validation_file, "test": config.test_file}
    dataset.parts |= {part: found[part] for part, file in given.items() if file is not None}
    return dataset
