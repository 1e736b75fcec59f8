"""The callback that steers a run: what is told, when it is measured, saved and stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import TrainerCallback

from phi3tune import system
from phi3tune.config import TrainConfig
from phi3tune.events import CheckpointSaved, Metrics, Progress, Reporter
from phi3tune.paths import write_manifest
from phi3tune.training import checkpoints
from phi3tune.training.heldout import HeldOut
from phi3tune.training.settings import Intervals
from phi3tune.training.trainer import PhiTrainer, Totals

PROGRESS_SECONDS = 1.0
SMOOTHING = 0.1


class Watch(TrainerCallback):  # type: ignore[misc]
    """Tells `reporter` of every step; logs an interval's exact sums; evaluates, saves and stops when it is time."""

    def __init__(self, config: TrainConfig, trainer: PhiTrainer, held_out: HeldOut, reporter: Reporter) -> None:
        self._config = config
        self._trainer = trainer
        self._held_out = held_out
        self._reporter = reporter
        self._run_dir = Path(trainer.args.output_dir).parent
        trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        self._checkpoint_bytes = 13 * trained + 2**20  # fp32 weights and AdamW's two moments, and a little
        self.stopped = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._intervals = Intervals.of(self._config, state.max_steps)
        self._step_seconds: float | None = None
        self._interval_seconds = 0.0
        self._told = 0.0
        self._since = time.monotonic()
        checkpoints.need_disk(self._run_dir, self._checkpoint_bytes)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._learning_rate = float(kwargs["lr_scheduler"].get_last_lr()[0])  # of this step, not of the next

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        step, last = state.global_step, state.global_step >= state.max_steps
        self._time_step()
        self.stopped = not last and self._reporter.stop_requested()
        control.should_training_stop = last or self.stopped
        control.should_save = control.should_training_stop or step % self._intervals.save == 0
        # A checkpoint ends an interval, so that no logged interval straddles the step of a resume.
        if control.should_save or step % self._intervals.log == 0:
            self._tell_metrics(state)
        self._tell_progress(state)
        if self._held_out and (last or step % self._intervals.evaluate == 0):
            self._evaluate(state)
        if control.should_save:
            checkpoints.need_disk(self._run_dir, self._checkpoint_bytes)
        self._since = time.monotonic()
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        write_manifest(self._run_dir / checkpoints.FOLDER / f"checkpoint-{state.global_step}")
        self._reporter.emit(CheckpointSaved(step=state.global_step))
        checkpoints.rotate(self._run_dir, self._config.keep_checkpoints)
        self._since = time.monotonic()

    def _time_step(self) -> None:
        """Seconds of training only: evaluating and saving do not count."""
        seconds = time.monotonic() - self._since
        self._interval_seconds += seconds
        previous = seconds if self._step_seconds is None else self._step_seconds
        self._step_seconds = previous + SMOOTHING * (seconds - previous)

    def _tell_progress(self, state: TrainerState) -> None:
        now = time.monotonic()
        left = state.max_steps - state.global_step
        if left and now - self._told < PROGRESS_SECONDS:
            return
        self._told = now
        eta = None if self._step_seconds is None else left * self._step_seconds
        self._reporter.emit(Progress(done=state.global_step, total=state.max_steps, eta_seconds=eta))

    def _tell_metrics(self, state: TrainerState) -> None:
        totals, self._trainer.totals = self._trainer.totals, Totals()
        values = {
            "loss": totals.loss / totals.trained,
            "token_accuracy": totals.correct / totals.trained,
            "learning_rate": self._learning_rate,
            "grad_norm": self._trainer.grad_norm,
            "tokens_per_second": totals.tokens / self._interval_seconds,
            "memory_bytes": float(_memory(self._trainer.args.device)),
        }
        self._interval_seconds = 0.0
        self._reporter.emit(Metrics(step=state.global_step, epoch=state.epoch, weight=totals.trained, values=values))

    def _evaluate(self, state: TrainerState) -> None:
        model = self._trainer.model
        values = self._held_out.loss(model, self._trainer.data_collator)
        self._reporter.emit(Metrics(step=state.global_step, epoch=state.epoch, values=values))
        for sample in self._held_out.samples(model, state.global_step):
            self._reporter.emit(sample)


def _memory(device: torch.device) -> int:
    """Bytes in use where the model is: allocated on the GPU, or resident in this process."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else system.process_memory()
