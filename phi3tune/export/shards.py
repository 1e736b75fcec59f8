"""Safetensors files tensor by tensor, so that a shard of gigabytes is read and written with megabytes of memory.

`safetensors.torch.save_file` wants all tensors of a file at once, and the pages of a mapped file count as memory while
they are read. The layout is safetensors' own: 8 bytes with the length of a JSON header, the header, the data
(https://huggingface.co/docs/safetensors, "Format").
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from phi3tune.errors import UserError

# The number formats that weights are merged in; tensors of others are only copied.
FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_CHUNK = 1 << 20
_ALIGNED = 8
_PENDING = 4
_SYNC_BYTES = 256 << 20


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its safetensors dtype, its shape, and where its `length` bytes start in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    length: int


def read_header(path: Path) -> tuple[list[Stored], dict[str, str]]:
    """The tensors of a file in the order of their data, and its metadata.

    Raises `UserError` when the file is no whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt"):  # checks that the tensors fill the file without holes or overlaps
            pass
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}; download or make it again") from None
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    metadata = header.pop("__metadata__", {})
    first = 8 + length
    tensors = [
        Stored(name, entry["dtype"], tuple(entry["shape"]), first + start, end - start)
        for name, entry in header.items()
        for start, end in [entry["data_offsets"]]
    ]
    return sorted(tensors, key=lambda tensor: tensor.start), metadata


class HashedFile:
    """A new file, written, hashed and synced by a thread of its own while the next bytes are made.

    Raises what the writing raised, such as a full disk, at a later `write` or at the end.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb", buffering=0)
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()
        self._unsynced = 0

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            while self._pending:
                self._pending.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._stream.close()

    def write(self, part: bytes | memoryview) -> None:
        """Append `part`, which must not change from now on. A few parts wait in memory, not more."""
        self._pending.append(self._thread.submit(self._write, part))
        if len(self._pending) > _PENDING:
            self._pending.popleft().result()

    def _write(self, part: bytes | memoryview) -> None:
        left = memoryview(part)
        while left:
            left = left[self._stream.write(left) :]
        self._hash.update(part)
        self._unsynced += len(part)
        if self._unsynced >= _SYNC_BYTES:  # all at the end would leave the disk idle until then
            os.fsync(self._stream.fileno())
            self._unsynced = 0

    @property
    def sha256(self) -> str:
        """Of the whole file, once it is closed."""
        return self._hash.hexdigest()


def write_header(target: HashedFile, tensors: Iterable[Stored], metadata: dict[str, str]) -> None:
    """The header of a file that holds these tensors one after another; their `start` is not looked at."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.length],
        }
        end += tensor.length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    target.write(len(text).to_bytes(8, "little") + text)


def rows(stream: BinaryIO, tensor: Stored) -> Iterator[tuple[int, torch.Tensor]]:
    """The rows of a matrix [out, in] in pieces [n, in] with the number of their first; each is the caller's to change.

    A piece is small enough for a processor's cache.
    """
    dtype = FLOATS[tensor.dtype]
    count, width = tensor.shape
    at_once = max(1, _CHUNK // width)
    stream.seek(tensor.start)
    for first in range(0, count, at_once):
        part = bytearray(stream.read(min(at_once, count - first) * width * dtype.itemsize))
        yield first, torch.frombuffer(part, dtype=dtype).view(-1, width)


def copy(source: BinaryIO, tensor: Stored, target: HashedFile) -> None:
    """The tensor's bytes as they are."""
    source.seek(tensor.start)
    left = tensor.length
    while left:
        part = source.read(min(left, 2 * _CHUNK))
        target.write(part)
        left -= len(part)


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a tensor, without a copy where it is contiguous."""
    return tensor.detach().contiguous().view(torch.uint8).numpy().reshape(-1).data
