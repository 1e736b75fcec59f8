"""Builds as an export leaves them, with bytes in place of weights: for what never loads them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from phi3tune.engines.folders import TOKENIZER_FILES
from phi3tune.export.parity import LIMITS
from phi3tune.paths import NANO, Workspace, new_folder, write_json
from tests.ended_runs import ended_run

FIGURES = {
    "tokens": 100, "kl_mean": 3e-3, "kl_p99": 0.02, "top1_agreement": 0.98, "perplexity_merged": 1.5,
    "perplexity_build": 1.51, "perplexity_ratio": 1.0067, "greedy_match": 1.0,
}  # fmt: skip


def parity_report(*, passed: bool = True) -> dict[str, Any]:
    """A parity.json of an int4 build; a failing one misses at the longest prompt."""
    bad = {} if passed else {"kl_mean": 0.5}
    contexts = [
        {"length": length, "share": length / 1024, **FIGURES, **(bad if length == 1024 else {}), "missed": []}
        for length in (256, 512, 768, 1024)
    ]
    return {
        "schema": 2,
        "precision": "int4",
        "rows": 12,
        **FIGURES,
        "contexts": contexts,
        "limits": LIMITS["int4"].__dict__,
        "missed": [] if passed else ["mean KL 0.5 at 1,024 tokens is above 0.02"],
        "passed": passed,
        "data": {"dataset": "chats <b>", "part": "test"},
        "measured": {
            "size_bytes": 5_000_000, "load_seconds": 0.31, "prefill_tokens_per_second": 2400.0,
            "decode_tokens_per_second": 810.5, "peak_memory_bytes": 120_000_000, "threads": 1,
        },
    }  # fmt: skip


def fake_build(
    workspace: Workspace, run: str, name: str = "int4", *, passed: bool = True, weights: bytes = b"w" * 5000
) -> Path:
    """`RUN/onnx/NAME` of a finished run on phi3-nano, made when it is not there."""
    home = workspace.runs / run
    if not home.is_dir():
        dataset = "/home/ada/private/chats.jsonl"
        ended_run(workspace, run, model="phi3-nano", dataset=dataset, lora_rank=4)
        write_json(home / "dataset.json", {"name": "chats", "sha256": "5e" * 32, "source": dataset})
    with new_folder(home / "onnx" / name) as folder:
        for file in ("config.json", "generation_config.json", *TOKENIZER_FILES):
            if (NANO / file).is_file():
                shutil.copy(NANO / file, folder / file)
        (folder / "model.onnx").write_bytes(b"onnx graph")
        (folder / "model.onnx.data").write_bytes(weights)
        decoder = {"filename": "model.onnx", "session_options": {}}
        write_json(folder / "genai_config.json", {"model": {"type": "phi3", "decoder": decoder}})
        record = {"precision": "int4", "device": "cpu", "made_from": run, "scratch": str(workspace.root / "job")}
        write_json(folder / "build.json", {"schema": 1, **record})
        write_json(folder / "parity.json", parity_report(passed=passed))
        (folder / "notes.txt").write_text("not to be published")
    return home / "onnx" / name
