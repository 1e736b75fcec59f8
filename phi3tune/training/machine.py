"""What a plan needs to know of this machine: its device, how fast that multiplies, and what a worker costs to start.

Measured once in a process of its own, so that whoever plans need not load torch, and kept in the workspace.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import pairwise
from typing import Literal

from phi3tune import system
from phi3tune.errors import UserError
from phi3tune.paths import Workspace, write_json

WIDTHS = (256, 1024, 3072)  # of square weights; 3072 is Phi-3-mini's
TOKENS = 512
_SECONDS = 0.3  # of measuring for each number
_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Machine:
    """Memory in bytes, times in seconds.

    kind, name      `cpu`, or `cuda` with the GPU's name
    memory          of the device, in all
    bf16            whether it computes in bf16 natively
    products        by width: operations per second of a product [512, width] x [width, width] in the dtype it trains in
    bandwidth       bytes per second read and written by an addition of long vectors
    runtime         resident bytes of a process that has imported what a worker imports
    import_seconds  what those imports take
    """

    kind: Literal["cpu", "cuda"]
    name: str
    memory: int
    bf16: bool
    products: dict[str, float]
    bandwidth: float
    runtime: int
    import_seconds: float

    def operations_per_second(self, width: int) -> float:
        """The rate of matrix products of a width, between the measured ones in proportion."""
        known = sorted((int(size), rate) for size, rate in self.products.items())
        for (low, slow), (high, fast) in pairwise(known):
            if width <= high:
                share = max(0.0, (width - low) / (high - low))
                return slow + share * (fast - slow)
        return known[-1][1]


def this_machine(workspace: Workspace) -> Machine:
    """The machine that runs start on; measured on the first call (about 15 seconds), then read from the workspace."""
    path = workspace.root / "cache" / f"machine-{_identity()}.json"
    try:
        return Machine(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        machine = _measured_apart()
    write_json(path, asdict(machine))
    return machine


def _identity() -> str:
    """Another machine, number of cores or version of a library is measured again."""
    versions = [metadata.version(name) for name in ("torch", "transformers", "trl", "peft")]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    told = [platform.node(), platform.machine(), platform.python_version(), str(system.cores()), visible, *versions]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _measured_apart() -> Machine:
    argv = [sys.executable, "-m", "phi3tune.training.machine"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True)
        return Machine(**json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.SubprocessError, ValueError, TypeError, IndexError) as error:
        detail = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        raise UserError(
            f"this machine could not be measured ({' '.join(detail)[:200]}); look with: phi3tune doctor"
        ) from None


def measure() -> Machine:
    """Measure this machine in this process, which should have imported nothing yet."""
    started = time.monotonic()
    import torch
    from trl import SFTTrainer

    from phi3tune.engines.torch_model import choose_device, choose_dtype
    from phi3tune.training import trainer

    assert issubclass(trainer.PhiTrainer, SFTTrainer)
    import_seconds = time.monotonic() - started
    runtime = system.process_memory()
    torch.set_num_threads(system.cores())
    device = choose_device()
    cuda = device.type == "cuda"
    bf16 = choose_dtype(device) is torch.bfloat16
    dtype = torch.bfloat16 if cuda and bf16 else torch.float32

    def rate(width: int) -> float:
        left, right = (torch.randn(rows, width, device=device, dtype=dtype) for rows in (TOKENS, width))
        return 2.0 * TOKENS * width * width / _seconds(lambda: left @ right, cuda)

    vector = torch.randn(2**24, device=device)
    other, total = torch.randn_like(vector), torch.empty_like(vector)
    moved = 3 * vector.nbytes
    return Machine(
        kind="cuda" if cuda else "cpu",
        name=torch.cuda.get_device_name(device) if cuda else "cpu",
        memory=torch.cuda.get_device_properties(device).total_memory if cuda else system.memory().total,
        bf16=bf16,
        products={str(width): rate(width) for width in WIDTHS},
        bandwidth=moved / _seconds(lambda: torch.add(vector, other, out=total), cuda),
        runtime=runtime,
        import_seconds=import_seconds,
    )


def _seconds(work: object, cuda: bool) -> float:
    """The shortest time of one call: other programs only ever make it longer."""
    import torch

    assert callable(work)
    best, until = float("inf"), time.monotonic() + _SECONDS
    while time.monotonic() < until:
        started = time.perf_counter()
        work()
        if cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure())) + "\n")
