"""How much room a workspace takes, what of it can go, and letting it go.

Nothing is deleted that a job needs to go on: checkpoints go only of runs that have finished, and never the last one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from phi3tune import jobs, system
from phi3tune.errors import UserError
from phi3tune.hosted import folder_bytes
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace, sweep_temporary
from phi3tune.training.checkpoints import FOLDER, checkpoint_folders

# What an interrupted writer left is no longer being written after so long.
STALE_SECONDS = 3600.0
_TEMPORARY = ".tmp-"
_HOME_OF_BUILDS = "onnx"


@dataclass(frozen=True)
class Room:
    """Bytes on disk by what they are. `trash`, `checkpoints` and `leftovers` can be deleted.

    checkpoints      of finished runs, all but the last of each; those that are needed count as `runs`
    leftovers        of writers that were interrupted more than an hour ago
    models           the Hub client's cache, which other programs use too; None where it belongs to somebody else
    """

    runs: int
    builds: int
    datasets: int
    reports: int
    other: int
    checkpoints: int
    trash: int
    leftovers: int
    models: int | None
    free: int

    @property
    def total(self) -> int:
        """All of the workspace; models lie elsewhere."""
        kept = self.runs + self.builds + self.datasets + self.reports + self.other
        return kept + self.checkpoints + self.trash + self.leftovers


def measure(workspace: Workspace) -> Room:
    """Look at every file; seconds where there are very many."""
    checkpoints = sum(map(folder_bytes, old_checkpoints(workspace)))
    trash, left = folder_bytes(workspace.trash), sum(map(_bytes, leftovers(workspace)))
    builds = sum(folder_bytes(run / _HOME_OF_BUILDS) for run in workspace.run_folders())
    reports = sum(folder_bytes(run / "eval") for run in workspace.run_folders()) + folder_bytes(workspace.evals)
    in_runs = folder_bytes(workspace.runs)
    exports, datasets = folder_bytes(workspace.exports), folder_bytes(workspace.datasets)
    everything = folder_bytes(workspace.root)
    runs = max(0, in_runs - builds - (reports - folder_bytes(workspace.evals)) - checkpoints)
    known = in_runs + exports + datasets + folder_bytes(workspace.evals) + trash
    return Room(
        runs=runs,
        builds=builds + exports,
        datasets=datasets,
        reports=reports,
        other=max(0, everything - known - left),
        checkpoints=checkpoints,
        trash=trash,
        leftovers=left,
        models=folder_bytes(model_cache()) if workspace.shared is None else None,
        free=system.disk_free(workspace.root),
    )


def model_cache() -> Path:
    """Where the Hub client keeps what was downloaded."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def old_checkpoints(workspace: Workspace) -> list[Path]:
    """Checkpoints of finished runs, but for the last of each. Whatever may be resumed keeps all of its own."""
    finished = [job for job in jobs.runs(workspace) if job.state == "completed"]
    return [folder for job in finished for _, folder in checkpoint_folders(job.folder)[1:]]


def leftovers(workspace: Workspace) -> list[Path]:
    """Temporary files and folders that were last written more than `STALE_SECONDS` ago."""
    before = time.time() - STALE_SECONDS
    if not workspace.root.is_dir():
        return []
    found = [path for path in workspace.root.rglob(f".*{_TEMPORARY}*") if workspace.trash not in path.parents]
    outermost = [path for path in found if not any(other in path.parents for other in found)]
    return [path for path in outermost if _last_written(path) < before]


def empty_trash(workspace: Workspace) -> int:
    """Delete what is in the trash for good; returns the bytes that were freed.

    Raises `UserError` when something in it is still in use; nothing is deleted then.
    """
    return _delete(_inside(workspace.trash), workspace.trash)


def delete_checkpoints(workspace: Workspace) -> int:
    """Delete `old_checkpoints`; returns the bytes that were freed.

    Raises `UserError` when a model has been loaded from one, or a job that runs or waits names one; nothing is deleted
    then.
    """
    found = old_checkpoints(workspace)
    wanted = {f"{path.parent.parent.name}/{path.name}" for path in found}
    for job in jobs.active(workspace):
        if taken := wanted & _models_of(job):
            raise UserError(f"{', '.join(sorted(taken))} is in use by {job.id}: wait for it, or stop it first")
    freed = sum(map(folder_bytes, found))
    for run in dict.fromkeys(path.parent.parent for path in found):
        lock = system.FolderLock(run / jobs.LOCK)
        if not lock.acquire():
            raise UserError(f"{run.name} is being worked on: wait for it to end")
        try:
            _delete([path for path in found if path.parent.parent == run], run / FOLDER)
        finally:
            lock.release()
    return freed


def delete_leftovers(workspace: Workspace) -> int:
    """Delete what interrupted writers left, and put back what they were about to replace; returns the bytes freed.

    Folders of jobs whose worker is there are left alone.
    """
    found = {path: _bytes(path) for path in leftovers(workspace)}
    for path in found:
        home = next((folder for folder in path.parents if (folder / jobs.JOB).is_file()), None)
        lock = system.FolderLock(home / jobs.LOCK) if home is not None else None
        if lock is not None and not lock.acquire():
            continue
        try:
            if home is not None:
                sweep_temporary(path.parent)
            else:
                _remove(path)
        finally:
            if lock is not None:
                lock.release()
    return sum(count for path, count in found.items() if not path.exists())


# What the page and the command line offer, by name.
CLEANERS: dict[str, Callable[[Workspace], int]] = {
    "trash": empty_trash,
    "checkpoints": delete_checkpoints,
    "leftovers": delete_leftovers,
}


def _models_of(job: JobView) -> set[str]:
    """Every model that a job's settings name."""
    config = jobs.read_config(job.folder)
    named = getattr(config, "models", None) or [getattr(config, "model", "")]
    return set(map(str, named))


def _delete(paths: Sequence[Path], folder: Path) -> int:
    """Delete `paths`, all of them below `folder`."""
    # A look at every process takes a while: at each path only where something in the folder is open at all.
    opened = paths and system.processes_reading(folder)
    users = sorted({pid for path in paths for pid in system.processes_reading(path)}) if opened else []
    if users:
        raise UserError(
            f"something in {folder} is in use by process {', '.join(map(str, users))}: unload the model in the "
            "playground, or stop the endpoint, then try again"
        )
    freed = sum(map(_bytes, paths))
    for path in paths:
        _remove(path)
    return freed


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _bytes(path: Path) -> int:
    try:
        return folder_bytes(path) if path.is_dir() and not path.is_symlink() else path.lstat().st_size
    except OSError:  # gone meanwhile
        return 0


def _last_written(path: Path) -> float:
    """Seconds since 1970; of a folder, the newest file in it."""
    try:
        times = [path.lstat().st_mtime]
        times += [inner.lstat().st_mtime for inner in path.rglob("*")] if path.is_dir() else []
    except OSError:  # gone meanwhile, so being worked on
        return time.time()
    return max(times)
