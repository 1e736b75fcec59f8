"""Real workers on a tiny model, and ways to end them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3tune import jobs
from phi3tune.config import TrainConfig
from phi3tune.events import Metrics, read_events
from phi3tune.jobs import JobView, workers
from phi3tune.paths import Workspace, file_hash, manifest_problem
from phi3tune.training.checkpoints import checkpoint_folders
from phi3tune.training.summary import kept_metrics
from tests.training.runs import write_rows

# `make faults` makes the whole of what `make test` makes a part of.
FULL = os.environ.get("PHI3TUNE_FAULTS") == "full"
STEPS, SAVE_STEPS, KEPT = 48, 4, 4
TEMPORARY = ".tmp-*"


def wait_until(condition: Callable[[], Any], seconds: float = 120.0, *, every: float = 0.02) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(every)


@contextmanager
def one_core() -> Iterator[None]:
    """Workers that are started here keep to one core: threads of a tiny model mostly wait for each other."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@dataclass(frozen=True)
class Ending:
    """What two runs have in common when they came to the same end."""

    train_loss: float
    losses: tuple[tuple[int, float], ...]
    adapter: str

    @classmethod
    def of(cls, folder: Path) -> Ending:
        """Raises `AssertionError` unless the run is complete and nothing in its folder is half there."""
        job = jobs.view(folder)
        assert job.state == "completed", job.reason
        assert whole(folder / "adapter") and not list(folder.rglob(f".*{TEMPORARY}"))
        kept = checkpoint_folders(folder)
        assert len(kept) == KEPT and all(whole(path) for _, path in kept)
        events, _ = read_events(folder / jobs.EVENTS)
        metrics: list[Metrics] = [m for m in kept_metrics(events) if "loss" in m.values]
        return cls(
            job.result["train_loss"],
            tuple((m.step, m.values["loss"]) for m in metrics),
            file_hash(folder / "adapter" / "adapter_model.safetensors"),
        )


@dataclass(frozen=True)
class Trial:
    """Starts runs that differ in nothing but what becomes of them."""

    workspace: Workspace
    config: TrainConfig

    @classmethod
    def make(cls, root: Path, model: Path, workspace: Workspace | None = None) -> Trial:
        """A trial whose data lies in `root`, and its workspace, too, unless another one is given."""
        root.mkdir(parents=True, exist_ok=True)
        config = TrainConfig(
            dataset=str(write_rows(root / "lamps.jsonl")),
            model=str(model),
            validation_share=0.0,
            test_share=0.0,
            max_steps=STEPS,
            save_steps=SAVE_STEPS,
            keep_checkpoints=KEPT,
            batch_size=4,
            max_length=64,
            lora_rank=4,
            lora_dropout=0.1,  # so that random states matter
            learning_rate=0.01,
            sample_count=0,
            seed=3,
            dtype="fp32",
        )
        return cls(workspace or Workspace(root / "workspace"), config)

    def start(self, **changes: Any) -> Path:
        with one_core():
            return jobs.submit("train", self.config.model_copy(update=changes), self.workspace)

    def resume(self, folder: Path) -> int:
        with one_core():
            return jobs.resume(folder, self.workspace)

    def finish(self, folder: Path) -> JobView:
        for _ in jobs.follow(folder, self.workspace):
            pass
        return jobs.view(folder)


def whole(folder: Path) -> bool:
    return manifest_problem(folder) is None


def newest(folder: Path) -> int:
    """Step of the newest whole checkpoint of a run; 0 when there is none."""
    return max((step for step, path in checkpoint_folders(folder) if (path / "manifest.json").is_file()), default=0)


def kill(folder: Path) -> None:
    """What an administrator, or a system short of memory, does to a worker."""
    child = workers.children[folder]
    child.kill()
    child.wait()
