"""kill -9 of the worker: at any moment, and while a checkpoint is written."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from phi3tune import jobs
from phi3tune.training.checkpoints import checkpoint_folders
from tests.faults.conftest import NewTrial
from tests.faults.victims import FULL, Ending, Trial, kill, newest, wait_until, whole

pytestmark = [pytest.mark.slow, pytest.mark.alone]
KILLS = 20 if FULL else 2
NAMED_WITHIN = 10.0
Blow = Callable[[Trial, Path, random.Random], bool]


def at_any_moment(trial: Trial, folder: Path, rng: random.Random) -> bool:
    """Kill while it starts, trains or saves, as it comes; in most attempts not before it got on by a checkpoint."""
    begun = newest(folder)
    if rng.random() < 0.8:
        wait_until(lambda: newest(folder) > begun or not jobs.view(folder).active)
    time.sleep(rng.uniform(0.0, 1.0))
    kill(folder)
    return True


def while_a_checkpoint_is_written(trial: Trial, folder: Path, rng: random.Random) -> bool:
    """Kill between the first file of a checkpoint and its manifest; False when the worker was the faster one."""
    known = {path for _, path in checkpoint_folders(folder)}

    def writing() -> list[Path]:
        return [path for _, path in checkpoint_folders(folder) if path not in known]

    wait_until(lambda: writing() or not jobs.view(folder).active, every=0.0)
    time.sleep(rng.uniform(0.0, 0.01))
    kill(folder)
    return any(not whole(path) for path in writing())


@pytest.mark.parametrize("blow", [at_any_moment, while_a_checkpoint_is_written], ids=lambda blow: blow.__name__)
def test_every_killed_run_resumes_and_ends_as_if_nothing_had_happened(
    new_trial: NewTrial, undisturbed: Ending, blow: Blow
) -> None:
    trial, rng, killed, runs = new_trial(), random.Random(7), 0, 0
    while killed < KILLS:
        folder = trial.start()
        runs += 1
        while killed < KILLS:
            hit = blow(trial, folder, rng)
            if jobs.view(folder).state == "completed":
                break
            killed += hit
            assert_named(trial, folder)
            assert not (folder / "adapter").exists() or whole(folder / "adapter")
            trial.resume(folder)
        trial.finish(folder)
        assert Ending.of(folder) == undisturbed
        assert runs <= KILLS, "the runs end before they can be killed"


def assert_named(trial: Trial, folder: Path) -> None:
    """Who looks sees the cause and the step to go on from, at once and for good."""
    since = time.monotonic()

    def named() -> bool:
        # As the page's tick and every waiting command do: a worker that died before it said that it runs is found so.
        jobs.dispatch(trial.workspace)
        return jobs.view(folder).state == "failed"

    wait_until(named, NAMED_WITHIN)
    job = jobs.view(folder)
    assert time.monotonic() - since < NAMED_WITHIN
    assert "SIGKILL" in job.reason or "could not start" in job.reason
    if job.resume_step:
        assert f"resumed from step {job.resume_step}" in job.reason
        # The checkpoint is there before anybody is told of it.
        assert job.resume_step <= newest(folder)


def test_a_dead_worker_is_never_running_for_who_comes_later(new_trial: NewTrial) -> None:
    """A process that neither started the worker nor saw it die."""
    trial = new_trial()
    folder = trial.start()
    wait_until(lambda: jobs.view(folder).state == "running")
    kill(folder)
    listed = subprocess.run(
        [sys.executable, "-m", "phi3tune", "runs", "--json"],
        env={**os.environ, "PHI3TUNE_HOME": str(trial.workspace.root)},
        capture_output=True,
        check=True,
    )
    [row] = json.loads(listed.stdout)["runs"]
    assert row["status"] == "failed" and "can be resumed from step 0" in row["reason"]
