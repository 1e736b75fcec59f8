"""Jobs: start, queue, watch, stop, resume, delete.

A job is a folder. Its worker holds the lock of that folder while it lives, so a free lock under a
`running` status means that the worker died, whatever anybody remembers. Nobody owns the queue:
`dispatch` is called by the page, by every waiting command and by a worker as its last act.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from phi3tune import system
from phi3tune.admission import admit
from phi3tune.config import Config, EvalConfig, ExportConfig, TrainConfig, to_yaml
from phi3tune.errors import UserError
from phi3tune.events import FINAL, Event, State, Status, read_events
from phi3tune.paths import Workspace, claim_folder, inside, write_text
from phi3tune.store import Entry, Queue, queue

Kind = Literal["train", "evaluate", "export"]
CONFIGS: dict[str, type[Config]] = {"train": TrainConfig, "evaluate": EvalConfig, "export": ExportConfig}
# One training job at a time on the device; short jobs do not wait behind a long one.
LANES = {"train": "train", "evaluate": "tools", "export": "tools"}

JOB, STATUS, EVENTS, LOCK, LOG, STOP = "job.json", "status.json", "events.jsonl", "run.lock", "worker.log", "stop"
# Kinds of jobs that go on where they ended: from a checkpoint, or after the rows that have been answered.
RESUMABLE = ("train", "evaluate")
HEARTBEAT_SECONDS = 2.0
NOT_RESPONDING_SECONDS = 30.0

# Workers that this process started, so that their exit code can be told.
_children: dict[Path, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class JobView:
    """What anybody may know of a job, read from its folder."""

    id: str
    kind: str
    folder: Path
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
    def active(self) -> bool:
        return self.state not in FINAL

    @property
    def share_done(self) -> float:
        """0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


def submit(kind: Kind, config: Config, workspace: Workspace) -> Path:
    """Check a job, put it in the queue and start it if its turn has come; returns its folder.

    Raises `UserError` when the job could not succeed as asked; nothing is left on disk then.
    """
    admitted = admit(config, workspace)
    config = admitted.config
    job = {"schema": 1, "kind": kind, "config": config.model_dump(mode="json")}
    files = {
        JOB: json.dumps(job, indent=1, ensure_ascii=False),
        STATUS: Status(kind=kind).model_dump_json(),
    }
    if kind == "train":
        files["run.yaml"] = to_yaml(config)
    folder = claim_folder(admitted.parent, admitted.name, admitted.base_name, files)
    with queue(workspace.database, workspace.root) as line:
        line.add(folder, LANES[kind])
    dispatch(workspace)
    return folder


def read_status(folder: Path) -> Status:
    return Status.model_validate_json((folder / STATUS).read_text(encoding="utf-8"))


def write_status(folder: Path, status: Status, *, sync: bool = True) -> None:
    """Only the holder of the folder's lock may call this."""
    write_text(folder / STATUS, status.model_dump_json(indent=1), sync=sync)


def read_config(folder: Path) -> Config:
    """The settings that a job was given."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    return CONFIGS[job["kind"]].model_validate(job["config"])


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
                status = _buried(folder, status)
    silent = time.time() - (status.heartbeat or status.started or 0.0)
    return JobView(
        id=folder.name,
        kind=status.kind,
        folder=folder,
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


def _buried(folder: Path, status: Status) -> Status:
    """The status of a job whose worker died without a word."""
    child = _children.get(folder)
    code = child.poll() if child is not None else None
    if code is not None and code < 0:
        reason = f"the worker was killed by {system.signal_name(-code)}"
        if code == -9:
            reason += " (by hand, or by the system when memory ran out)"
    else:
        reason = "the worker ended without a word (killed, out of memory, or the machine restarted)"
    if last := _last_line(folder / LOG):
        reason += f"; its last words: {last}"
    if status.kind == "train":
        reason += f"; it can be resumed from step {status.resume_step or 0}"
    elif status.kind in RESUMABLE:
        reason += "; it can be resumed, and keeps the answers that it has"
    return status.model_copy(update={"state": "failed", "reason": reason, "ended": status.heartbeat})


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 2000))
            lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:200] if lines else ""


def folders(workspace: Workspace) -> list[Path]:
    """Folders of all jobs of the workspace, in no order."""
    patterns = ((workspace.runs, "*"), (workspace.runs, "*/eval/*"), (workspace.evals, "*"), (workspace.exports, "*"))
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
    """Jobs that run or wait, in the order of the queue."""
    if not workspace.database.exists():
        return []
    with queue(workspace.database, workspace.root) as line:
        entries = [entry for entry in line.entries() if (entry.folder / STATUS).is_file()]
    found, waiting = [], dict.fromkeys(LANES.values(), 0)
    for entry in entries:
        if entry.pid is None:
            waiting[entry.lane] += 1
        found.append(view(entry.folder, position=waiting[entry.lane] if entry.pid is None else None))
    return [job for job in found if job.active]


def runs(workspace: Workspace) -> list[JobView]:
    """All training runs, oldest first."""
    found = [view(folder) for folder in workspace.run_folders()]
    return sorted(found, key=lambda job: (job.created, job.id))


def dispatch(workspace: Workspace) -> None:
    """Bury workers that died and start what may start. Safe to call at any time, by anybody."""
    with queue(workspace.database, workspace.root) as line:
        _adopt(line, workspace)
        busy = set()
        for entry in line.entries():
            if not (entry.folder / STATUS).is_file():
                line.remove(entry.folder)
            elif entry.pid is not None and _alive(entry):
                busy.add(entry.lane)
            elif entry.pid is not None:
                _bury(entry.folder)
                line.remove(entry.folder)
        for entry in line.entries():
            if entry.pid is None and entry.lane not in busy:
                line.mark_started(entry.folder, _start(entry.folder, workspace).pid)
                busy.add(entry.lane)


def _adopt(line: Queue, workspace: Workspace) -> None:
    """Put jobs into an empty queue that wait or run on disk: the database may have been deleted."""
    if line.entries():
        return
    lost = [(folder, read_status(folder)) for folder in folders(workspace)]
    for folder, status in sorted(lost, key=lambda pair: pair[1].created):
        if status.state not in FINAL:
            line.add(folder, LANES[status.kind])
            if status.state == "running" and status.pid is not None:
                line.mark_started(folder, status.pid)


def _alive(entry: Entry) -> bool:
    """Whether the worker of a started entry still lives, or is still coming up."""
    if system.is_locked(entry.folder / LOCK):
        return True
    if read_status(entry.folder).state != "queued":
        return False
    child = _children.get(entry.folder)
    if child is not None:
        return child.poll() is None
    return entry.pid is not None and system.process_started(entry.pid, near=entry.started or 0.0)


def _bury(folder: Path) -> None:
    """Write down that a job's worker died, if it did."""
    lock = system.FolderLock(folder / LOCK)
    if not lock.acquire():
        return
    try:
        status = read_status(folder)
        if status.state == "running":
            write_status(folder, _buried(folder, status))
        elif status.state == "queued":
            last = _last_line(folder / LOG)
            reason = f"the worker could not start{': ' + last if last else ''}"
            write_status(folder, status.model_copy(update={"state": "failed", "reason": reason, "ended": time.time()}))
    finally:
        lock.release()


def _start(folder: Path, workspace: Workspace) -> subprocess.Popen[bytes]:
    with (folder / LOG).open("ab") as log:
        child = system.start_process(
            [sys.executable, "-m", "phi3tune.worker", str(folder)],
            output=log.fileno(),
            env={"PHI3TUNE_HOME": str(workspace.root)},
            low_priority=True,
        )
    _children[folder] = child
    return child


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
            child = _children.get(folder)
            if child is not None:
                child.wait()
            dispatch(workspace)
            return
        if time.monotonic() >= next_dispatch:
            dispatch(workspace)
            next_dispatch = time.monotonic() + 1.0
        time.sleep(poll_seconds)


def stop(folder: Path, workspace: Workspace, *, now: bool = False) -> None:
    """Ask a job to save and stop; `now` ends it at once, keeping what its last checkpoint holds."""
    job = view(folder)
    if not job.active:
        raise UserError(f"{job.id} is not running: it is {job.state}")
    with queue(workspace.database, workspace.root) as line:
        waiting = any(entry.folder == folder and entry.pid is None for entry in line.entries())
        if waiting:
            line.remove(folder)
    if waiting:
        _mark_stopped(folder, "stopped before it started")
        return
    (folder / STOP).touch()
    if now:
        pid = read_status(folder).pid
        if pid is not None:
            system.kill_group(pid)
        _mark_stopped(folder, "stopped at once by the user", wait_seconds=5.0)
        dispatch(workspace)


def _mark_stopped(folder: Path, reason: str, wait_seconds: float = 0.0) -> None:
    lock = system.FolderLock(folder / LOCK)
    if not lock.acquire(timeout=wait_seconds):
        raise UserError(f"{folder.name} does not stop: process {read_status(folder).pid} still holds its folder")
    try:
        status = read_status(folder)
        if status.state not in FINAL:
            write_status(folder, status.model_copy(update={"state": "stopped", "reason": reason, "ended": time.time()}))
    finally:
        lock.release()


def resume(folder: Path, workspace: Workspace) -> int:
    """Put a stopped or failed job back in the queue: a run goes on from its last good checkpoint, an evaluation
    after the rows that were answered.

    Returns the size of its events in bytes: where the new attempt's begin.
    """
    job = view(folder)
    if job.kind not in RESUMABLE or job.state not in ("stopped", "failed"):
        able = "stopped and failed runs and evaluations can be"
        raise UserError(f"{job.id} cannot be resumed: it is {job.state}; {able}")
    lock = system.FolderLock(folder / LOCK)
    if not lock.acquire(timeout=5.0):
        raise UserError(f"{job.id} cannot be resumed: its worker is still there")
    try:
        (folder / STOP).unlink(missing_ok=True)
        events = folder / EVENTS
        offset = events.stat().st_size if events.exists() else 0
        status = read_status(folder)
        write_status(
            folder, status.model_copy(update={"state": "queued", "reason": "", "ended": None, "phase": "", "pid": None})
        )
        with queue(workspace.database, workspace.root) as line:
            line.remove(folder)
            line.add(folder, LANES[job.kind])
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
    workspace.trash.mkdir(parents=True, exist_ok=True)
    place = workspace.trash / f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000:06d}"
    shutil.move(folder, place)
    return place
