"""Time and peak memory of ONNX builds at full size: `python benchmarks/full_size_export.py FOLDER`.

FOLDER is what `benchmarks/full_size.py` makes. Every build runs in a process of its own; its peak is that of the
resident memory, pages of mapped files included. `--stock` measures onnxruntime-genai's own builder beside ours (it
needs 23 GB of memory), `--keep OUT` keeps the builds under OUT, `--json` prints JSON.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CASES: dict[str, dict[str, Any]] = {
    "int4": {"precision": "int4"},
    "int4, k_quant": {"precision": "int4", "algorithm": "k_quant"},
    "int4, rtn, plain": {"precision": "int4", "algorithm": "rtn", "mixed": False, "quantize_embeddings": False},
    "int8": {"precision": "int8"},
    "fp16": {"precision": "fp16"},
    "fp32": {"precision": "fp32"},
}


def child(source: Path, out: Path, case: str, *, stock: bool) -> None:
    """One build, in this process."""
    from phi3tune.export import onnx, streamed

    out.mkdir(parents=True)
    unchanged = contextlib.nullcontext()
    with contextlib.ExitStack() as stack:
        if stock:
            streamed.builder_classes = lambda: stack.enter_context(unchanged) or unchanged  # type: ignore[assignment]
        onnx.build(source, out, scratch=out.parent, **CASES[case])


def measure(source: Path, out: Path, case: str, *, stock: bool) -> dict[str, Any]:
    """Seconds, peak bytes of memory and bytes on disk of one build."""
    command = [sys.executable, __file__, str(source), "--child", case, "--keep", str(out)]
    began = time.monotonic()
    with (out.parent / "log.txt").open("w") as log:
        subprocess.run([*command, *(["--stock"] if stock else [])], check=True, stdout=log, stderr=log)
    return {
        "build": case,
        "builder": "stock" if stock else "ours",
        "seconds": round(time.monotonic() - began, 1),
        # Of the largest child so far: cases run from small to large would hide one another, so each is run by itself.
        "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "size_bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    }
