"""Rows of CSV, TSV and Parquet files."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phi3tune.data.json_rows import Row
from phi3tune.data.json_values import repeated
from phi3tune.data.lines import Limits, Line, kind_of
from phi3tune.data.problems import ProblemLog

if TYPE_CHECKING:
    import pyarrow as arrow

Fits = Callable[[list[str]], bool]
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = set("?!,;=+*%$@'\"")  # what is in sentences and not in names
_USUAL_WORDS = """
agent answer assistant author bot category class comment completion content context conversation customer date
description document field human id index input instruction key label language message messages model name note notes
number output prompt query question rating reference reply request response role score sentence source split status
summary system tag tags target task text time title topic translation turn type url user value
"""
_USUAL = frozenset(_USUAL_WORDS.split())
_PAIR = ["prompt", "completion"]


class _Tape:
    """Lines for a csv reader, which keeps those of the present record so that they can be read again.

    `lost` counts the lines that could not be read.
    """

    def __init__(self, lines: Iterable[Line]) -> None:
        self.lost = 0
        self._lines = self._with_ends(lines)
        self._again: deque[tuple[int, str]] = deque()
        self.record: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.record.append(self._again.popleft() if self._again else next(self._lines))
        return self.record[-1][1]

    def back(self, start: int) -> None:
        """Give the lines of the record again, from its line `start` (from 0) on."""
        self._again.extendleft(reversed(self.record[start:]))
        self.record = []

    def _with_ends(self, lines: Iterable[Line]) -> Iterator[tuple[int, str]]:
        for number, line in lines:
            if line is None:
                self.lost += 1
            elif "\r" in line[:-1]:  # the ends of lines of old Macs
                yield from ((number, piece) for piece in io.StringIO(f"{line}\n", newline=""))
            else:
                yield number, f"{line}\n"


@dataclass(frozen=True)
class _Header:
    """Names of the columns; `row` holds the cells of a first line that is itself a row."""

    names: list[str]
    delimiter: str
    line: int
    row: list[str] | None = None


def csv_rows(
    lines: Iterable[Line], delimiter: str, file: str, log: ProblemLog, limits: Limits, fits: Fits
) -> Iterator[Row]:
    """Rows of separated text; every cell is text. `fits` says whether names of columns are those of a dataset."""
    csv.field_size_limit(limits.line_bytes)
    tape = _Tape(lines)
    header = _read_header(tape, delimiter, file, log, fits)
    if header is None or tape.lost:  # the lost line was the header
        return
    index = 0
    if header.row is not None:
        yield Row(index, header.line, dict(zip(header.names, header.row, strict=True)))
        index += 1
    reader = csv.reader(tape, delimiter=header.delimiter, strict=True)
    while True:
        tape.record = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # A quote that is not closed swallows what follows: the lines behind its first one are read again.
            _log_broken(error, tape.record, file, log, index + tape.lost)
            tape.back(1)
            reader = csv.reader(tape, delimiter=header.delimiter, strict=True)
            index += 1
            continue
        if not cells:
            continue
        line = tape.record[0][0]
        if len(cells) == len(header.names):
            yield Row(index + tape.lost, line, dict(zip(header.names, cells, strict=True)))
        else:
            found, expected = f"{len(cells)} cells", f"{len(header.names)} as in the header"
            fix = "quote cells that hold the separator"
            log.fault("bad_csv", file, line, found, expected, fix, row=index + tape.lost, mend="row left out")
        index += 1


def _read_header(tape: _Tape, delimiter: str, file: str, log: ProblemLog, fits: Fits) -> _Header | None:
    """The header, or None where there is none to be read rows with."""
    cells, error = _first_record(tape, delimiter)
    if cells is None and error is None:
        return None
    line, text = tape.record[0]
    names = [cell.strip() for cell in cells or [text]]
    fitting = error is None and fits(names)
    if not fitting:
        other = _other_delimiter(text, delimiter, fits, alone=error is None and len(names) == 1)
        if other is not None:
            if not _log_delimiter(names, delimiter, other, line, file, log):
                return None
            tape.back(0)
            return _read_header(tape, other, file, log, fits)
    if error is not None:
        _log_broken(error, tape.record, file, log, None)
        return None
    if not fitting and _looks_like_a_row(names):
        return _Header(_PAIR, delimiter, line, cells) if _log_no_header(names, line, file, log, fits) else None
    if (twice := repeated(names)) is not None:
        log.error("bad_csv", file, line, f"two columns named {twice!r}", "unique names", "rename one")
        return None
    return _Header(names, delimiter, line)


def _first_record(tape: _Tape, delimiter: str) -> tuple[list[str] | None, csv.Error | None]:
    """The cells of the first record that is not blank, or why it cannot be read; neither at the end of the file."""
    reader = csv.reader(tape, delimiter=delimiter, strict=True)
    while True:
        tape.record = []
        try:
            cells = next(reader)
        except StopIteration:
            return None, None
        except csv.Error as error:
            return None, error
        if any(cell.strip() for cell in cells):
            return cells, None


def _log_broken(error: csv.Error, record: list[tuple[int, str]], file: str, log: ProblemLog, index: int | None) -> None:
    line = record[0][0]
    if "field limit" in str(error) and len(record) == 1:
        code, fix, expected = "line_too_long", "save as JSON Lines", f"at most {csv.field_size_limit():,} characters"
    else:
        code, fix = "bad_csv", "close the quote; write a quote in a cell as two"
        expected = "cells in matching quotes"
    log.fault(code, file, line, str(error), expected, fix, row=index, mend="line left out")


def _other_delimiter(line: str, delimiter: str, fits: Fits, *, alone: bool) -> str | None:
    """The separator that makes columns of a header which `delimiter` does not divide well."""
    for other in _NAMES:
        if other == delimiter or other not in line:
            continue
        if alone or fits([cell.strip() for cell in next(csv.reader([line], delimiter=other), [])]):
            return other
    return None


def _log_delimiter(header: list[str], delimiter: str, other: str, line: int, file: str, log: ProblemLog) -> bool:
    columns = "one column" if len(header) == 1 else f"{len(header)} columns"
    found, expected = f"{columns}, {', '.join(header)[:60]!r}", f"cells separated by {_NAMES[delimiter]}"
    fix, mend = "save the file with that separator", f"read with cells separated by {_NAMES[other]}"
    return log.fault("wrong_delimiter", file, line, found, expected, fix, mend=mend)


def _looks_like_a_row(header: list[str]) -> bool:
    """Whether these are more likely cells than names of columns: no names, sentences, or words no column is called."""
    words = [name.lower().replace("_", " ").split() for name in header]
    if any(
        not name or len(name) > 40 or name[0].isdigit() or name[-1] == "." or _MARKS & set(name) or len(parts) > 3
        for name, parts in zip(header, words, strict=True)
    ):
        return True
    return any(len(name.split()) > 1 for name in header) and not any(_USUAL & set(parts) for parts in words)


def _log_no_header(header: list[str], line: int, file: str, log: ProblemLog, fits: Fits) -> bool:
    found, fix = f"the columns {', '.join(header)}", "add a first line with the names of the columns"
    mend = f"columns named {' and '.join(_PAIR)}" if len(header) == 2 and fits(_PAIR) else None
    return log.fault("missing_header", file, line, found, "names of columns", fix, mend=mend)


def _bytes(batch: arrow.RecordBatch) -> int:
    """Bytes of a batch of Arrow with every text counted as often as it stands in the rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and pa.types.is_string(column.type.value_type):
            lengths = pc.binary_length(column.dictionary).take(column.indices)
            total += int(pc.sum(lengths).as_py() or 0)
        else:
            total += int(column.nbytes)
    return total


def parquet_rows(path: Path, file: str, log: ProblemLog, limits: Limits) -> Iterator[Row]:
    """Rows of a Parquet file, a few at a time."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head.startswith((b"PAR1", b"PARE")):
        found = kind_of(head) or "data that does not begin as Parquet does"
        log.error("type_mismatch", file, None, found, "Parquet data", "check that this is the file you meant")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = 0
    fix = "write it again, plain"
    try:
        with pq.ParquetFile(path) as table:
            meta = table.metadata
            if (twice := repeated(table.schema_arrow.names)) is not None:
                log.error("bad_parquet", file, None, f"two columns named {twice!r}", "unique names", "rename one")
                return
            unpacked = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
            most = limits.unpacked(path.stat().st_size)
            # The footer may understate: a value stored once can fill every row. All is counted before rows are made of
            # it, which takes many times as long.
            counted = 0
            for batch in table.iter_batches(batch_size=128, use_threads=False):
                counted += _bytes(batch)
                if (unpacked := max(unpacked, counted)) > most:
                    break
            if unpacked > most:
                found, expected = f"{unpacked:,} bytes or more when unpacked", f"at most {most:,}"
                log.error("expands_too_large", file, None, found, expected, "split the file")
                return
            for batch in table.iter_batches(batch_size=128, use_threads=False):
                for value in batch.to_pylist():
                    yield Row(index, None, value)
                    index += 1
    except UnicodeDecodeError as error:
        found = f"text in rows {index:,} and after that is not UTF-8 ({error.reason})"
        log.error("bad_encoding", file, None, found, "UTF-8 text", fix)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        encrypted = head.startswith(b"PARE") or "crypt" in reason.lower()
        found = "an encrypted file" if encrypted else f"a file that cannot be read ({reason})"
        log.error("bad_parquet", file, None, found, "Parquet", "write it again, unencrypted" if encrypted else fix)
