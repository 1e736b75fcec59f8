"""The callback that steers a run: what is told, when it is measured, saved and stopped."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import TrainerCallback

from phi3tune import system
from phi3tune.config import TrainConfig
from phi3tune.events import CheckpointSaved, Metrics, Notice, Progress
from phi3tune.paths import write_manifest
from phi3tune.training import checkpoints, processes
from phi3tune.training.best import Best
from phi3tune.training.settings import Intervals
from phi3tune.training.summary import History, kept_metrics
from phi3tune.training.tasks import Watched
from phi3tune.training.trainer import PhiTrainer, Totals
from phi3tune.training.warnings import Alarms

PROGRESS_SECONDS = 1.0
SMOOTHING = 0.1


class Watch(TrainerCallback):  # type: ignore[misc]
    """Tells `history` of every step; logs an interval's exact sums; evaluates, warns, saves and stops when it is time.

    Made after the `Resumed` event of a resume: what earlier attempts measured counts for the best evaluation, for
    early stopping and for the warnings, so that a resumed run ends where an uninterrupted one does.

    stopped      the user stopped the run
    ended_early  early stopping ended it, in this attempt or in an earlier one; it is then complete
    best         the best evaluation so far
    """

    def __init__(self, config: TrainConfig, trainer: PhiTrainer, held_out: Watched, history: History) -> None:
        self._config = config
        self._trainer = trainer
        self._held_out = held_out
        self._history = history
        self._run_dir = Path(trainer.args.output_dir).parent
        trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        self._checkpoint_bytes = 13 * trained + 2**20  # fp32 weights and AdamW's two moments, and a little
        earlier = kept_metrics(history.events)
        told = [event.code for event in history.events if isinstance(event, Notice)]
        self._alarms = Alarms(config, earlier, told)
        self.best = Best(config, earlier)
        self.ended_early = bool(processes.agreed(self.best.exhausted)[0])
        self.stopped = False
        self._sealer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="seal")
        self._sealing: tuple[CheckpointSaved, Future[None]] | None = None

    @property
    def best_step(self) -> int | None:
        """Step of the best evaluation when the run keeps it; its checkpoint stays on disk. None otherwise."""
        return self.best.step if self._config.keep_best else None

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
        if self._sealing is not None and self._sealing[1].done():
            self._sealed()
        self.stopped = bool(processes.agreed(not last and self._history.stop_requested())[0])
        evaluate = bool(self._held_out) and (last or step % self._intervals.evaluate == 0)
        save = last or self.stopped or step % self._intervals.save == 0
        # A checkpoint ends an interval, so that no logged interval straddles the step of a resume; an evaluation ends
        # one because it may be worth a checkpoint.
        if evaluate or save or step % self._intervals.log == 0:
            self._tell_metrics(state)
        self._tell_progress(state)
        if evaluate:
            better = self._evaluate(state)
            # Machines that keep no run know nothing of earlier attempts.
            better, exhausted = map(bool, processes.agreed(better, self.best.exhausted))
            save = save or (better and self._config.keep_best)
            if exhausted:
                self._end_early()
        control.should_training_stop = last or self.stopped or self.ended_early
        control.should_save = save or self.ended_early
        if control.should_save:
            checkpoints.need_disk(self._run_dir, self._checkpoint_bytes)
        self._since = time.monotonic()
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not processes.leads():
            return
        self._sealed()
        folder = self._run_dir / checkpoints.FOLDER / f"checkpoint-{state.global_step}"
        # Hashed and synced beside the next steps: on a slow disk it takes as long as several of them.
        saved = CheckpointSaved(step=state.global_step, best=state.global_step == self.best.step)
        self._sealing = saved, self._sealer.submit(write_manifest, folder)
        self._since = time.monotonic()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._sealed()
        self._sealer.shutdown()

    def _sealed(self) -> None:
        """Wait until the last checkpoint counts, tell of it, and remove those that it replaces."""
        if self._sealing is None:
            return
        saved, writing = self._sealing
        writing.result()
        self._sealing = None
        self._history.emit(saved)
        checkpoints.rotate(self._run_dir, self._config.keep_checkpoints, self.best_step)

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
        self._history.emit(Progress(done=state.global_step, total=state.max_steps, eta_seconds=eta))

    def _tell_metrics(self, state: TrainerState) -> None:
        totals, self._trainer.totals = self._trainer.totals.summed(), Totals()
        values = {
            "loss": totals.loss / totals.trained,
            "token_accuracy": totals.correct / totals.trained,
            "entropy": totals.entropy / totals.trained,
            "learning_rate": self._learning_rate,
            "grad_norm": self._trainer.grad_norm,
            "tokens_per_second": totals.tokens / self._interval_seconds,
            "memory_bytes": float(_memory(self._trainer.args.device)),
        }
        self._interval_seconds = 0.0
        self._tell(Metrics(step=state.global_step, epoch=state.epoch, weight=totals.trained, values=values))

    def _evaluate(self, state: TrainerState) -> bool:
        """Measure the validation part; whether this is the best evaluation so far."""
        model = self._trainer.model
        self._trainer.settle()
        values = self._held_out.loss(model, self._trainer.data_collator)
        # Each process measures all rows; what is decided by them must not differ in the last bit.
        values = dict(zip(values, processes.agreed(*values.values()), strict=True))
        self._tell(Metrics(step=state.global_step, epoch=state.epoch, values=values))
        for sample in self._held_out.samples(model, state.global_step):
            self._history.emit(sample)
        return self.best.see(state.global_step, values)

    def _end_early(self) -> None:
        self.ended_early, self.stopped = True, False
        self._history.emit(
            Notice(
                level="info",
                code="ended_early",
                message=f"{self._config.early_stopping} evaluations in a row brought no better {self.best.metric} than "
                f"{self.best.value:.4g} at step {self.best.step}: the run ends here",
            )
        )

    def _tell(self, metrics: Metrics) -> None:
        self._history.emit(metrics)
        for notice in self._alarms.see(metrics):
            self._history.emit(notice)


def _memory(device: torch.device) -> int:
    """Bytes in use where the model is: allocated on the GPU, or resident in this process."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else system.process_memory()
