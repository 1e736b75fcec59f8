"""Time and peak memory of merging an adapter at full size: `python benchmarks/full_size_merge.py FOLDER`.

FOLDER is what `benchmarks/full_size.py` makes; the adapter is random: LoRA of rank 16, and DoRA of the same rank, on
all linear layers. Merge and copy of the folder take turns, each in a process of its own. The aim: a peak of at most
the largest shard and 1 GB, in at most twice the time of the copy. `--json` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RANK = 16
TARGETS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
COPY = "copy"


def make_adapter(base: Path, folder: Path, *, dora: bool) -> None:
    """A random adapter that changes every linear layer a little."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                if key.split(".")[-2] in TARGETS:
                    rows, columns = file.get_slice(key).get_shape()
                    name = f"base_model.model.{key.removesuffix('.weight')}.lora_"
                    tensors[f"{name}A.weight"] = torch.randn(RANK, columns, generator=generator) * 0.01
                    tensors[f"{name}B.weight"] = torch.randn(rows, RANK, generator=generator) * 0.01
                    if dora:
                        tensors[f"{name}magnitude_vector"] = torch.rand(rows, generator=generator) + 0.5
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name,
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": list(TARGETS),
        "use_dora": dora,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def child(base: Path, adapter: str, out: Path) -> None:
    """One merge or copy in this process; what is timed leaves out the imports."""
    if adapter == COPY:
        began = time.monotonic()
        shutil.copytree(base, out)
        # As an export does: written is what a power cut does not take.
        for path in out.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    else:
        from phi3tune.export.merge import merge

        began = time.monotonic()
        merge(base, Path(adapter), out)
    print(time.monotonic() - began)


def measure(base: Path, adapter: str, out: Path) -> tuple[float, int]:
    """Seconds and peak bytes of resident memory."""
    command = [sys.executable, __file__, str(base), "--child", adapter, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"the child for {adapter} failed")
    shutil.rmtree(out)
    return float(said.split()[-1]), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(given.folder, given.child, given.out)
        return 0
    largest = max(path.stat().st_size for path in given.folder.glob("*.safetensors"))
    with tempfile.TemporaryDirectory(dir=given.folder.parent) as scratch:
        adapters = {COPY: COPY}
        for name in ("lora", "dora"):
            make_adapter(given.folder, Path(scratch) / name, dora=name == "dora")
            adapters[name] = str(Path(scratch) / name)
        figures: dict[str, list[tuple[float, int]]] = {name: [] for name in adapters}
        for _ in range(given.rounds):
            for name, adapter in adapters.items():
                figures[name].append(measure(given.folder, adapter, Path(scratch) / "out"))
    rows: list[dict[str, Any]] = []
    for name, rounds in figures.items():
        ratios = [ours[0] / copied[0] for ours, copied in zip(rounds, figures[COPY], strict=True)]
        rows.append(
            {
                "work": name,
                "seconds": statistics.median(row[0] for row in rounds),
                "ratio": statistics.median(ratios),
                "peak_bytes": max(row[1] for row in rounds),
            }
        )
    if given.json:
        print(json.dumps({"largest_shard": largest, "rounds": given.rounds, "rows": rows}))
        return 0
    print(
        f"largest shard {largest / 1e9:.2f} GB, so at most {largest / 1e9 + 1:.2f} GB; medians of {given.rounds} rounds"
    )
    print(f"{'work':6} {'seconds':>8} {'of a copy':>10} {'peak GB':>8}")
    for row in rows:
        print(f"{row['work']:6} {row['seconds']:8.1f} {row['ratio']:10.2f} {row['peak_bytes'] / 1e9:8.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
