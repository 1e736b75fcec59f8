"""Reads rows from JSON Lines, JSON, CSV, TSV and Parquet files that strangers made.

Nothing here raises for what is in a file: every fault goes to the problem log with its place, and the
rows around it are still read where the format allows that.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from phi3tune.data.problems import ProblemLog, describe

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz")
MAX_FILE_BYTES = 2 * 1024**3
MAX_LINE_CHARS = 16 * 1024**2
MAX_ROWS = 2_000_000
_MAX_DIGITS = 100
_ACCEPTED = "a .jsonl, .json, .csv, .tsv or .parquet file (text files may be .gz)"
_REFUSED = object()
_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "gzip data",
    b"PAR1": "Parquet data",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
}


@dataclass(frozen=True)
class Row:
    """A record of a file: its number from 0, the line it starts on from 1, and its columns."""

    index: int
    line: int | None
    value: dict[str, Any]


def suffix_of(name: str) -> str | None:
    """The longest known suffix of a file name, lower case; None when the type is not accepted."""
    lower = name.lower()
    return max((s for s in SUFFIXES if lower.endswith(s)), key=len, default=None)


def read_rows(path: Path, log: ProblemLog) -> Iterator[Row]:
    """The rows of a file in order; faults go to `log`."""
    file = path.name
    suffix = suffix_of(file)
    if suffix is None:
        fix = "convert it to JSON Lines" if path.suffix else "give it the suffix of its format"
        log.error("unsupported_type", file, None, f"a file of type {path.suffix or 'unknown'}", _ACCEPTED, fix)
        return
    size = path.stat().st_size
    if size == 0:
        _log_empty(file, log)
        return
    if size > MAX_FILE_BYTES:
        log.error("file_too_large", file, None, f"{size:,} bytes", f"at most {MAX_FILE_BYTES:,}", "split the file")
        return
    if suffix == ".parquet":
        rows = _parquet_rows(path, log)
    else:
        text = _read_text(path, suffix, log)
        if text is None:
            return
        if suffix.startswith(".jsonl"):
            rows = _json_lines(text, file, log)
        elif suffix.startswith(".json"):
            rows = _json_rows(text, file, log)
        else:
            rows = _csv_rows(text, "\t" if suffix.startswith(".tsv") else ",", file, log)
    errors, row = log.error_count, None
    for row in rows:
        if row.index >= MAX_ROWS:
            found = f"more than {MAX_ROWS:,} rows"
            log.error("too_many_rows", file, row.line, found, f"at most {MAX_ROWS:,}", "split the file")
            return
        yield row
    if row is None and log.error_count == errors:
        _log_empty(file, log)


def _log_empty(file: str, log: ProblemLog) -> None:
    log.error("empty_file", file, None, "no rows", "at least one", "check that the export has finished")


def _read_text(path: Path, suffix: str, log: ProblemLog) -> str | None:
    file = path.name
    data = path.read_bytes()
    if suffix.endswith(".gz"):
        try:
            with gzip.open(io.BytesIO(data)) as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            log.error(
                "type_mismatch", file, None, f"data that gzip cannot read ({error})", "gzip data", "compress again"
            )
            return None
        if len(data) > MAX_FILE_BYTES:
            found, fix = f"more than {MAX_FILE_BYTES:,} bytes when unpacked", "split the file"
            log.error("expands_too_large", file, None, found, f"at most {MAX_FILE_BYTES:,}", fix)
            return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        log.error("bad_encoding", file, 1, "UTF-16 text", "UTF-8 text", "save the file as UTF-8")
        return None
    kind = next((what for magic, what in _MAGIC.items() if data.startswith(magic)), None)
    if kind is None and (nul := data.find(b"\0")) >= 0:
        kind = f"a NUL byte at offset {nul}"
    if kind:
        log.error("type_mismatch", file, None, kind, f"{suffix} text", "check that this is the file you meant")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line, column = data.count(b"\n", 0, start) + 1, start - data.rfind(b"\n", 0, start)
        found = f"byte 0x{data[start]:02x}, which is not UTF-8"
        log.error("bad_encoding", file, line, found, "UTF-8 text", "save the file as UTF-8", column=column)
        return None
    if not text.strip():
        _log_empty(file, log)
        return None
    return text


class _Json:
    """A JSON decoder that notes what the standard one lets through: repeated keys, NaN, huge integers."""

    def __init__(self, file: str, log: ProblemLog) -> None:
        self._file, self._log = file, log
        self._faults: list[tuple[str, str, str, str]] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant, parse_int=self._integer
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            self._faults.append(("duplicate_key", f"the key {describe(twice)} twice", "each key once", "remove one"))
        return value

    def _constant(self, name: str) -> None:
        self._faults.append(("bad_number", name, "a JSON number or null", "write null, or leave it out"))

    def _integer(self, digits: str) -> int:
        if len(digits) <= _MAX_DIGITS:
            return int(digits)
        found = f"an integer of {len(digits):,} digits"
        self._faults.append(("bad_number", found, f"at most {_MAX_DIGITS} digits", "write it as text"))
        return 0

    def value(self, text: str, start: int, line: int, *, whole: bool) -> tuple[Any, int] | None:
        """The value at `start` and where it ends, or None where no value can be read (logged).

        A value with a fault in it is logged and comes as `_REFUSED`. `line` is the line of `start`. With
        `whole`, nothing but white space may follow.
        """
        self._faults.clear()
        try:
            value, end = self._decoder.raw_decode(text, WHITESPACE.match(text, start).end())
            if whole and (rest := WHITESPACE.match(text, end).end()) != len(text):
                raise json.JSONDecodeError("Extra data", text, rest)
        except json.JSONDecodeError as error:
            fix = "check the commas, quotes and brackets there"
            if error.msg == "Extra data" and not self._file.lower().removesuffix(".gz").endswith(".jsonl"):
                fix = "if every line is a row of its own, rename the file to .jsonl"
            place = line + text.count("\n", start, error.pos)
            column = error.pos - text.rfind("\n", 0, error.pos)
            found = f"{error.msg[:1].lower()}{error.msg[1:]}"
            self._log.error("bad_json", self._file, place, found, "valid JSON", fix, column=column)
            return None
        except RecursionError:
            found, fix = "brackets nested too deeply to read", "remove the column that holds them"
            self._log.error("too_deep", self._file, line, found, "rows of plain columns", fix)
            return None
        for fault in self._faults:
            self._log.error(fault[0], self._file, line, *fault[1:])
        return (_REFUSED if self._faults else value), end


def _json_lines(text: str, file: str, log: ProblemLog) -> Iterator[Row]:
    decoder = _Json(file, log)
    index = 0
    # Not splitlines(): U+2028 and its like may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if index == 0 and line.strip() in ("{", "["):
            found = "one JSON document over several lines"
            log.error("bad_json", file, number, found, "one row on each line", "rename the file to .json", column=1)
            return
        if len(line) > MAX_LINE_CHARS:
            found, fix = f"a line of {len(line):,} characters", "split or remove the row"
            log.error("line_too_long", file, number, found, f"at most {MAX_LINE_CHARS:,}", fix)
        elif read := decoder.value(line, 0, number, whole=True):
            yield from _object_row(read[0], index, number, file, log)
        index += 1


def _json_rows(text: str, file: str, log: ProblemLog) -> Iterator[Row]:
    decoder = _Json(file, log)
    start = WHITESPACE.match(text).end()
    if text[start] == "[":
        yield from _json_array(text, start, decoder, file, log)
        return
    read = decoder.value(text, 0, 1, whole=True)
    if read is None:
        return
    value = read[0]
    if value is _REFUSED:
        return
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        expected = 'a list of rows, or an object with the list under "data"'
        log.error("bad_shape", file, 1, describe(value), expected, "put the rows into [ ]")
        return
    for index, item in enumerate(value["data"]):
        yield from _object_row(item, index, None, file, log)


def _json_array(text: str, start: int, decoder: _Json, file: str, log: ProblemLog) -> Iterator[Row]:
    """Items one by one, so that each knows its line and a fault does not hide the rows before it."""
    position, line, index = start + 1, 1 + text.count("\n", 0, start), 0
    closed = False
    while True:
        item = WHITESPACE.match(text, position).end()
        line += text.count("\n", position, item)
        if text[item : item + 1] == "]" and index == 0:
            position, closed = item + 1, True
            break
        read = decoder.value(text, item, line, whole=False)
        if read is None:
            return
        value, end = read
        yield from _object_row(value, index, line, file, log)
        index += 1
        position = WHITESPACE.match(text, end).end()
        line += text.count("\n", item, position)
        mark, position = text[position : position + 1], position + 1
        if mark == "]":
            closed = True
            break
        if mark != ",":
            break
    rest = WHITESPACE.match(text, position).end() if closed else position - 1
    if not closed or rest != len(text):
        line, column = text.count("\n", 0, rest) + 1, rest - text.rfind("\n", 0, rest)
        found = "the end of the file" if rest >= len(text) else describe(text[rest : rest + 20])
        expected = "nothing after the list" if closed else "a comma or ]"
        log.error("bad_json", file, line, found, expected, "check the commas and brackets there", column=column)


def _object_row(value: Any, index: int, line: int | None, file: str, log: ProblemLog) -> Iterator[Row]:
    if isinstance(value, dict):
        yield Row(index, line, value)
    elif value is not _REFUSED:
        found = describe(value) if line is not None else f"{describe(value)} as row {index}"
        log.error("bad_shape", file, line, found, "an object with the row's columns", "write rows as { }")


def _csv_rows(text: str, delimiter: str, file: str, log: ProblemLog) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    index, line = 0, 1
    try:
        for cells in reader:
            start, line = line, reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if twice := next((name for name in header if header.count(name) > 1), None):
                    log.error("bad_csv", file, start, f"two columns named {twice!r}", "unique names", "rename one")
                    return
                continue
            if len(cells) == len(header):
                yield Row(index, start, dict(zip(header, cells, strict=True)))
            else:
                fix = "quote cells that hold the separator"
                log.error("bad_csv", file, start, f"{len(cells)} cells", f"{len(header)} as in the header", fix)
            index += 1
    except csv.Error as error:
        code = "line_too_long" if "field limit" in str(error) else "bad_csv"
        fix = "save as JSON Lines" if code == "line_too_long" else "close the quote; write a quote in a cell as two"
        log.error(code, file, line, str(error), "cells in matching quotes", fix)


def _parquet_rows(path: Path, log: ProblemLog) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path.name
    index = 0
    try:
        with pq.ParquetFile(path) as table:
            meta = table.metadata
            size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
            # The footer may understate: a value stored once can fill every row. Small batches are counted, too.
            unpacked = 0
            for batch in table.iter_batches(batch_size=128):
                unpacked += batch.nbytes
                if max(size, unpacked) > MAX_FILE_BYTES:
                    found = f"{max(size, unpacked):,} bytes or more when unpacked"
                    log.error("expands_too_large", file, None, found, f"at most {MAX_FILE_BYTES:,}", "split the file")
                    return
                for value in batch.to_pylist():
                    yield Row(index, None, value)
                    index += 1
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        log.error(
            "bad_parquet", file, None, f"a file that cannot be read ({reason})", "Parquet", "write it again, plain"
        )
        return
