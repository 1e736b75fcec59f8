"""A training run from its settings to its adapter or merged weights."""

from __future__ import annotations

import hashlib
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from phi3tune import data
from phi3tune.chat import Renderer
from phi3tune.config import TrainConfig
from phi3tune.engines import hub_models, models
from phi3tune.engines.folders import labels_of, read_json
from phi3tune.engines.models import ModelRef
from phi3tune.errors import UserError
from phi3tune.events import Notice, Phase, Reporter, Resumed, read_events
from phi3tune.paths import Workspace, manifest_problem, write_json
from phi3tune.training import checkpoints, settings, spread, summary, tasks, token_cache, trackers

DATASET_RECORD = "dataset.json"


def train(
    config: TrainConfig, run_dir: Path, workspace: Workspace, reporter: Reporter, *, resume: bool
) -> dict[str, Any]:
    """Train, in this process or in several, and save the outcome in `run_dir`; returns the run's result.

    With `resume`, goes on from the newest sound checkpoint, or from the start when there is none; the
    result then equals that of an uninterrupted run. When the reporter asks to stop, the step is
    finished and saved, and the result's `status` is `stopped`. Raises `UserError` when model or data
    cannot be trained on, when the loss diverges and when the disk is full.
    """
    with trackers.tracked(config, run_dir, reporter) as following:
        hub = models.hub_model(config.model, config.revision, workspace)
        if hub is not None:
            config = config.model_copy(update={"model": str(hub), "revision": None})
            if hub_models.cached_folder(hub) is None and hub_models.fetch(hub.repo, hub.revision, following) is None:
                return {"run": run_dir.name, "status": "stopped", "steps": 0}
        work = spread.train if config.processes * config.machines > 1 else train_here
        return work(config, run_dir, workspace, following, resume=resume)


def train_here(
    config: TrainConfig, run_dir: Path, workspace: Workspace, reporter: Reporter, *, resume: bool
) -> dict[str, Any]:
    """`train` in this process; in one of several when torchrun started them."""
    history = summary.History(reporter, read_events(run_dir / "events.jsonl")[0] if resume else [])
    history.emit(Phase(name="reading the data"))
    start = models.starting_point(models.resolve(config.model, workspace), workspace, adapter=config.adapter)
    config = settings.check(config, start)
    models.verify(start)
    renderer = Renderer.load(start.base)
    task, rows, held_out_rows, max_length = _rows(config, run_dir, workspace, history, renderer, start)

    history.emit(Phase(name="loading the model"))
    # How long a thread of GNU OpenMP spins before it sleeps. Long spinning takes the core from the thread that is
    # waited for as soon as anything else runs; none at all halves the speed of a small model on a quiet machine
    # (measured on phi3-nano: 2,100 against 4,000 tokens per second). Read once, when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    # torch, transformers and trl take seconds to import: a mistake in the data is told before.
    import torch

    from phi3tune.engines.torch_model import choose_device
    from phi3tune.training import artefacts, plan, processes
    from phi3tune.training.trainer import build, training_dtype
    from phi3tune.training.watch import Watch

    artefacts.record_base(run_dir, start, config)
    if config.machines > 1:
        _check_alike(run_dir, rows)
    torch.set_num_threads(processes.threads())
    device = choose_device()
    rate = _learning_rate(config, start.base, history)
    pass_tokens = min(max_length, settings.CPU_PASS_TOKENS) if device.type == "cpu" else max_length
    share = config.batch_size // processes.world()
    micro = config.micro_batch or settings.micro_batch(share, rows.mean_tokens, pass_tokens)
    dtype = training_dtype(config, device, start.base)
    checkpointing = plan.needs_checkpointing(
        config,
        start.base,
        rows,
        micro=micro,
        number=4 if dtype is torch.float32 else 2,
        gpu_free=torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None,
    )
    if checkpointing and config.gradient_checkpointing == "auto":
        message = "The step would take most of the memory: activations are computed again in the backward pass"
        history.emit(Notice(level="info", code="checkpointing_chosen", message=message))
    trainer = build(
        config,
        run_dir,
        task,
        start,
        rows.examples,
        rate=rate,
        micro=micro,
        checkpointing=checkpointing,
        dtype=dtype,
        device=device,
    )
    held_out = task.held_out(
        held_out_rows, renderer, sample_count=config.sample_count, max_prompt=max_length, batch_size=micro
    )
    checkpoint = _resume_point(run_dir, history) if resume else None
    watch = Watch(config, trainer, held_out, history)
    trainer.add_callback(watch)

    history.emit(Phase(name="training"))
    started = time.monotonic()
    try:
        trainer.go(checkpoint, ended=watch.ended_early)
    except torch.OutOfMemoryError:
        raise UserError(
            f"the GPU's memory ran out at step {trainer.state.global_step + 1}; use --gradient-checkpointing on, "
            f"a smaller --max-length than {config.max_length} or a smaller model"
        ) from None
    seconds = time.monotonic() - started

    best_step = None if watch.stopped else _usable(watch.best_step, run_dir, history)
    whole = None if watch.stopped else trainer.whole_state()
    if not watch.stopped and processes.leads():
        history.emit(Phase(name="saving"))
        if best_step not in (None, trainer.state.global_step):
            trainer.load_weights(run_dir / checkpoints.FOLDER / f"checkpoint-{best_step}")
        if trainer.adapter is not None:
            artefacts.save_adapter(trainer.adapter, run_dir, whole)
        else:
            artefacts.save_merged(trainer.model, run_dir, start.base, renderer, task.labels, whole)
    return {
        "run": run_dir.name,
        "status": "stopped" if watch.stopped else "completed",
        "steps": trainer.state.global_step,
        "train_loss": summary.train_loss(history.events),
        "eval_loss": summary.last_value(history.events, "eval_loss", at_step=best_step),
        "best_step": watch.best.step,
        "best_value": watch.best.value,
        "ended_early": watch.ended_early,
        "train_seconds": round(seconds, 2),
        "learning_rate": rate,
        "rows": len(rows.examples),
        "tokens": rows.tokens,
        "trained_tokens": rows.trained_tokens,
        **_classified(task, history, watch.best_step),
    }


def _classified(task: tasks.Task, history: summary.History, best_step: int | None) -> dict[str, Any]:
    """What the result of a classifier has beyond that of a chat model."""
    if task.labels is None:
        return {}
    measured = ("eval_accuracy", "eval_macro_f1")
    values = {name: summary.last_value(history.events, name, at_step=best_step) for name in measured}
    return {"labels": list(task.labels), **values}


def _rows(
    config: TrainConfig, run_dir: Path, workspace: Workspace, reporter: Reporter, renderer: Renderer, start: ModelRef
) -> tuple[tasks.Task, settings.Rows, settings.Rows, int]:
    """The task, training rows, validation rows, and the tokens that each was cut to."""
    record = run_dir / DATASET_RECORD
    saved = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
    dataset = data.load(config, workspace, saved=saved)
    if saved is not None and dataset.sha256 != saved["sha256"]:
        raise UserError(
            f"dataset {config.dataset} has changed since this run began; put the old rows back, or start a new run"
        )
    write_json(record, dataset.record())
    context = json.loads((start.base / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    max_length = min(config.max_length, context or config.max_length)
    task = tasks.of(config, dataset.parts["train"])
    if start.adapter is not None and task.labels is not None and labels_of(start.adapter) != task.labels:
        raise UserError(
            f"the adapter of {start.label} chooses from other labels than {config.dataset} has; start from its base "
            f"{start.origin}, or use rows of the same labels"
        )
    cached = partial(token_cache.rows, task, base=start.base, workspace=workspace)
    rows, notices = cached(dataset.parts["train"], renderer, max_length, config.max_unlearnable_share)
    held_out, more = cached(dataset.parts["validation"], renderer, max_length, None)
    for notice in [*notices, *(notice for notice in more if notice.code not in {told.code for told in notices})]:
        reporter.emit(notice)
    return task, rows, held_out, max_length


def _learning_rate(config: TrainConfig, base: Path, reporter: Reporter) -> float:
    width = json.loads((base / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    rate = settings.learning_rate(config, width)
    if config.learning_rate is None:
        message = f"Learning rate {rate:g}, chosen for {config.method} on a model of width {width}"
        reporter.emit(Notice(level="info", code="learning_rate_chosen", message=message))
    return rate


def _usable(best_step: int | None, run_dir: Path, reporter: Reporter) -> int | None:
    """The step of the best checkpoint, if it is whole; the run's last weights are its result otherwise."""
    if best_step is None:
        return None
    name = f"checkpoint-{best_step}"
    problem = manifest_problem(run_dir / checkpoints.FOLDER / name)
    if problem is None:
        return best_step
    message = f"{name}, the best evaluation's, cannot be used: {problem}; the result has the weights of the last step"
    reporter.emit(Notice(code="best_unusable", message=message))
    return None


def _resume_point(run_dir: Path, reporter: Reporter) -> Path | None:
    from phi3tune.training import processes

    step = 0
    if processes.leads():
        step, _ = checkpoints.latest_checkpoint(run_dir, reporter) or (0, None)
        checkpoints.remove_after(run_dir, step)
    step = int(processes.agreed(step)[0])
    reporter.emit(Resumed(step=step))
    if not step:
        return None
    name = f"{checkpoints.FOLDER}/checkpoint-{step}"
    processes.share(run_dir, f"{name}/*")
    return run_dir / name


def _check_alike(run_dir: Path, rows: settings.Rows) -> None:
    """Raise `UserError` unless all machines have the same tokens and weights."""
    from phi3tune.training import processes

    digest = hashlib.sha256(json.dumps(read_json(run_dir / models.MODEL_RECORD)["files"], sort_keys=True).encode())
    for example in rows.examples:
        digest.update(json.dumps([example.input_ids, example.labels]).encode())
    if not processes.same(digest.hexdigest()):
        raise UserError(
            "the machines of this run do not have the same rows and weights; give each the same dataset, model and "
            "settings"
        )
