"""The memory table of docs/gpu.md, from the plan's own estimate: `python -m benchmarks.gpu_memory`."""

from __future__ import annotations

from typing import Any

from phi3tune.config import TrainConfig, parse
from phi3tune.training.memory import Fed, Shape, estimate

# microsoft/Phi-3-mini-4k-instruct; the 128k model and Phi-3.5-mini have the same widths.
MINI = Shape(
    layers=32, hidden=3072, intermediate=8192, heads=32, key_heads=32, head_size=96, vocabulary=32064, tied=False
)
LENGTHS = (512, 1024, 2048, 4096)
METHODS: dict[str, dict[str, Any]] = {
    "--method qlora": {"method": "qlora"},
    "--method qlora8": {"method": "qlora8"},
    "--method lora": {"method": "lora"},
    "--method full --optimizer adamw_8bit": {"method": "full", "optimizer": "adamw_8bit"},
    "--method full": {"method": "full"},
}


def table() -> str:
    """Markdown: GB at the peak of a step of Phi-3-mini on one GPU, without and with gradient checkpointing."""
    lines = ["| | " + " | ".join(f"{length:,} tokens" for length in LENGTHS) + " |", "|---|" + "---:|" * len(LENGTHS)]
    for name, settings in METHODS.items():
        cells = [" / ".join(_gigabytes(settings, length, on) for on in (False, True)) for length in LENGTHS]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gigabytes(settings: dict[str, Any], length: int, checkpointing: bool) -> str:
    """The peak in bf16, with passes of `length` packed tokens of which half bear loss."""
    config = parse(TrainConfig, {"dataset": "lantern-support", "max_length": length, **settings})
    fed = Fed(rows=1, tokens=length, scored=length // 2, masked=True)
    found = estimate(config, MINI, fed, number=2, accumulates=True, checkpointing=checkpointing, runtime=None)
    return f"{found.peak / 1e9:.1f}"


if __name__ == "__main__":
    print(table())
