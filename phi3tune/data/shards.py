"""Several files of one part of a dataset become one, in memory that does not grow with their size.

They are a stranger's files: they are unpacked and parsed in a process of its own, `python -m phi3tune.data.shards`.
Standard input holds one JSON object (shards, stem, limits), standard output one with the `file` or the `error`.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from phi3tune import system
from phi3tune.data.files import LIMITS, MAX_FILE_BYTES, suffix_of
from phi3tune.data.lines import Limits
from phi3tune.errors import UserError

_BATCH_ROWS = 1_000
_CHUNK = 1024 * 1024
_BOM = b"\xef\xbb\xbf"


def merge_in_child(shards: Sequence[tuple[str, Path]], stem: Path, limits: Limits = LIMITS) -> Path:
    """`merge` in a child process with limits on memory and time. Raises `UserError` also when they are exceeded."""
    named = [(name, str(path)) for name, path in shards]
    request = json.dumps({"shards": named, "stem": str(stem), "limits": dataclasses.asdict(limits)})
    command = [sys.executable, "-m", "phi3tune.data.shards"]
    # pyarrow's own allocator reserves more address space than the limit leaves.
    env, pipe = {"ARROW_DEFAULT_MEMORY_POOL": "system"}, subprocess.PIPE
    process = system.start_process(command, env=env, stdin=pipe, output=pipe, errors=pipe)
    late = False
    try:
        said, errors = process.communicate(request.encode(), timeout=2 * limits.cpu_seconds)
    except subprocess.TimeoutExpired:
        late, said, errors = True, b"", b""
    finally:
        if process.poll() is None:
            system.kill_group(process.pid)
            process.communicate()
    reply = json.loads(said or b"{}")
    if "file" in reply:
        return stem.with_name(reply["file"])
    ended = system.signal_name(-process.returncode) if process.returncode < 0 else ""
    if late or ended in ("SIGKILL", "SIGXCPU"):
        reply = {"error": f"{_group(shards)} take more than {limits.cpu_seconds:,} seconds or the memory that is free"}
    if "error" not in reply:
        raise RuntimeError(f"merging ended with code {process.returncode}: {errors.decode('utf-8', 'replace')[-2000:]}")
    raise UserError(reply["error"])


def _group(shards: Sequence[tuple[str, Path]]) -> str:
    return shards[0][0] if len(shards) == 1 else f"{shards[0][0]} to {shards[-1][0]}"


def merge(shards: Sequence[tuple[str, Path]], stem: Path) -> Path:
    """Write the rows of `shards` (name, file), in order, to `stem` with the suffix of their type; returns that file.

    A single file is copied as it is. JSON Lines and CSV come out unpacked. Raises `UserError` when the files cannot
    be read or do not belong together, or when they unpack to more than a dataset file may have.
    """
    name, first = shards[0]
    suffix = suffix_of(name) or ""
    kind, compression = _kind(suffix)
    if kind == ".json" and _is_lines(first, compression):  # the Hub has many .json files with one object on a line
        kind, suffix = ".jsonl", suffix.replace(".json", ".jsonl")
    if len(shards) == 1:
        return Path(shutil.copyfile(first, stem.with_name(stem.name + suffix)))
    target = stem.with_name(stem.name + kind)
    if kind == ".parquet":
        _merge_parquet(shards, target)
    elif kind == ".json":
        names = ", ".join(name for name, _ in shards[:3])
        raise UserError(f"{names} are several JSON documents for one part; save them as JSON Lines (.jsonl)")
    else:
        _merge_text(shards, target, header=kind != ".jsonl")
    return target


def _kind(suffix: str) -> tuple[str, str]:
    """Type and compression: `.jsonl.gz` -> (`.jsonl`, `.gz`)."""
    compression = next((end for end in (".gz", ".zst") if suffix.endswith(end)), "")
    return suffix.removesuffix(compression), compression


def _open(path: Path, compression: str) -> IO[bytes]:
    if compression == ".gz":
        return cast(IO[bytes], gzip.open(path))
    if compression == ".zst":
        import zstandard

        return cast(IO[bytes], zstandard.open(path, "rb"))
    return path.open("rb")


def _is_lines(path: Path, compression: str) -> bool:
    """True when the first line is a JSON object by itself and something follows it."""
    with _reading(path.name), _open(path, compression) as stream:
        line, more = stream.readline(_CHUNK), stream.read(1)
    try:
        return bool(more) and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _merge_text(shards: Sequence[tuple[str, Path]], target: Path, *, header: bool) -> None:
    written = 0
    columns: bytes | None = None
    with target.open("wb") as out:
        for name, path in shards:
            with _reading(name), _open(path, _kind(suffix_of(name) or "")[1]) as stream:
                chunk = stream.readline(_CHUNK).removeprefix(_BOM)
                if header and columns is None:
                    columns = chunk.strip()
                elif header:
                    if chunk.strip() != columns:
                        raise UserError(f"{name} has other columns than {shards[0][0]}; use files with the same header")
                    chunk = stream.read(_CHUNK)
                last = b""
                while chunk:
                    written += out.write(chunk)
                    if written > MAX_FILE_BYTES:
                        raise UserError(_too_large(name))
                    last, chunk = chunk[-1:], stream.read(_CHUNK)
                if last not in (b"", b"\n"):
                    written += out.write(b"\n")


def _merge_parquet(shards: Sequence[tuple[str, Path]], target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    unpacked = 0
    writer = None
    try:
        for name, path in shards:
            try:
                with pq.ParquetFile(path) as table:
                    if writer is None:
                        writer = pq.ParquetWriter(target, table.schema_arrow.remove_metadata(), compression="zstd")
                    for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                        unpacked += batch.nbytes
                        if unpacked > MAX_FILE_BYTES:
                            raise UserError(_too_large(name))
                        writer.write_batch(batch.cast(writer.schema))
            except MemoryError:  # pyarrow's is an ArrowException, too
                raise
            except (pa.ArrowException, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(
                    f"{name} cannot be read as Parquet with the columns of {shards[0][0]}: {reason}"
                ) from None
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Faults of a compressed file as the user's mistake."""
    try:
        yield
    except Exception as error:
        # zstandard is only imported where it is needed
        if not isinstance(error, EOFError | zlib.error | gzip.BadGzipFile) and type(error).__name__ != "ZstdError":
            raise
        raise UserError(f"{name} cannot be unpacked: {' '.join(str(error).split())[:200]}") from None


def _too_large(name: str) -> str:
    return f"the files up to {name} unpack to more than {MAX_FILE_BYTES:,} bytes; use a smaller dataset or split"


def main() -> None:
    request = json.load(sys.stdin)
    limits = Limits(**request["limits"])
    system.limit_this_process(limits.memory_bytes, limits.cpu_seconds)
    shards = [(name, Path(path)) for name, path in request["shards"]]
    try:
        reply = {"file": merge(shards, Path(request["stem"])).name}
    except UserError as error:
        reply = {"error": str(error)}
    except MemoryError:
        reply = {"error": f"{_group(shards)} take more than {limits.memory_bytes:,} bytes of memory to be read"}
    except OSError as error:
        reply = {"error": f"{_group(shards)} cannot be stored: {error.strerror or error}"}
    sys.stdout.write(json.dumps(reply))


if __name__ == "__main__":
    main()
