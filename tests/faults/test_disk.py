"""A disk that is full, or all but."""

from __future__ import annotations

import errno
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from phi3tune import jobs, system
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.training.checkpoints import checkpoint_folders
from tests.faults.victims import Ending, Trial, newest, wait_until, whole

pytestmark = [pytest.mark.slow, pytest.mark.alone]
DISK_BYTES = 16 * 1024**2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk needs the right to mount one: {error}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """Take all of the disk but `leave` bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while (left := system.disk_free(disk) - leave) > 0:
                stream.write(bytes(min(left, 2**20)))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return ballast


def fails_with_words(trial: Trial, folder: Path, disk: Path, *, leave: int) -> str:
    """The reason that a run gives when the disk fills up behind a checkpoint, which stays whole."""
    begun = newest(folder)
    wait_until(lambda: newest(folder) > begun)
    ballast = fill(disk, leave=leave)

    def still_active() -> list[jobs.JobView]:  # what a page does at every tick
        jobs.dispatch(trial.workspace)
        assert len(jobs.runs(trial.workspace)) == 1
        return jobs.active(trial.workspace)

    wait_until(lambda: not still_active())
    job = jobs.view(folder)
    assert job.state == "failed" and job.resume_step
    assert next(step for step, path in checkpoint_folders(folder) if whole(path)) == job.resume_step
    ballast.unlink()
    return job.reason


def test_a_full_disk_is_told_and_costs_no_more_than_the_last_interval(
    small_disk: Path, tmp_path: Path, tiny_model: Path, undisturbed: Ending
) -> None:
    trial = Trial.make(tmp_path / "data", tiny_model, Workspace(small_disk / "workspace"))
    folder = trial.start()
    reason = fails_with_words(trial, folder, small_disk, leave=512 * 1024)
    told = re.search(r"has (\S+) MB free, the next checkpoint needs (\S+) MB", reason)
    assert told is not None and float(told[1]) < float(told[2]) and "resume" in reason

    trial.resume(folder)
    reason = fails_with_words(trial, folder, small_disk, leave=0)
    # Found before a checkpoint is begun or by the first write that fails, whichever comes first.
    assert re.search(r"0\.0 MB (were )?free.* (needs \S+ MB|at least \d+ MB are needed)", reason)
    assert str(folder) in reason
    ballast = fill(small_disk, leave=0)
    with pytest.raises(UserError, match=r"is full: 0\.0 MB are free and 1\.0 MB are needed"):
        trial.start()
    ballast.unlink()

    trial.resume(folder)
    trial.finish(folder)
    assert Ending.of(folder) == undisturbed
