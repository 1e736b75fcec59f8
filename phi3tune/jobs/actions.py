"""What people do with jobs: start, follow, stop, pause, move in the queue, resume, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from phi3tune import hosted, system
from phi3tune.about import ABOUT, About
from phi3tune.admission import HUB_TOKEN, admit
from phi3tune.config import Config, TrainConfig, parse, to_yaml
from phi3tune.errors import UserError
from phi3tune.events import FINAL, Event, Status, read_events
from phi3tune.jobs import workers
from phi3tune.jobs.dispatcher import dispatch
from phi3tune.jobs.folder import (
    EVENTS,
    JOB,
    LANES,
    LOCK,
    PAUSE,
    RESUMABLE,
    RESUMABLE_STATES,
    STATUS,
    STOP,
    Job,
    Kind,
    read_status,
    write_status,
)
from phi3tune.jobs.views import active, view
from phi3tune.paths import Workspace, claim_folder, discard, inside, write_text
from phi3tune.store import NEEDED_BYTES, Queue, queue


def submit(kind: Kind, config: Config, workspace: Workspace, *, secrets: Mapping[str, str] | None = None) -> Path:
    """Check a job, put it in the queue and start it if its turn has come; returns its folder.

    `secrets` are environment variables for its worker, such as a Hub token. They are never written to disk, so they
    are lost when another process than this one starts the worker; the worker then says so.
    Raises `UserError` when the job could not succeed as asked; nothing is left on disk then.
    """
    _need_room(workspace)
    if secrets:
        hosted.refuse_visitor(workspace, "a token")
    admitted = admit(config, workspace, token=(secrets or {}).get(HUB_TOKEN))
    config, secrets = admitted.config, secrets or {}
    files = {
        JOB: Job(kind, config, tuple(secrets)).to_json(),
        STATUS: Status(kind=kind).model_dump_json(),
    }
    if isinstance(config, TrainConfig):
        files["run.yaml"] = to_yaml(config)
        about = parse(About, {"project": config.project, "tags": config.tags, "note": config.note})
        files[ABOUT] = about.model_dump_json(indent=1)
    with queue(workspace) as line:
        _need_place(line, workspace)
        folder = claim_folder(admitted.parent, admitted.name, admitted.base_name, files)
        workers.keep_secrets(folder, secrets)
        line.add(folder, LANES[kind])
    dispatch(workspace)
    return folder


def _need_place(line: Queue, workspace: Workspace) -> None:
    """Raise `UserError` when a visitor has as many jobs as one may have."""
    rules = hosted.rules(workspace)
    if rules is None:
        return
    own = [entry for entry in line.entries() if inside(entry.folder, workspace.root)]
    if len(own) >= rules.max_jobs:
        raise UserError(
            f"{len(own)} of your jobs run or wait, and {rules.max_jobs} are the limit here: wait for one to end, or "
            "stop one"
        )


def _need_room(workspace: Workspace) -> None:
    hosted.check_storage(workspace)
    free = system.disk_free(workspace.root)
    if free < NEEDED_BYTES:
        raise UserError(
            f"the disk of {workspace.root} is full: {free / 1e6:,.1f} MB are free and {NEEDED_BYTES / 1e6:,.1f} MB are "
            "needed for a job's folder alone; free some space, or move the workspace with PHI3TUNE_HOME"
        )


def follow(
    folder: Path,
    workspace: Workspace,
    *,
    offset: int = 0,
    poll_seconds: float = 0.2,
    on_poll: Callable[[], None] = lambda: None,
) -> Iterator[Event]:
    """Events of a job from byte `offset` on, as they come, until it has ended and its worker is gone.

    `on_poll` is called before each look.
    """
    next_dispatch = time.monotonic()
    while True:
        on_poll()
        job = view(folder)
        events, offset = read_events(folder / EVENTS, offset)
        yield from events
        if not job.active:
            workers.wait(folder)
            dispatch(workspace)
            return
        if time.monotonic() >= next_dispatch:
            dispatch(workspace)
            next_dispatch = time.monotonic() + 1.0
        time.sleep(poll_seconds)


def stop(folder: Path, workspace: Workspace, *, now: bool = False, reason: str = "") -> None:
    """Ask a job to save and stop; `now` ends it at once, keeping what its last checkpoint holds. `reason` is told where
    it was not the user."""
    if _left_queue(folder, workspace, "stopped", reason or "stopped before it started"):
        return
    job = view(folder)
    if not job.active:
        raise UserError(f"{job.id} is not running: it is {job.state}")
    write_text(folder / STOP, reason)
    if now:
        pid = read_status(folder).pid
        if pid is not None:
            system.kill_group(pid)
        _end(folder, "stopped", reason or "stopped at once by the user", wait_seconds=5.0)
        dispatch(workspace)


def pause(folder: Path, workspace: Workspace) -> None:
    """Ask a job to save and make room for the others: resumed, it is the next to run. A waiting one leaves the queue.

    Raises `UserError` for jobs that have ended, and for exports, which cannot go on where they were.
    """
    job = view(folder)
    if job.kind not in RESUMABLE or not job.active:
        able = "waiting and running runs, evaluations and downloads can be"
        raise UserError(f"{job.id} cannot be paused: it is {job.state}; {able}")
    if not _left_queue(folder, workspace, "paused", "paused before it started"):
        write_text(folder / STOP, PAUSE)


def cancel(folder: Path, workspace: Workspace) -> None:
    """Take a waiting job out of the queue. Raises `UserError` when it does not wait (any more)."""
    if not _left_queue(folder, workspace, "stopped", "cancelled before it started"):
        raise UserError(f"{folder.name} does not wait in the queue: it is {view(folder).state}")


def reorder(folder: Path, workspace: Workspace, position: int) -> None:
    """Put a waiting job at a position, from 1 for the next to run, among those that wait for the same device."""
    hosted.refuse_visitor(workspace, "the order of the queue")
    with queue(workspace) as line:
        waiting = line.waiting(LANES[read_status(folder).kind])
        if folder not in waiting:
            raise UserError(f"{folder.name} does not wait in the queue: it is {view(folder).state}")
        if not 1 <= position <= len(waiting):
            raise UserError(f"position {position} is not accepted: use 1 to {len(waiting)}, as many as wait")
        line.move(folder, position)


def _left_queue(folder: Path, workspace: Workspace, state: Literal["stopped", "paused"], reason: str) -> bool:
    """Whether the job waited in the queue and was taken out of it."""
    with queue(workspace) as line:
        if folder not in line.waiting(LANES[read_status(folder).kind]):
            return False
        _end(folder, state, reason)
        line.remove(folder)
    return True


def _end(folder: Path, state: Literal["stopped", "paused"], reason: str, wait_seconds: float = 0.0) -> None:
    """Write the end of a job that has no worker."""
    lock = system.FolderLock(folder / LOCK)
    if not lock.acquire(timeout=wait_seconds):
        raise UserError(f"{folder.name} does not stop: process {read_status(folder).pid} still holds its folder")
    try:
        status = read_status(folder)
        if status.state not in FINAL:
            write_status(folder, status.model_copy(update={"state": state, "reason": reason, "ended": time.time()}))
    finally:
        lock.release()


def resume(folder: Path, workspace: Workspace) -> int:
    """Put a stopped, failed or paused job back in the queue, a paused one at its front (a visitor's at its end): a run
    goes on from its last good checkpoint, an evaluation after the rows that were answered, a download after the bytes
    that were fetched.

    Returns the size of its events in bytes: where the new attempt's begin.
    """
    _need_room(workspace)
    job = view(folder)
    if job.kind not in RESUMABLE or job.state not in RESUMABLE_STATES:
        able = "stopped, failed and paused runs, evaluations and downloads can be"
        raise UserError(f"{job.id} cannot be resumed: it is {job.state}; {able}")
    lock = system.FolderLock(folder / LOCK)
    if not lock.acquire(timeout=5.0):
        raise UserError(f"{job.id} cannot be resumed: its worker is still there")
    try:
        with queue(workspace) as line:
            _need_place(line, workspace)
        (folder / STOP).unlink(missing_ok=True)
        events = folder / EVENTS
        offset = events.stat().st_size if events.exists() else 0
        status = read_status(folder)
        write_status(
            folder, status.model_copy(update={"state": "queued", "reason": "", "ended": None, "phase": "", "pid": None})
        )
        with queue(workspace) as line:
            line.remove(folder)
            line.add(folder, LANES[job.kind])
            if job.state == "paused" and workspace.shared is None:
                line.move(folder, 1)
    finally:
        lock.release()
    dispatch(workspace)
    return offset


def delete(folder: Path, workspace: Workspace) -> Path:
    """Move a job's folder to the trash and return its place there; refused while the job runs or waits."""
    job = view(folder)
    busy = [other.id for other in active(workspace) if other.folder == folder or inside(other.folder, folder)]
    if job.active or busy:
        raise UserError(f"{job.id} is in use by {', '.join(busy) or 'its worker'}; stop it first")
    return discard(folder, folder.name, workspace)
