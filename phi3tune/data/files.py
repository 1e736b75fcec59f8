"""Reads rows from JSON Lines, JSON, CSV, TSV, text and Parquet files that strangers made.

Nothing here raises for what is in a file: every fault goes to the problem log with its place, and the
rows around it are still read where the format allows that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from phi3tune.data.json_rows import Row, json_lines, json_rows
from phi3tune.data.lines import Limits, Line, numbered_lines
from phi3tune.data.problems import ProblemLog
from phi3tune.data.tables import Fits, csv_rows, parquet_rows

_TEXT = (".jsonl", ".json", ".csv", ".tsv", ".txt")
SUFFIXES = (*_TEXT, ".parquet", *(text + packing for packing in (".gz", ".zst") for text in _TEXT))
LIMITS = Limits()
MAX_FILE_BYTES = LIMITS.file_bytes
_ACCEPTED = "a .jsonl, .json, .csv, .tsv, .txt or .parquet file (text files may be .gz or .zst)"


def suffix_of(name: str) -> str | None:
    """The longest known suffix of a file name, lower case; None when the type is not accepted."""
    lower = name.lower()
    return max((s for s in SUFFIXES if lower.endswith(s)), key=len, default=None)


def read_rows(path: Path, file: str, log: ProblemLog, limits: Limits, fits: Fits) -> Iterator[Row]:
    """The rows of a file in order; faults go to `log` under the name `file`.

    One line or a few rows are held at a time; a .json document is held as text. `fits` says whether names
    of columns are those of a dataset.
    """
    suffix = suffix_of(path.name)
    if suffix is None:
        fix = "convert it to JSON Lines" if path.suffix else "give it the suffix of its format"
        log.error("unsupported_type", file, None, f"a file of type {path.suffix or 'unknown'}", _ACCEPTED, fix)
        return
    size = path.stat().st_size
    if size == 0:
        _log_empty(file, log)
        return
    most = limits.document_bytes if suffix.startswith(".json") and "jsonl" not in suffix else limits.file_bytes
    if size > most:
        fix = "write it as JSON Lines, or split it" if most == limits.document_bytes else "split the file"
        log.error("file_too_large", file, None, f"{size:,} bytes", f"at most {most:,}", fix)
        return
    faults, row = log.error_count, None
    for row in _rows(path, file, suffix, log, limits, fits):
        if row.index >= limits.rows:
            found = f"more than {limits.rows:,} rows"
            log.error("too_many_rows", file, row.line, found, f"at most {limits.rows:,}", "split the file")
            return
        yield row
    if row is None and log.error_count == faults:
        _log_empty(file, log)


def _log_empty(file: str, log: ProblemLog) -> None:
    log.error("empty_file", file, None, "no rows", "at least one", "check that the export has finished")


def _rows(path: Path, file: str, suffix: str, log: ProblemLog, limits: Limits, fits: Fits) -> Iterator[Row]:
    if suffix == ".parquet":
        return parquet_rows(path, file, log, limits)
    if suffix.startswith(".json") and not suffix.startswith(".jsonl"):
        return _document_rows(path, file, suffix, log, limits)
    lines = numbered_lines(path, file, suffix, limits, log, longest=limits.line_bytes)
    if suffix.startswith(".jsonl"):
        return json_lines(lines, file, log, limits.line_bytes)
    if suffix.startswith(".txt"):
        return _paragraphs(lines, file, log, limits)
    return csv_rows(lines, "\t" if suffix.startswith(".tsv") else ",", file, log, limits, fits)


def _document_rows(path: Path, file: str, suffix: str, log: ProblemLog, limits: Limits) -> Iterator[Row]:
    faults = log.error_count
    text = "\n".join(line or "" for _, line in numbered_lines(path, file, suffix, limits, log, longest=None))
    if log.error_count == faults and text and not text.isspace():
        yield from json_rows(text, file, log, limits.line_bytes)


def _paragraphs(lines: Iterable[Line], file: str, log: ProblemLog, limits: Limits) -> Iterator[Row]:
    """Blocks of lines, divided by blank ones, each a row with the column `text`."""
    index = 0
    for blank, group in groupby(lines, key=lambda line: line[1] is not None and not line[1].strip()):
        if blank:
            continue
        size, first, texts, whole = 0, None, [], True
        for number, line in group:
            first = first or number
            if line is None:
                whole = False
                continue
            size += len(line) + 1
            if size <= limits.line_bytes:
                texts.append(line.rstrip("\r"))
        if size > limits.line_bytes:
            found, expected = f"a paragraph of {size:,} characters", f"at most {limits.line_bytes:,}"
            fix = "divide it with blank lines"
            log.fault("line_too_long", file, first, found, expected, fix, row=index, mend="paragraph left out")
        elif whole:
            yield Row(index, first, {"text": "\n".join(texts)})
        index += 1
