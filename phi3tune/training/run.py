"""A training run from its settings to its adapter or merged weights."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from phi3tune import data, system
from phi3tune.chat import Renderer
from phi3tune.config import TrainConfig
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.events import Event, Notice, Phase, Reporter, Resumed, read_events
from phi3tune.paths import Workspace, write_json
from phi3tune.training import checkpoints, settings, summary

DATASET_RECORD = "dataset.json"


class _History:
    """Passes events on and keeps them, behind those of earlier attempts."""

    def __init__(self, reporter: Reporter, earlier: list[Event]) -> None:
        self._reporter = reporter
        self.events = earlier

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self._reporter.emit(event)

    def stop_requested(self) -> bool:
        return self._reporter.stop_requested()


def train(
    config: TrainConfig, run_dir: Path, workspace: Workspace, reporter: Reporter, *, resume: bool
) -> dict[str, Any]:
    """Train in this process and save the outcome in `run_dir`; returns the run's result.

    With `resume`, goes on from the newest sound checkpoint, or from the start when there is none; the
    result then equals that of an uninterrupted run. When the reporter asks to stop, the step is
    finished and saved, and the result's `status` is `stopped`. Raises `UserError` when model or data
    cannot be trained on, when the loss diverges and when the disk is full.
    """
    history = _History(reporter, read_events(run_dir / "events.jsonl")[0] if resume else [])
    history.emit(Phase(name="reading the data"))
    ref = models.resolve(config.model, workspace)
    base = models.whole_weights(ref, workspace)
    models.verify(ref)
    renderer = Renderer.load(base)
    rows, held_out_rows, max_length = _rows(config, run_dir, workspace, history, renderer, base)

    history.emit(Phase(name="loading the model"))
    # How long a thread of GNU OpenMP spins before it sleeps. Long spinning takes the core from the thread that is
    # waited for as soon as anything else runs; none at all halves the speed of a small model on a quiet machine
    # (measured on phi3-nano: 2,100 against 4,000 tokens per second). Read once, when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    # torch, transformers and trl take seconds to import: a mistake in the data is told before.
    import torch

    from phi3tune.engines.torch_model import choose_device
    from phi3tune.training import artefacts
    from phi3tune.training.heldout import HeldOut
    from phi3tune.training.trainer import build, training_dtype
    from phi3tune.training.watch import Watch

    artefacts.record_base(run_dir, ref.ref, base)
    torch.set_num_threads(system.cores())
    device = choose_device()
    rate = _learning_rate(config, base, history)
    pass_tokens = min(max_length, settings.CPU_PASS_TOKENS) if device.type == "cpu" else max_length
    micro = settings.micro_batch(config.batch_size, rows.mean_tokens, pass_tokens)
    trainer = build(
        config,
        run_dir,
        base,
        ref.ref,
        rows.examples,
        rate=rate,
        micro=micro,
        dtype=training_dtype(config, device, base),
        device=device,
    )
    held_out = HeldOut(
        held_out_rows, renderer, sample_count=config.sample_count, max_prompt=max_length, batch_size=micro
    )
    watch = Watch(config, trainer, held_out, history)
    trainer.add_callback(watch)
    checkpoint = _resume_point(run_dir, history) if resume else None

    history.emit(Phase(name="training"))
    started = time.monotonic()
    try:
        trainer.go(checkpoint)
    except torch.OutOfMemoryError:
        raise UserError(
            f"the GPU's memory ran out at step {trainer.state.global_step + 1}; use --gradient-checkpointing, "
            f"a smaller --max-length than {config.max_length} or a smaller model"
        ) from None
    seconds = time.monotonic() - started

    if not watch.stopped:
        history.emit(Phase(name="saving"))
        if config.method == "lora":
            artefacts.save_adapter(trainer.model, run_dir)
        else:
            artefacts.save_merged(trainer.model, run_dir, base, renderer)
    return {
        "run": run_dir.name,
        "status": "stopped" if watch.stopped else "completed",
        "steps": trainer.state.global_step,
        "train_loss": summary.train_loss(history.events),
        "eval_loss": summary.last_value(history.events, "eval_loss"),
        "train_seconds": round(seconds, 2),
        "learning_rate": rate,
        "rows": len(rows.examples),
        "tokens": rows.tokens,
        "trained_tokens": rows.trained_tokens,
    }


def _rows(
    config: TrainConfig, run_dir: Path, workspace: Workspace, reporter: Reporter, renderer: Renderer, base: Path
) -> tuple[settings.Rows, settings.Rows, int]:
    """Training rows, validation rows, and the tokens that each was cut to."""
    record = run_dir / DATASET_RECORD
    saved = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
    dataset = data.load(config, workspace, saved=saved)
    if saved is not None and dataset.sha256 != saved["sha256"]:
        raise UserError(
            f"dataset {config.dataset} has changed since this run began; put the old rows back, or start a new run"
        )
    write_json(record, dataset.record())
    context = json.loads((base / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    max_length = min(config.max_length, context or config.max_length)
    rows, notices = settings.learnable(
        dataset.parts["train"], renderer, max_length, max_unlearnable_share=config.max_unlearnable_share
    )
    for notice in notices:
        reporter.emit(notice)
    held_out, _ = settings.learnable(dataset.parts["validation"], renderer, max_length, max_unlearnable_share=None)
    return rows, held_out, max_length


def _learning_rate(config: TrainConfig, base: Path, reporter: Reporter) -> float:
    width = json.loads((base / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    rate = settings.learning_rate(config, width)
    if config.learning_rate is None:
        message = f"Learning rate {rate:g}, chosen for {config.method} on a model of width {width}"
        reporter.emit(Notice(level="info", code="learning_rate_chosen", message=message))
    return rate


def _resume_point(run_dir: Path, reporter: Reporter) -> Path | None:
    found = checkpoints.latest_checkpoint(run_dir, reporter)
    step, folder = found or (0, None)
    checkpoints.remove_after(run_dir, step)
    reporter.emit(Resumed(step=step))
    return folder
