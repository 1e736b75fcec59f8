"""From a file's bytes to numbered lines of text: unpacked, in UTF-8, and never more of it held than one line.

UTF-8 is the only encoding that is read without being asked; another one is named, and converted in a repair.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from phi3tune.data.problems import ProblemLog

Line = tuple[int, str | None]  # number from 1, and text without its newline
_CHUNK = 1024**2
# 1 KiB of zstd data holds at most 341 blocks of 128 KiB: no step unpacks more than 43 MiB.
_ZSTD_CHUNK = 1024
_HEAD = 4096
_FIX_ENCODING = "save the file as UTF-8"
_FIX_TYPE = "check that this is the file you meant"
_BOMS = {  # the longer first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a RIFF file (WebP, WAV)",
    b"PK\x03\x04": "a zip archive (as .xlsx, .docx and .pt files are)",
    b"PK\x05\x06": "an empty zip archive",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "gzip data",
    b"(\xb5/\xfd": "zstd data",
    b"\xfd7zXZ\0": "xz data",
    b"\x04\x22M\x18": "lz4 data",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xd0\xcf\x11\xe0": "an old Office document (.xls, .doc)",
    b"SQLite format 3\0": "an SQLite database",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "HDF5 data",
    b"ARROW1": "Arrow data",
    b"Obj\x01": "Avro data",
    b"\x7fELF": "a program",
    b"PAR1": "Parquet data",
    b"PARE": "encrypted Parquet data",
    **{bytes((0x80, protocol)): "a pickle" for protocol in (2, 3, 4, 5)},
}
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))


@dataclass(frozen=True)
class Limits:
    """What one file may cost. A .json document is held whole, so it has a limit of its own.

    `wait_seconds` is how long a reader in a child process may be silent.
    """

    file_bytes: int = 2 * 1024**3
    document_bytes: int = 512 * 1024**2
    line_bytes: int = 16 * 1024**2
    rows: int = 2_000_000
    memory_bytes: int = 4 * 1024**3
    cpu_seconds: int = 900
    wait_seconds: float = 300.0
    free_bytes: int = 256 * 1024**2
    expansion: int = 200

    def unpacked(self, size: int) -> int:
        """What a file of `size` bytes may unpack to where a value that is stored once can fill every row: beyond
        `free_bytes`, `expansion` times its size."""
        return min(self.file_bytes, max(self.free_bytes, self.expansion * size))


def kind_of(head: bytes) -> str | None:
    """What a file that begins like this is, when it is no text."""
    if re.match(rb"BZh[1-9]1AY&SY", head):
        return "bzip2 data"
    if head[257:262] == b"ustar":
        return "a tar archive"
    return next((what for magic, what in _MAGIC.items() if head.startswith(magic)), None)


def numbered_lines(
    path: Path, file: str, suffix: str, limits: Limits, log: ProblemLog, *, longest: int | None
) -> Iterator[Line]:
    """The lines of a text file; one that cannot be read is logged, and its text is None.

    `longest` is the limit of a line in bytes, None for a document whose lines mean nothing.
    """
    chunks = _unpacked(path, file, suffix, limits, log)
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD:
            break
    mark, encoding = _wide_encoding(head)
    if encoding is not None:
        if mark and len(head) < _HEAD and not head[len(mark) :].strip(b"\0 \r\n\t"):
            return  # an empty text
        found, mend = f"{encoding[:6].upper()} text", f"converted from {encoding[:6].upper()}"
        if not log.fault("bad_encoding", file, 1, found, "UTF-8 text", _FIX_ENCODING, column=1, mend=mend):
            return
        chunks = _converted(chain([head], chunks), encoding)
        head = next(chunks, b"")
    head = head.removeprefix(codecs.BOM_UTF8)
    if kind := kind_of(head) or _binary(head) or _other_text(head, suffix):
        log.error("type_mismatch", file, None, kind, f"{suffix} text", _FIX_TYPE)
        return
    decoder = _Decoder(file, log)
    for number, line, size in _split(chain([head], chunks), longest):
        if line is None:
            found, fix = f"a line of {size:,} bytes", "split or remove the row"
            log.fault("line_too_long", file, number, found, f"at most {longest:,}", fix, mend="line left out")
        # A line without text still counts: rows have the same numbers in a repair, where it may have one.
        yield number, None if line is None else decoder.text(line, number)


def _unpacked(path: Path, file: str, suffix: str, limits: Limits, log: ProblemLog) -> Iterator[bytes]:
    """The bytes of the file in chunks; what stops it before the end is logged."""
    packing = {".gz": "gzip", ".zst": "zstd"}.get("." + suffix.rsplit(".", 1)[-1])
    size = 0
    try:
        for chunk in _chunks(path, packing):
            size += len(chunk)
            if packing and size > limits.file_bytes:
                found = f"more than {limits.file_bytes:,} bytes when unpacked"
                log.error("expands_too_large", file, None, found, f"at most {limits.file_bytes:,}", "split the file")
                return
            yield chunk
    except _PackingError as error:
        found = f"data that {packing} cannot read ({error})"
        mend = "what follows is left out" if size else None
        log.fault("type_mismatch", file, None, found, f"{packing} data", "compress the file again", mend=mend)


class _PackingError(Exception):
    """Compressed data that is broken or ends too early."""


def _chunks(path: Path, packing: str | None) -> Iterator[bytes]:
    with path.open("rb") as raw:
        if packing == "gzip":
            yield from _gunzip(raw)
        elif packing == "zstd":
            yield from _unzstd(raw)
        else:
            yield from iter(lambda: raw.read(_CHUNK), b"")


def _gunzip(raw: BinaryIO) -> Iterator[bytes]:
    # Not gzip.open: of a file that was cut off it gives back nothing of the last megabyte.
    inflate = None
    while data := raw.read(_CHUNK):
        while data:
            inflate = inflate or zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                if unpacked := inflate.decompress(data, _CHUNK):
                    yield unpacked
            except zlib.error as error:
                raise _PackingError(str(error)) from None
            if inflate.eof:  # another member, or the zeros that tapes are filled up with, may follow
                data, inflate = inflate.unused_data.lstrip(b"\0"), None
            else:
                data = inflate.unconsumed_tail
    if inflate is not None:
        yield inflate.flush()
        raise _PackingError("it ends too early")


def _unzstd(raw: BinaryIO) -> Iterator[bytes]:
    # Not stream_reader: it takes a file that was cut off for one that has ended.
    import zstandard

    frame = None
    while data := raw.read(_ZSTD_CHUNK):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                unpacked = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise _PackingError(str(error)) from None
            if unpacked:
                yield unpacked
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise _PackingError("it ends too early")


def _split(chunks: Iterable[bytes], longest: int | None) -> Iterator[tuple[int, bytes | None, int]]:
    """(number, line, bytes of it); a line over the limit is counted and not kept."""
    number, size = 1, 0
    pieces: list[bytes] = []

    def line(last: bytes) -> tuple[int, bytes | None, int]:
        whole = size + len(last)
        return number, (None if longest is not None and whole > longest else b"".join([*pieces, last])), whole

    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            yield line(piece)
            number += 1
            size, pieces = 0, []
        size += len(rest)
        if longest is not None and size > longest:
            pieces = []
        else:
            pieces.append(rest)
    yield line(b"")


class _Decoder:
    """Lines as text; outside repairs, a line with a fault is logged and None."""

    def __init__(self, file: str, log: ProblemLog) -> None:
        self._file, self._log = file, log
        self._encoding: str | None = None

    def text(self, line: bytes, number: int) -> str | None:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            # One guess for the whole file: its lines were written by one program.
            self._encoding = self._encoding or likely_encoding(line)
            found = f"byte 0x{line[error.start]:02x}, which is not UTF-8 (the text looks like {self._encoding})"
            mend, column = f"read as {self._encoding}", error.start + 1
            if not self._fault("bad_encoding", number, found, _FIX_ENCODING, column, mend):
                return None
            text = line.decode(self._encoding, "replace")
        if "\0" in text:
            found, mend = "a NUL byte", "NUL bytes removed"
            if not self._fault("type_mismatch", number, found, _FIX_TYPE, text.index("\0") + 1, mend):
                return None
            text = text.replace("\0", "")
        if text.startswith("\ufeff"):
            found, mend = "a byte order mark inside the file", "byte order mark removed"
            if not self._fault("bad_encoding", number, found, _FIX_ENCODING, 1, mend):
                return None
            text = text.lstrip("\ufeff")
        return text

    def _fault(self, code: str, number: int, found: str, fix: str, column: int, mend: str) -> bool:
        return self._log.fault(code, self._file, number, found, "UTF-8 text", fix, column=column, mend=mend)


def likely_encoding(sample: bytes) -> str:
    """The encoding that text, which is not UTF-8, was most likely written in."""
    from charset_normalizer import from_bytes

    western = sample.decode("cp1252", "replace")
    high = [c for c in western if c > "\x7f"]
    letters = sum(c.isalpha() for c in western)
    # Statistics say nothing about a few bytes; what Windows and the web write most often is the better guess there.
    if "\ufffd" not in high and (len(high) < 4 or (len(high) < 32 and 4 * len(high) <= letters)):
        return "cp1252"
    best = from_bytes(sample[:_CHUNK]).best()
    return best.encoding if best is not None and best.encoding not in ("ascii", "utf_8") else "cp1252"


def _wide_encoding(head: bytes) -> tuple[bytes, str | None]:
    """The byte order mark, and UTF-16 or UTF-32 by it, or by where the zero bytes of the first characters are."""
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return mark, encoding
    zeros = "".join("0" if byte == 0 else "x" for byte in head[:4])
    # The first character is ASCII in every format that is read here; the second one need not be.
    by_zeros = {"x000": "utf-32-le", "000x": "utf-32-be", "x0": "utf-16-le", "0x": "utf-16-be"}
    guess = by_zeros.get(zeros) or by_zeros.get(zeros[:2])
    if guess is None:
        return b"", None
    text = head[: len(head) // 4 * 4].decode(guess, "replace")
    readable = sum(c.isprintable() or c.isspace() for c in text)
    return b"", guess if "\0" not in text and readable >= 0.95 * len(text) else None


def _converted(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for chunk in chunks:
        if text := decoder.decode(chunk):
            yield text.encode()
    yield decoder.decode(b"", final=True).encode()


def _binary(head: bytes) -> str | None:
    """Bytes of no known kind that are no text either. A stray control character in a text has its own place."""
    controls = len(head) - len(head.translate(None, _CONTROL))
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "binary data" if controls > 0.05 * len(head) else None
    return "binary data" if len(head) >= 64 and controls > 0.3 * len(head) else None


def _other_text(head: bytes, suffix: str) -> str | None:
    start = head[:200].lstrip().lower()
    if suffix.startswith(".txt"):
        return None
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page" if b"html" in start else "an XML document"
    if suffix.startswith((".csv", ".tsv")) and re.match(rb'(\{\s*"|\[\s*\{\s*")\w', start):
        return "JSON"
    return None
