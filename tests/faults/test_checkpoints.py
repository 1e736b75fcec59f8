"""Checkpoints that were damaged, forged, or written by a clock that jumped."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest

from phi3tune import jobs
from phi3tune.events import Notice, Resumed, read_events
from phi3tune.training.checkpoints import checkpoint_folders
from tests.faults.conftest import NewTrial
from tests.faults.victims import KEPT, SAVE_STEPS, STEPS, Ending, Trial, newest, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.alone]
DAY = 86_400


class Canary:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.fixture(scope="module")
def halfway(new_trial: NewTrial) -> tuple[Trial, Path]:
    """A run that was stopped with several checkpoints on disk. Read only."""
    trial = new_trial()
    folder = trial.start()
    wait_until(lambda: newest(folder) >= KEPT * SAVE_STEPS)
    jobs.stop(folder, trial.workspace)
    assert trial.finish(folder).state == "stopped"
    return trial, folder


@pytest.fixture
def stopped(halfway: tuple[Trial, Path], tmp_path: Path) -> tuple[Trial, Path]:
    """A copy of that run in a workspace of its own."""
    trial, folder = halfway
    copy = Trial(type(trial.workspace)(tmp_path / "copy"), trial.config)
    shutil.copytree(folder, copy.workspace.runs / folder.name)
    return copy, copy.workspace.runs / folder.name


def test_a_truncated_and_a_forged_checkpoint_are_passed_over_unopened(
    stopped: tuple[Trial, Path], undisturbed: Ending, tmp_path: Path
) -> None:
    trial, folder = stopped
    (_, truncated), (_, forged), (good, _), *_ = checkpoint_folders(folder)
    weights = truncated / "adapter_model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    canary = tmp_path / "canary"
    trap = pickle.dumps(Canary(canary))
    pickle.loads(trap).close()
    assert canary.exists(), "the trap does not work"
    canary.unlink()
    (forged / "optimizer.pt").write_bytes(trap)

    offset = trial.resume(folder)
    trial.finish(folder)
    events, _ = read_events(folder / jobs.EVENTS, offset)
    told = [event.message for event in events if isinstance(event, Notice) and event.code == "checkpoint_unusable"]
    assert not canary.exists()
    assert [path.name in message for path, message in zip((truncated, forged), told, strict=True)] == [True, True]
    assert "adapter_model.safetensors was altered" in told[0] and "optimizer.pt was altered" in told[1]
    assert next(event.step for event in events if isinstance(event, Resumed)) == good
    assert Ending.of(folder) == undisturbed


def test_a_clock_that_jumps_a_day_back_keeps_the_newest_steps(stopped: tuple[Trial, Path], undisturbed: Ending) -> None:
    trial, folder = stopped
    for path in [*folder.rglob("*"), folder]:  # as written before the jump: a day ahead of all that comes
        times = path.stat()
        os.utime(path, (times.st_atime + DAY, times.st_mtime + DAY))
    status = jobs.read_status(folder)
    ahead = {"created": status.created + DAY, "started": (status.started or 0) + DAY, "heartbeat": status.created + DAY}
    jobs.write_status(folder, status.model_copy(update=ahead))

    trial.resume(folder)
    job = trial.finish(folder)
    assert [step for step, _ in checkpoint_folders(folder)] == [STEPS - SAVE_STEPS * n for n in range(KEPT)]
    assert Ending.of(folder) == undisturbed
    assert job.result["train_seconds"] >= 0 and not job.not_responding
