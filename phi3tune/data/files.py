"""Reads rows from JSON Lines, JSON, CSV, TSV and Parquet files that strangers made.

Nothing here raises for what is in a file: every fault goes to the problem log with its place, and the
rows around it are still read where the format allows that.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from phi3tune.data.json_rows import Row, json_lines, json_rows, repeated
from phi3tune.data.problems import ProblemLog

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz")
MAX_FILE_BYTES = 2 * 1024**3
MAX_ROWS = 2_000_000
_ACCEPTED = "a .jsonl, .json, .csv, .tsv or .parquet file (text files may be .gz)"
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
            rows = json_lines(text, file, log)
        elif suffix.startswith(".json"):
            rows = json_rows(text, file, log)
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
                if (twice := repeated(header)) is not None:
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
