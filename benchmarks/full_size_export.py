"""Time and peak memory of ONNX builds at full size: `python benchmarks/full_size_export.py FOLDER`.

FOLDER is what `benchmarks/full_size.py` makes. Every build runs in a process of its own; its peak is that of resident
memory, pages of mapped files included. `--stock` measures onnxruntime-genai's own builder beside ours, with the same
options (it needs 23 GB of memory), `--case NAME` runs one case, `--keep OUT` keeps the builds under OUT, `--json`
prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CASES: dict[str, dict[str, Any]] = {
    "int4": {"precision": "int4"},
    "int4-b32": {"precision": "int4", "block_size": 32},
    "int4-b64": {"precision": "int4", "block_size": 64},
    "int4-b128": {"precision": "int4", "block_size": 128},
    "int4-b32-plain": {"precision": "int4", "block_size": 32, "mixed": False, "quantize_embeddings": False},
    "int4-b64-plain": {"precision": "int4", "block_size": 64, "mixed": False},
    "int4-b128-plain": {"precision": "int4", "block_size": 128, "mixed": False},
    "int4-k_quant": {"precision": "int4", "algorithm": "k_quant"},
    "int8": {"precision": "int8"},
    "fp16": {"precision": "fp16"},
    "fp32": {"precision": "fp32"},
}


def child(source: Path, out: Path, case: str, *, stock: bool) -> None:
    """One build, in this process."""
    from phi3tune.export import onnx, streamed

    out.mkdir(parents=True)
    if stock:
        streamed._CLASSES = ()  # no class of the builder is changed
    with contextlib.redirect_stdout(sys.stderr):
        onnx.build(source, out, scratch=out.parent, **CASES[case])


def measure(source: Path, out: Path, case: str, *, stock: bool) -> dict[str, Any]:
    """Seconds, processor seconds, peak bytes of memory and bytes on disk of one build."""
    command = [sys.executable, __file__, str(source), "--child", case, "--keep", str(out), *(["--stock"] * stock)]
    began = time.monotonic()
    # The log in a file: os.wait4, which tells the memory of this very child, would not empty a pipe.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            log.seek(0)
            raise SystemExit(log.read().decode(errors="replace")[-2000:])
    return {
        "build": case,
        "builder": "stock" if stock else "ours",
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "size_bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(given.folder, given.keep, given.child, stock=given.stock)
        return 0
    rows = []
    for case in given.case or ["int4", "int8", "fp16"]:
        for stock in (True, False) if given.stock else (False,):
            with tempfile.TemporaryDirectory(dir=given.keep or given.folder.parent) as scratch:
                out = Path(scratch) / case
                rows.append(measure(given.folder, out, case, stock=stock))
                if given.keep is not None and not stock:
                    out.rename(given.keep / case)
    if given.json:
        print(json.dumps(rows))
        return 0
    print(f"{'build':16} {'builder':8} {'seconds':>8} {'processor s':>12} {'peak GB':>8} {'size GB':>8}")
    for row in rows:
        print(
            f"{row['build']:16} {row['builder']:8} {row['seconds']:8.0f} {row['processor_seconds']:12.0f} "
            f"{row['peak_bytes'] / 1e9:8.2f} {row['size_bytes'] / 1e9:8.2f}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
