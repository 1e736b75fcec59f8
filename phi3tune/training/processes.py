"""What the processes of one run tell each other, over torch.distributed. With one process, each answers for itself.

Nothing here is pickled: what is sent are numbers and the bytes of files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch import distributed
from torch.utils.data import Sampler

from phi3tune import system

CHUNK_BYTES = 64 * 2**20


def begin() -> None:
    """Join the processes that torchrun started: gloo for CPU tensors and, where there are GPUs, nccl for theirs."""
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")


def end() -> None:
    """Leave them, when all have come this far."""
    wait()
    distributed.destroy_process_group()


def world() -> int:
    """Processes of the run, on all machines."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def leads() -> bool:
    """Whether this is the process that keeps the run."""
    return rank() == 0


def threads() -> int:
    """Threads for this process: the machine's cores, divided."""
    return max(1, system.cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def wait() -> None:
    """Go on when all processes are here."""
    if world() > 1:
        summed([0.0])


def summed(values: Sequence[float]) -> list[float]:
    """Element-wise sums over all processes."""
    if world() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]


def agreed(*values: float) -> tuple[float, ...]:
    """Process 0's values, in all processes. Whole numbers stay exact up to 2 ** 53."""
    if world() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64)
    distributed.broadcast(tensor, src=0)
    return tuple(tensor.tolist())


def same(digest: str) -> bool:
    """Whether all processes came with the digest of process 0."""
    if world() == 1:
        return True
    return summed([float(_told(digest.encode()) != digest.encode())]) == [0.0]


def share(root: Path, *patterns: str) -> None:
    """Process 0's files below `root` that fit the patterns, written by one process of every machine but its own."""
    if world() == 1:
        return
    found = sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()}) if leads() else []
    names = json.loads(_told(json.dumps([path.relative_to(root).as_posix() for path in found]).encode()))
    writes = os.environ["LOCAL_RANK"] == "0" and os.environ["GROUP_RANK"] != "0"
    for name in names:
        path = root / name
        if writes:
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") if leads() else Path(path if writes else os.devnull).open("wb") as stream:
            while chunk := _told(stream.read(CHUNK_BYTES) if leads() else b""):
                if not leads():
                    stream.write(chunk)
    wait()


def _told(content: bytes) -> bytes:
    """Process 0's bytes, in all processes."""
    size = int(agreed(len(content))[0])
    if not size:
        return b""
    tensor = (
        torch.frombuffer(bytearray(content), dtype=torch.uint8) if leads() else torch.empty(size, dtype=torch.uint8)
    )
    distributed.broadcast(tensor, src=0)
    return tensor.numpy().tobytes()


def collect(path: Path, places: Sequence[Path]) -> None:
    """Every process's file at `path`, written by process 0 at its one of `places`, in the order of the processes."""
    own = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in places]
    distributed.all_gather(sizes, torch.tensor([len(own)]))
    longest = max(int(size) for size in sizes)
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(own)] = own
    found = [torch.zeros_like(padded) for _ in places]
    distributed.all_gather(found, padded)
    if leads():
        for place, size, content in zip(places, sizes, found, strict=True):
            place.write_bytes(content[: int(size)].numpy().tobytes())


class EvenSampler(Sampler[int]):
    """The order of a run in one process, filled up so that every process gets as many batches.

    accelerate would fill up with rows from the start, which would be learned twice. Here the last place of the
    dataset, `rows`, is a row without loss.

    multiple  what the number of rows must be a multiple of
    epoch     tells the epoch that begins: after a resume within an epoch, accelerate does not pass it on to here
    """

    def __init__(self, rows: int, multiple: int, seed: int, epoch: Callable[[], int]) -> None:
        self._order = SeedableRandomSampler(range(rows), data_seed=seed)
        self._blank = rows
        self._missing = -rows % multiple
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self._order.set_epoch(self._epoch())
        yield from self._order
        yield from [self._blank] * self._missing

    def __len__(self) -> int:
        return self._blank + self._missing

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader."""
        self._order.set_epoch(epoch)
