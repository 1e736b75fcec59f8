"""Peak memory of training as planned and as measured, on this machine: `python benchmarks/memory_plan.py`.

Every case trains a few steps in a process of its own; measured is that process's peak resident memory (on a GPU, the
peak of what PyTorch allocated). `--case NAME` runs one case, `--json` prints the table as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
LIMIT = 0.15
STEPS = 3


@dataclass(frozen=True)
class Case:
    """`shape` None is phi3-nano; otherwise the widths of a random Phi-3 with phi3-nano's tokenizer.

    `words` are those of each row's answer.
    """

    name: str
    settings: dict[str, Any]
    shape: dict[str, int] | None = None
    words: int = 60
    rows: int = 32


WIDE = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
DEEP = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 6}
BIG = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 12}
VOCABULARY = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4}
CASES = [
    Case("nano, lora", {"method": "lora"}),
    Case("nano, full", {"method": "full"}),
    Case("wide, lora, micro batch 8", {"method": "lora", "micro_batch": 8}, WIDE, 200),
    Case("wide, dora, micro batch 8", {"method": "dora", "micro_batch": 8}, WIDE, 200),
    Case("wide, lora, dropout", {"method": "lora", "micro_batch": 8, "lora_dropout": 0.1}, WIDE, 200),
    Case("wide, last 2 layers", {"method": "last_layers", "micro_batch": 8}, WIDE, 200),
    Case("deep, lora, 1,900 tokens a row", {"method": "lora", "batch_size": 2, "max_length": 2048}, DEEP, 900),
    Case(
        "deep, lora, checkpointing",
        {"method": "lora", "batch_size": 2, "max_length": 2048, "gradient_checkpointing": "on"},
        DEEP,
        900,
    ),
    Case("big, full, adamw", {"method": "full", "micro_batch": 2}, BIG, 200),
    Case("big, full, adafactor", {"method": "full", "micro_batch": 2, "optimizer": "adafactor"}, BIG, 200),
    Case("big, lora, padded", {"method": "lora", "micro_batch": 4, "packing": False}, BIG, 150),
    Case("32k vocabulary, lora", {"method": "lora", "micro_batch": 8}, {**VOCABULARY, "vocab_size": 32064}, 200),
]


def model(case: Case, folder: Path) -> Path:
    """The case's model in `folder`, with phi3-nano's tokenizer."""
    from phi3tune.paths import NANO
    from tests.fakes import tiny_phi3

    if case.shape is None:
        return NANO
    widths = {"num_key_value_heads": case.shape["num_attention_heads"], "max_position_embeddings": 4096}
    vocabulary = json.loads((NANO / "config.json").read_text())["vocab_size"]
    ours = {"vocab_size": vocabulary, "original_max_position_embeddings": 4096, **widths, **case.shape}
    return tiny_phi3(folder, tokenizer=NANO, **ours)


def rows(case: Case, path: Path) -> Path:
    words = [
        "the",
        "lamp",
        "hums",
        "when",
        "bells",
        "ring",
        "and",
        "a",
        "blue",
        "door",
        "opens",
        "to",
        "small",
        "gardens",
    ]
    with path.open("w") as stream:
        for number in range(case.rows):
            length = case.words - number % 7 * (case.words // 20)
            answer = " ".join(words[(number + place * place) % len(words)] for place in range(length))
            chat = [{"role": "user", "content": f"Tell story {number}."}, {"role": "assistant", "content": answer}]
            stream.write(json.dumps({"messages": chat}) + "\n")
    return path


def config(case: Case, folder: Path, base: Path) -> Any:
    from phi3tune.config import TrainConfig, parse

    settings = {
        "model": str(base),
        "dataset": str(rows(case, folder / "rows.jsonl")),
        "validation_share": 0.0,
        "test_share": 0.0,
        "max_steps": STEPS,
        "save_steps": STEPS,
        "dtype": "fp32",
        "sample_count": 0,
    }
    return parse(TrainConfig, {**settings, **case.settings})


def measure(case: Case, folder: Path, base: Path) -> int:
    """Train in this process; its peak in bytes."""
    from phi3tune.paths import Workspace
    from phi3tune.training import train
    from tests.fakes import RecordingReporter

    run = folder / "workspace" / "runs" / "case"
    run.mkdir(parents=True)
    train(config(case, folder, base), run, Workspace(folder / "workspace"), RecordingReporter(), resume=False)
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def compare(case: Case, workspace: Path) -> dict[str, Any]:
    """One row of the table: planned here, measured in a process of its own."""
    from phi3tune.paths import Workspace
    from phi3tune.training.plan import plan

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = model(case, folder / "model")
        planned = plan(config(case, folder, base), Workspace(workspace))
        argv = [sys.executable, __file__, "--measure", case.name, str(folder), str(base)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{case.name}: {done.stderr[-2000:]}")
        measured = int(done.stdout.splitlines()[-1])
    parts = planned.memory.as_dict()
    return {"case": case.name, "planned": parts["peak"], "measured": measured, "parts": parts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", help="only these")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if given.measure:
        name, folder, base = given.measure
        print(measure(next(case for case in CASES if case.name == name), Path(folder), Path(base)))
        return 0
    chosen = [case for case in CASES if not given.case or case.name in given.case]
    with tempfile.TemporaryDirectory() as workspace:
        found = []
        for case in chosen:
            found.append(compare(case, Path(workspace)))
            if not given.json:
                _print(found[-1])
    if given.json:
        print(json.dumps(found, indent=1))
    return 1 if any(abs(row["planned"] / row["measured"] - 1) > LIMIT for row in found) else 0


def _print(row: dict[str, Any]) -> None:
    off = row["planned"] / row["measured"] - 1
    sizes = ", ".join(f"{name} {size / 2**20:,.0f}" for name, size in row["parts"].items() if name != "peak")
    mark = "" if abs(off) <= LIMIT else "  OVER 15 %"
    print(
        f"{row['case']:<32} planned {row['planned'] / 2**20:6,.0f} MiB, measured {row['measured'] / 2**20:6,.0f} MiB, "
        f"{off:+.1%}{mark}   ({sizes})",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
