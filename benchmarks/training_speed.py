"""Useful tokens per second of training against a stock TRL script and a bare PyTorch loop, in one run.

    python -m benchmarks.training_speed ROWS.jsonl [--rows 128] [--rounds 3]

ROWS.jsonl holds `question` and `answer` (gsm8k does). A random Phi-3 of 8.5 M parameters with the real tokenizer is
fine-tuned whole, in fp32, on the same rows in the same order, eight conversations to an optimizer step. Three ways,
each in a process of its own, in turns:

    stock  TRL's SFTTrainer with TRL's defaults and assistant-only loss (its bf16 off: this is for CPUs without it)
    ours   `phi3tune.training.train`, as a worker runs it
    bare   a plain loop over the very batches that `ours` drew, which scores only loss-bearing positions

Useful tokens are non-padding tokens. The first step is left out: it allocates memory. Limits: ours at least 3 times
stock and at least 0.8 of bare, and a loss curve that is stock's within noise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

BATCH, SEED, LEARNING_RATE, MAX_LENGTH = 8, 42, 1e-3, 1024
WAYS = ("stock", "ours", "bare")
Steps = list[tuple[float, float]]  # of every optimizer step: the time of its end, its loss


def stock(folder: Path) -> Steps:
    from datasets import Dataset
    from transformers import AutoTokenizer, Phi3ForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer = SFTTrainer(
        model=Phi3ForCausalLM.from_pretrained(folder / "model"),
        args=SFTConfig(
            output_dir=str(folder / "stock"),
            assistant_only_loss=True,
            bf16=False,
            use_cpu=True,
            learning_rate=LEARNING_RATE,
            num_train_epochs=1,
            seed=SEED,
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([json.loads(line) for line in (folder / "rows.jsonl").open()]),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[Clock()],
    )
    trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return list(zip(ends, losses, strict=True))


def ours(folder: Path, *, keep_batches: bool = False) -> Steps:
    from phi3tune.config import TrainConfig
    from phi3tune.events import Event, Metrics
    from phi3tune.paths import Workspace
    from phi3tune.training import train

    steps: Steps = []

    class Reader:
        def emit(self, event: Event) -> None:
            if isinstance(event, Metrics):
                steps.append((time.perf_counter(), event.values["loss"]))

        def stop_requested(self) -> bool:
            return False

    config = TrainConfig(
        dataset=str(folder / "rows.jsonl"),
        model=str(folder / "model"),
        method="full",
        epochs=1,
        batch_size=BATCH,
        max_length=MAX_LENGTH,
        learning_rate=LEARNING_RATE,
        scheduler="linear",
        warmup_share=0.0,
        validation_share=0.0,
        test_share=0.0,
        log_steps=1,
        save_steps=1_000_000,
        seed=SEED,
        dtype="fp32",
    )
    if keep_batches:
        _keep_batches(folder / "batches.pt")
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace(Path(home))
        run = workspace.runs / "speed"
        run.mkdir(parents=True)
        train(config, run, workspace, Reader(), resume=False)
    return steps


def _keep_batches(path: Path) -> None:
    """From now on, write down what the trainer is given: a list of steps, each a list of batches."""
    import torch

    from phi3tune.training.trainer import PhiTrainer

    compute = PhiTrainer.compute_loss
    steps: dict[int, list[dict[str, torch.Tensor]]] = {}

    def keeping(self: PhiTrainer, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        steps.setdefault(self.state.global_step, []).append(dict(inputs))
        torch.save(list(steps.values()), path)
        return compute(self, model, inputs, *args, **kwargs)

    PhiTrainer.compute_loss = keeping  # type: ignore[method-assign]


def bare(folder: Path) -> Steps:
    import torch
    from torch.nn import functional
    from transformers import Phi3ForCausalLM

    model = Phi3ForCausalLM.from_pretrained(folder / "model").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    batches = torch.load(folder / "batches.pt")
    steps = []
    for number, step in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - number / len(batches))
        tokens = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in step)
        total = 0.0
        for batch in step:
            targets = batch.pop("labels")[:, 1:]
            where = targets != -100
            hidden = model.model(**batch, use_cache=False).last_hidden_state[:, :-1][where]
            loss = functional.cross_entropy(model.lm_head(hidden), targets[where], reduction="sum") / tokens
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps.append((time.perf_counter(), total))
    return steps


def prepare(folder: Path, source: Path, rows: int) -> list[int]:
    """The model, the rows and the batches of all ways; returns the useful tokens of every step."""
    import torch

    from tests.fakes import tiny_phi3

    lengths = {"max_position_embeddings": 2 * MAX_LENGTH, "original_max_position_embeddings": 2 * MAX_LENGTH}
    tiny_phi3(folder / "model", hidden_size=128, intermediate_size=256, **lengths)
    given = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()[:rows]]
    chats = [
        [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}] for row in given
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    ours(folder, keep_batches=True)
    return [sum(_useful(batch) for batch in step) for step in torch.load(folder / "batches.pt")]


def _useful(batch: dict[str, Any]) -> int:
    return int(batch["attention_mask"].sum() if "attention_mask" in batch else batch["input_ids"].numel())


def measured(way: str, folder: Path) -> Steps:
    """One way in a new process."""
    command = [sys.executable, "-m", "benchmarks.training_speed", "--way", way, str(folder)]
    quiet = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=quiet)
    steps: Steps = json.loads(done.stdout.splitlines()[-1])
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps({"stock": stock, "ours": ours, "bare": bare}[given.way](given.source)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = prepare(folder, given.source, given.rows)
        rounds = [{way: measured(way, folder) for way in WAYS} for _ in range(given.rounds)]
    speeds = {way: [sum(tokens[1:]) / (turn[way][-1][0] - turn[way][0][0]) for turn in rounds] for way in WAYS}
    curves = {way: [loss for _, loss in rounds[0][way]] for way in WAYS}
    print(f"{given.rows} rows, {sum(tokens):,} useful tokens, {len(tokens)} steps; medians of {given.rounds} rounds\n")
    print("| way | useful tokens/s | ours against it | limit | first loss | last loss | furthest from stock's loss |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for way, limit in zip(WAYS, ("3", "", "0.8"), strict=True):
        ratio = median(mine / its for mine, its in zip(speeds["ours"], speeds[way], strict=True))
        furthest = max(abs(a - b) for a, b in zip(curves[way], curves["stock"], strict=True))
        print(
            f"| {way} | {median(speeds[way]):,.0f} | {ratio:.2f} | {limit} | {curves[way][0]:.4f} | "
            f"{curves[way][-1]:.4f} | {furthest:.4f} |"
        )


if __name__ == "__main__":
    main()
