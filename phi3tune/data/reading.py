"""From files to conversations: the one path of reading, in a child process or in this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast, get_args

from phi3tune.config import DataFormat, DatasetConfig
from phi3tune.data import formats
from phi3tune.data.conversation import Conversation
from phi3tune.data.division import FilePart
from phi3tune.data.files import read_rows, suffix_of
from phi3tune.data.json_rows import Row
from phi3tune.data.lines import Limits
from phi3tune.data.problems import ProblemLog, RowError

# Columns are detected from this many rows; those that a format can do without may come later.
_LOOK_AHEAD = 500
# Beyond so many, new ones are not looked at: a file may have another one in every row.
_MAX_COLUMNS = 1000
_LOOK_AHEAD_CHARS = 16 * 1024**2


@dataclass
class Shape:
    """How the first file with rows is read; `suggested` is a guess where its columns fit no known format."""

    format: str = ""
    mapping: dict[str, str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    suggested: dict[str, str] = field(default_factory=dict)

    def tell(
        self, format: str, columns: Iterable[str], mapping: Mapping[str, str], suggested: Mapping[str, str]
    ) -> None:
        """Fill in what is known. Names may hold halves of characters, which nothing could print or send."""
        self.format, self.columns = format, [_printable(name) for name in columns]
        self.mapping = {field: _printable(column) for field, column in mapping.items()}
        self.suggested = {field: _printable(column) for field, column in suggested.items()}


def read_files(
    files: Mapping[FilePart, tuple[Path, str]], config: DatasetConfig, log: ProblemLog, limits: Limits, shape: Shape
) -> Iterator[tuple[FilePart, Conversation]]:
    """The conversations of all files; faults go to `log`, and `shape` is filled in as it becomes known.

    `files` holds the path of each part, and the name that its problems and rows have.
    """
    for part, (path, name) in files.items():
        reader = _FileReader(path, name, config, log, limits)
        for conversation in reader.read(shape):
            yield part, conversation


class _FileReader:
    def __init__(self, path: Path, name: str, config: DatasetConfig, log: ProblemLog, limits: Limits) -> None:
        self._path, self._name, self._config, self._log, self._limits = path, name, config, log, limits
        self._columns: dict[str, None] = {}
        self._format: DataFormat = config.format
        self._mapping: dict[str, str] = {}
        self._shape = Shape()
        self._media: list[str] = []
        self._tools = self._dropped = 0

    def read(self, shape: Shape) -> Iterator[Conversation]:
        rows = read_rows(self._path, self._name, self._log, self._limits, self._fits)
        self._shape = shape if not shape.format else Shape()
        first = list(_some(rows))
        if not first or not self._detect(first):
            for _ in rows:  # for the other problems of the file
                pass
            return
        for row in chain(first, rows):
            if len(self._columns) < _MAX_COLUMNS and not row.value.keys() <= self._columns.keys():
                self._columns |= dict.fromkeys(row.value)
                self._settle()
            if (conversation := self._conversation(row)) is not None:
                yield conversation
        self._told_once()

    def _fits(self, columns: list[str]) -> bool:
        return formats.detect(columns, self._config.format, self._config.columns) is not None

    def _detect(self, first: list[Row]) -> bool:
        self._columns = dict.fromkeys(column for row in first for column in row.value)
        if self._settle():
            return True
        example: dict[str, Any] = {}
        for row in first:
            example |= {k: v for k, v in row.value.items() if example.get(k) is None}
        suggested = {} if self._config.columns else formats.suggest(example)
        self._shape.tell("", self._columns, {}, suggested)
        found = f"the columns {', '.join(self._columns)}" if self._columns else "no columns"
        expected = formats.expected_columns(self._config.format, self._config.columns)
        named = ",".join(f"{field}={column}" for field, column in suggested.items())
        fix = f"rename the columns, or name them with --columns {named or 'user=...,assistant=...'}"
        mend = f"read with the columns {named}" if suggested else None
        line = 1 if (suffix_of(self._name) or "").startswith((".csv", ".tsv")) else first[0].line
        if not self._log.fault("missing_column", self._name, line, found, expected, fix, mend=mend):
            return False
        self._mapping = suggested
        format = next((field for field in ("messages", "text") if field in suggested), "columns")
        self._shape.tell(format, self._columns, suggested, suggested)
        return True

    def _settle(self) -> bool:
        """Take the mapping from the columns seen so far; False when they fit no format."""
        read_as = formats.detect(self._columns, self._format, self._config.columns)
        if read_as is None:
            return bool(self._mapping)
        format, mapping = read_as
        if format in get_args(DataFormat):
            self._format = cast(DataFormat, format)  # columns that come later do not make it another one
        self._mapping = mapping
        self._media = formats.media(self._columns, mapping) if format != "columns" else []
        self._shape.tell(format, self._columns, mapping, {})
        return True

    def _conversation(self, row: Row) -> Conversation | None:
        mended: list[tuple[str, str]] = []
        try:
            if any(row.value.get(column) for column in self._media):
                found = f"an image or a recording beside the text ({', '.join(self._media)})"
                raise RowError("unsupported_content", found, "text only", "remove the row")
            mend = (lambda code, what: mended.append((code, what))) if self._log.repair else None
            messages = formats.convert(row.value, self._mapping, mend)
        except RowError as fault:
            self._refuse(row, fault)
            return None
        for code, what in mended:
            self._log.change(code, self._name, row.index, row.line, what)
        self._tools += row.value.get("tools") not in (None, "", "[]", [])
        if any("<|" in m["content"] and formats.RESERVED.search(m["content"]) for m in messages):
            self._warn_reserved(row, " ".join(m["content"] for m in messages))
        group = formats.group_of(row.value, self._mapping) if "group" in self._mapping else None
        return Conversation(messages, row.index, self._name, row.line, group)

    def _refuse(self, row: Row, fault: RowError) -> None:
        dropped = fault.code == "unsupported_content" and self._config.unsupported == "drop"
        if dropped and not self._log.repair:  # a repair tells every row
            self._dropped += 1
            return
        found = fault.found if row.line is not None else f"{fault.found} (row {row.index})"
        mend = f"row left out: {fault.found}"
        self._log.fault(fault.code, self._name, row.line, found, fault.expected, fault.fix, row=row.index, mend=mend)

    def _warn_reserved(self, row: Row, text: str) -> None:
        token = formats.RESERVED.search(text)
        expected, fix = "text without the model's own tokens", "nothing to do: it is trained as plain text"
        found = f"{token[0] if token else ''} (row {row.index})"
        self._log.warn("reserved_token", self._name, row.line, found, expected, fix)

    def _told_once(self) -> None:
        if self._tools:
            found, fix = f"tool definitions in {self._tools:,} rows", "nothing to do: the column is not used"
            self._log.warn("unsupported_content", self._name, None, found, "chats without tools", fix)
        if self._dropped:
            found, fix = f"{self._dropped:,} rows with tool calls or images", "nothing to do: they are left out"
            self._log.warn("unsupported_content", self._name, None, found, "chats of text", fix)


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _some(rows: Iterator[Row]) -> Iterator[Row]:
    """The first rows; fewer when they are long."""
    size = 0
    for row in islice(rows, _LOOK_AHEAD):
        yield row
        size += sum(len(value) for value in row.value.values() if isinstance(value, str | list))
        if size > _LOOK_AHEAD_CHARS:
            return
