"""A run's curves in other people's tools as well: TensorBoard, trackio, Weights & Biases.

Nothing leaves this machine unless its user says so to the tool itself: TensorBoard writes into the run's folder;
trackio keeps its own local database, unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL names a server; Weights & Biases
writes into the run's folder (`wandb sync` sends it later), unless WANDB_MODE says `online`. Only numbers, settings and
tags are passed on: no rows, no samples, no notes, no paths.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from phi3tune.config import Tracker, TrainConfig, differing
from phi3tune.events import Event, Metrics, Notice, Reporter, Resumed
from phi3tune.paths import write_text

# What `pip install` takes, and which modules must then be there.
PACKAGES: dict[Tracker, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
PROJECT = "phi3tune"
# Settings that hold paths, addresses or words of the user's.
_PRIVATE = {"dataset", "validation_file", "test_file", "columns", "note", "main_address"}


def problems(names: Iterable[Tracker]) -> list[str]:
    """What keeps these trackers from working, each with its way out; empty when all are installed."""
    return [
        f"--trackers {name} needs a package that is not installed; run: pip install {name}"
        for name in dict.fromkeys(names)
        if any(find_spec(package) is None for package in PACKAGES[name])
    ]


class Curve(Protocol):
    """One tracker, open for one attempt at a run."""

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, config: TrainConfig, run_dir: Path, resumed: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Points of an earlier attempt after the step of the resume are hidden: they are made anew.
        purge = None if resumed is None else resumed + 1
        self._writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=purge)

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(_grouped(name), value, step)
        if "eval_loss" in values:
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Trackio:
    def __init__(self, config: TrainConfig, run_dir: Path, resumed: int | None) -> None:
        import trackio

        self._run = trackio.init(
            project=config.project or PROJECT,
            name=run_dir.name,
            config=_shareable(config),
            resume="never" if resumed is None else "allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log({_grouped(name): value for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


class _WeightsAndBiases:
    def __init__(self, config: TrainConfig, run_dir: Path, resumed: int | None) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # or its faults are reported even offline
        import wandb

        # The id ties the attempts of one run together; a later run of the same name is another one.
        identity = run_dir / "wandb" / "run-id"
        if not identity.exists():
            write_text(identity, f"{run_dir.name}-{uuid.uuid4().hex[:8]}")
        self._run = wandb.init(
            project=config.project or PROJECT,
            name=run_dir.name,
            id=identity.read_text(encoding="utf-8"),
            resume="allow",
            dir=str(run_dir),
            tags=config.tags,
            config=_shareable(config),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log({_grouped(name): value for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


_OPEN: dict[Tracker, Callable[[TrainConfig, Path, int | None], Curve]] = {
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
    "wandb": _WeightsAndBiases,
}


class Tracked:
    """A reporter that passes everything on and shows the metrics to the trackers of a run.

    A tracker opens at the first metrics: the step of a resume is known then. One that fails is told of once and left
    out; the run goes on.
    """

    def __init__(self, config: TrainConfig, run_dir: Path, reporter: Reporter) -> None:
        self._config, self._run_dir, self._reporter = config, run_dir, reporter
        self._names = list(dict.fromkeys(config.trackers))
        self._open: dict[Tracker, Curve] = {}
        self._resumed: int | None = None

    def emit(self, event: Event) -> None:
        self._reporter.emit(event)
        if isinstance(event, Resumed):
            self._resumed = event.step
        elif isinstance(event, Metrics):
            for name in list(self._names):
                self._guarded(name, partial(self._log, name, event))

    def stop_requested(self) -> bool:
        return self._reporter.stop_requested()

    def close(self) -> None:
        for name, curve in self._open.items():
            if name in self._names:
                self._guarded(name, curve.close)

    def _log(self, name: Tracker, metrics: Metrics) -> None:
        if name not in self._open:
            self._open[name] = _OPEN[name](self._config, self._run_dir, self._resumed)
        self._open[name].log(metrics.step, metrics.values)

    def _guarded(self, name: Tracker, call: Callable[[], None]) -> None:
        # Whatever another's tool raises, a network that is gone or a full disk, costs its curves and not the run.
        try:
            call()
        except Exception as error:
            self._names.remove(name)
            detail = " ".join(str(error).split())[:200] or type(error).__name__
            self._reporter.emit(
                Notice(
                    code="tracker_failed",
                    message=f"{name} takes no more curves: {detail}",
                    action="the run goes on, and its own curves are complete",
                )
            )


@contextmanager
def tracked(config: TrainConfig, run_dir: Path, reporter: Reporter) -> Iterator[Reporter]:
    """`reporter`, with the trackers of the run behind it until the block ends."""
    if not config.trackers:
        yield reporter
        return
    following = Tracked(config, run_dir, reporter)
    try:
        yield following
    finally:
        following.close()


def _grouped(name: str) -> str:
    """`eval/loss`, `train/grad_norm`: the tools draw one section for each prefix."""
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"


def _shareable(config: TrainConfig) -> dict[str, Any]:
    """Settings that differ from the defaults and tell nothing of this machine; a model by its last name only."""
    found = {name: value for name, value in differing(config).items() if name not in _PRIVATE}
    return {**found, "model": config.model.rstrip("/").rsplit("/", 1)[-1]}
