"""A dataset by its name: where its files are, and its conversations as often as they are wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from phi3tune.config import DatasetConfig, Part
from phi3tune.data import formats
from phi3tune.data.conversation import Conversation
from phi3tune.data.division import PARTS, FilePart
from phi3tune.data.files import LIMITS, SUFFIXES, suffix_of
from phi3tune.data.problems import Change, Problem, ProblemLog
from phi3tune.data.process import read_in_child
from phi3tune.data.reading import Shape, read_files
from phi3tune.data.stored import find_dataset, list_datasets, written_here
from phi3tune.errors import UserError
from phi3tune.paths import NANO, Workspace, file_hash, inside


class Source:
    """The files of a dataset, readable again and again in bounded memory; a .json document is held as text.

    `files` holds one file to divide under `all`, or a file for each part. Files of strangers are parsed in a
    child process. `format`, `mapping`, `columns` and `suggested` (a guess at the mapping, where the columns fit
    no known format) are those of the first file and known once reading has begun. `log` and `changes` belong to
    the latest `read`.

    Raises `UserError` when there is no such dataset, a file cannot be opened, or `config.columns` is no mapping.
    """

    def __init__(self, config: DatasetConfig, workspace: Workspace) -> None:
        formats.check_columns(config.columns)
        self.config = config
        self.name, self.path = resolve(config.dataset, workspace)
        self._own = _files(self.path)
        self.files = dict(self._own)
        given: dict[Part, str | None] = {"validation": config.validation_file, "test": config.test_file}
        for part, name in given.items():
            if name is not None:
                self.files[part] = _part_file(name, part, workspace)
        for path in self.files.values():
            _check_readable(path)
        self._trusted = all(written_here(path, workspace) for path in self.files.values())
        self._shape = Shape()
        self.log = ProblemLog()

    @property
    def format(self) -> str:
        return self._shape.format

    @property
    def mapping(self) -> dict[str, str]:
        return self._shape.mapping

    @property
    def columns(self) -> list[str]:
        return self._shape.columns

    @property
    def suggested(self) -> dict[str, str]:
        return self._shape.suggested

    @property
    def changes(self) -> list[Change]:
        return self.log.changes

    @cached_property
    def names(self) -> dict[FilePart, str]:
        """What the file of each part is called in rows and problems. A file of the dataset itself keeps its name."""
        own = {path.name for path in self._own.values()}
        return {
            part: f"{part}/{path.name}" if path.name in own and self._own.get(part) != path else path.name
            for part, path in self.files.items()
        }

    @cached_property
    def sha256(self) -> str:
        """Hash of the content of all files, given validation and test files included."""
        return self.own_sha256 if self.files == self._own else content_hash(self.files, self.names)

    @cached_property
    def own_sha256(self) -> str:
        """Hash of the dataset itself: its `fingerprint`."""
        return content_hash(self._own, self.names)

    def read(self, *, repair: bool = False) -> Iterator[tuple[FilePart, Conversation]]:
        """The conversations that can be used, file by file; problems go to `log`.

        With `repair`, what a person most likely meant is read, and every fault that was mended is in `changes`
        in place of `log`. Closing the iterator ends the reading.
        """
        self.log, self._shape = ProblemLog(repair=repair), Shape()
        places = {part: (path, self.names[part]) for part, path in self.files.items()}
        reader = read_files if self._trusted else read_in_child
        return self._in_order(reader(places, self.config, self.log, LIMITS, self._shape), self.log)

    def _in_order(
        self, rows: Iterator[tuple[FilePart, Conversation]], log: ProblemLog
    ) -> Iterator[tuple[FilePart, Conversation]]:
        """The rows; after the last one, the problems are in the order of the lines, however they were found."""
        yield from rows
        order = {name: number for number, name in enumerate(self.names.values())}

        def place(problem: Problem) -> tuple[int, bool, int]:
            return order.get(problem.file, 0), problem.line is None, problem.line or 0

        for problems in (log.errors, log.warnings):
            problems.sort(key=place)


def fingerprint(given: str, workspace: Workspace) -> str:
    """The sha256 of a dataset's own files, without reading its rows. Raises `UserError` as `resolve`."""
    files = _files(resolve(given, workspace)[1])
    return content_hash(files, {part: path.name for part, path in files.items()})


def canonical_name(given: str, workspace: Workspace) -> str:
    """A name that means the same dataset from any folder: its id where it has one, else its absolute path."""
    path = resolve(given, workspace)[1]
    ids = (info.id for info in list_datasets(workspace) if info.path.resolve() == path.resolve())
    return next(ids, str(path))


def resolve(given: str, workspace: Workspace) -> tuple[str, Path]:
    """Name and path of a dataset: an existing path, then a stored dataset's id, a bundled name, a Hub id.

    A dataset of the Hub that is not stored yet is downloaded.
    """
    if not given:
        raise UserError(f"no dataset is given; choose {_accepted(workspace)}")
    path = Path(given).expanduser()
    try:
        # A visitor names no files: what is theirs has an id. The bundled model's own rows are everybody's.
        exists = path.exists() and (workspace.shared is None or inside(path, NANO))
    except (OSError, ValueError):  # a name that no file system takes
        exists = False
    if exists:
        suffix = suffix_of(path.name) or path.suffix if path.is_file() else ""
        return path.name[: len(path.name) - len(suffix)] or path.resolve().name, path.absolute()
    if info := find_dataset(given, workspace):
        return info.id, info.path
    from phi3tune.data import hub

    if suffix_of(given) is None and hub.HubId.parse(given) is not None:  # with one, it is a path that is mistyped
        info = hub.fetch(given, workspace)
        return info.id, info.path
    raise UserError(f"dataset {given[:200]!r} does not exist; choose {_accepted(workspace)}")


def _accepted(workspace: Workspace) -> str:
    known = ", ".join(info.id for info in list_datasets(workspace)) or "none"
    return f"an existing file or folder, one of the stored and bundled datasets ({known}), or a Hub id (owner/name)"


def _files(path: Path) -> dict[FilePart, Path]:
    """The files of a dataset: `all` for one file to divide, part names for a folder."""
    if not path.is_dir():
        return {"all": path}
    files = _part_files(path)
    if "train" not in files:
        kinds = ", ".join(s for s in SUFFIXES if s.count(".") == 1)
        raise UserError(
            f"the folder {path} has no train file; it must hold train.*, and may hold validation.* and test.* ({kinds})"
        )
    return {part: files[part] for part in PARTS if part in files}


def _part_files(folder: Path) -> dict[Part, Path]:
    files: dict[Part, Path] = {}
    for file in sorted(p for p in folder.iterdir() if p.is_file()):
        suffix = suffix_of(file.name)
        part = next((p for p in PARTS if suffix and file.name == p + file.name[-len(suffix) :]), None)
        if part is None:
            continue
        if part in files:
            raise UserError(f"{folder} has both {files[part].name} and {file.name}; keep one file for each part")
        files[part] = file
    return files


def _part_file(given: str, part: Part, workspace: Workspace) -> Path:
    """The one file that `validation_file` or `test_file` means."""
    path = resolve(given, workspace)[1]
    if not path.is_dir():
        return path
    files = _part_files(path)
    if part not in files and len(files) != 1:
        raise UserError(f"{part}_file {given[:200]!r} is a folder without {part}.*; give the file itself")
    return files.get(part) or next(iter(files.values()))


def _check_readable(path: Path) -> None:
    reason = "it is no file"
    try:
        if path.is_file():  # to open a pipe would wait for its writer
            path.open("rb").close()
            return
    except OSError as error:
        reason = str(error.strerror)
    raise UserError(f"{path} cannot be read ({reason}); check that it is a file that you may read")


def content_hash(files: Mapping[FilePart, Path], names: Mapping[FilePart, str]) -> str:
    """sha256 of one file to divide, or of the names and hashes of the files of the parts."""
    if set(files) == {"all"}:
        return file_hash(files["all"])
    lines = "".join(f"{names[part]} {file_hash(file)}\n" for part, file in files.items())
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
