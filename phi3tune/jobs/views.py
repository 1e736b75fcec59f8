"""The state of jobs, read from their folders."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phi3tune import system
from phi3tune.about import About, read_about
from phi3tune.errors import UserError
from phi3tune.events import FINAL, State
from phi3tune.jobs.death import buried
from phi3tune.jobs.folder import JOB, LANES, LOCK, STATUS, read_status
from phi3tune.paths import Workspace, inside
from phi3tune.store import QueueUnavailableError, queue

NOT_RESPONDING_SECONDS = 30.0


@dataclass(frozen=True)
class JobView:
    """What anybody may know of a job, read from its folder."""

    id: str
    kind: str
    folder: Path
    about: About
    state: State
    phase: str
    step: int
    steps: int
    eta_seconds: float | None
    resume_step: int | None
    reason: str
    queue_position: int | None
    not_responding: bool
    memory_bytes: int
    result: dict[str, Any]
    created: float
    started: float | None
    ended: float | None

    @property
    def title(self) -> str:
        """What a person calls the job: its title, or else its name."""
        return self.about.title or self.id

    @property
    def project(self) -> str | None:
        return self.about.project

    @property
    def tags(self) -> tuple[str, ...]:
        return self.about.tags

    @property
    def active(self) -> bool:
        return self.state not in FINAL

    @property
    def share_done(self) -> float:
        """0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


def view(folder: Path, *, position: int | None = None) -> JobView:
    """The state of a job as it is now, whatever its last words were."""
    status = read_status(folder)
    locked = False
    if status.state == "running":
        locked = system.is_locked(folder / LOCK)
        if not locked:
            # The worker may have written its last status between our two looks.
            status = read_status(folder)
            if status.state == "running":
                status = buried(folder, status)
    silent = time.time() - (status.heartbeat or status.started or 0.0)
    return JobView(
        id=folder.name,
        kind=status.kind,
        folder=folder,
        about=read_about(folder),
        state=status.state,
        phase=status.phase,
        step=status.step,
        steps=status.steps,
        eta_seconds=status.eta_seconds if status.state == "running" else None,
        resume_step=status.resume_step,
        reason=status.reason,
        queue_position=position,
        not_responding=locked and silent > NOT_RESPONDING_SECONDS,
        memory_bytes=status.memory_bytes if status.state == "running" else 0,
        result=status.result,
        created=status.created,
        started=status.started,
        ended=status.ended,
    )


def folders(workspace: Workspace) -> list[Path]:
    """Folders of all jobs of the workspace, in no order."""
    roots = (workspace.runs, workspace.evals, workspace.exports, workspace.downloads)
    patterns = [(workspace.runs, "*/eval/*"), *((root, "*") for root in roots)]
    return [
        found.parent
        for root, pattern in patterns
        for found in root.glob(f"{pattern}/{JOB}")
        if not found.parent.name.startswith(".")
    ]


def find(job_id: str, workspace: Workspace) -> Path:
    """The folder of a job by the path below the workspace, such as `runs/lamp-1`; `UserError` if none."""
    folder = workspace.root / job_id
    if not job_id or not inside(folder, workspace.root) or not (folder / JOB).is_file():
        raise UserError(f"there is no job {job_id!r} in {workspace.root}")
    return folder


def named(name: str, workspace: Workspace) -> Path:
    """The folder of a run by its name, or of any job by its path below the workspace or below its runs.

    Raises `UserError` when there is none.
    """
    if "/" not in name:
        return workspace.run(name)
    return find(name if (workspace.root / name).is_dir() else f"runs/{name}", workspace)


def active(workspace: Workspace) -> list[JobView]:
    """Jobs of the workspace that run or wait, in the order of the queue; a visitor's place is that among all."""
    if not workspace.queue_database.exists():
        return []
    try:
        with queue(workspace) as line:
            entries = [entry for entry in line.entries() if (entry.folder / STATUS).is_file()]
    except QueueUnavailableError:  # the folders know what runs, though not the order of what waits
        found = sorted(map(view, folders(workspace)), key=lambda job: job.created)
        return [job for job in found if job.active]
    found, waiting = [], dict.fromkeys(LANES.values(), 0)
    for entry in entries:
        if entry.pid is None:
            waiting[entry.lane] += 1
        if workspace.shared is None or entry.folder.is_relative_to(workspace.root):
            place = waiting[entry.lane] if entry.pid is None else None
            found.append(view(entry.folder, position=place))
    return [job for job in found if job.active]


def runs(workspace: Workspace, *, project: str | None = None, tag: str | None = None) -> list[JobView]:
    """Training runs, oldest first: all, or those of one project and with one tag."""
    found = [view(folder) for folder in workspace.run_folders()]
    wanted = [job for job in found if (project is None or job.project == project) and (tag is None or tag in job.tags)]
    return sorted(wanted, key=lambda job: (job.created, job.id))


def projects(workspace: Workspace) -> dict[str, int]:
    """Names of the projects that runs belong to, in order, and how many runs each has."""
    counted = Counter(about.project for about in map(read_about, workspace.run_folders()) if about.project)
    return dict(sorted(counted.items()))
