"""Which checkpoints of a run can be trusted, and which are kept.

The Trainer writes `checkpoint-N` in place, so a folder counts only once our manifest is in it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from phi3tune import system
from phi3tune.errors import UserError
from phi3tune.events import Notice, Reporter
from phi3tune.paths import manifest_problem

FOLDER = "checkpoints"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_folders(run_dir: Path) -> list[tuple[int, Path]]:
    """(step, folder) of everything that looks like a checkpoint, complete or not; newest step first."""
    folder = run_dir / FOLDER
    if not folder.is_dir():
        return []
    named = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)) and path.is_dir()]
    return sorted(((int(match[1]), path) for match, path in named), reverse=True)


def latest_checkpoint(run_dir: Path, reporter: Reporter | None = None) -> tuple[int, Path] | None:
    """(step, folder) of the newest checkpoint whose every file has its hash; None when there is none.

    What is passed over on the way is told to `reporter`. No file is opened other than to hash it.
    """
    for step, folder in checkpoint_folders(run_dir):
        problem = manifest_problem(folder)
        if problem is None:
            return step, folder
        if reporter is not None:
            reporter.emit(
                Notice(
                    code="checkpoint_unusable",
                    message=f"{folder.name} cannot be used: {problem}",
                    action="the run goes on from an earlier checkpoint, or from the start if there is none",
                )
            )
    return None


def remove_after(run_dir: Path, step: int) -> None:
    """Remove the checkpoints of later steps: the Trainer would write into them, beside what is left there."""
    for later, folder in checkpoint_folders(run_dir):
        if later > step:
            shutil.rmtree(folder)


def rotate(run_dir: Path, keep: int, spare: int | None = None) -> None:
    """Keep the `keep` newest by step (file times would go wrong with the clock), and that of step `spare`."""
    for step, folder in checkpoint_folders(run_dir)[keep:]:
        if step != spare:
            shutil.rmtree(folder)


def need_disk(run_dir: Path, size: int) -> None:
    """Raise `UserError` unless `size` bytes are free on the run's disk."""
    free = system.disk_free(run_dir)
    if free < size:
        raise UserError(
            f"the disk of {run_dir} has {free / 1e6:,.1f} MB free, the next checkpoint needs {size / 1e6:,.1f} MB; "
            "free some space, then resume the run"
        )
