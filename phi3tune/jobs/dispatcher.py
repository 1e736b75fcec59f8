"""Who runs next. Nobody owns the queue: whoever looks may bury workers that died and start what may start."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from phi3tune import system
from phi3tune.events import FINAL
from phi3tune.jobs import workers
from phi3tune.jobs.death import buried
from phi3tune.jobs.folder import LANES, LOCK, STATUS, read_status, write_status
from phi3tune.jobs.views import folders
from phi3tune.paths import Workspace
from phi3tune.store import NEEDED_BYTES, Entry, Queue, QueueUnavailableError, queue


def dispatch(workspace: Workspace) -> None:
    """Bury workers that died and start what may start. Safe to call at any time, by anybody.

    On a full disk nothing starts: what waits goes on waiting until there is room.
    """
    with suppress(QueueUnavailableError), queue(workspace) as line:
        _adopt(line, workspace)
        busy = set()
        for entry in line.entries():
            if not (entry.folder / STATUS).is_file():
                line.remove(entry.folder)
            elif entry.pid is not None and _alive(entry):
                busy.add(entry.lane)
            elif entry.pid is not None:
                with suppress(OSError):  # a full disk: at the next look
                    _bury(entry.folder)
                    line.remove(entry.folder)
            elif read_status(entry.folder).state in FINAL:
                # Whoever ended it died before they could take it out of the queue.
                line.remove(entry.folder)
        room = system.disk_free(workspace.queue_root) >= NEEDED_BYTES
        for entry in line.entries():
            if entry.pid is None and entry.lane not in busy and room:
                line.mark_started(entry.folder, workers.start(entry.folder, workspace.owner_of(entry.folder)))
                busy.add(entry.lane)


def _adopt(line: Queue, workspace: Workspace) -> None:
    """Put jobs into an empty queue that wait or run on disk: the database may have been deleted."""
    if line.entries():
        return
    everybody = [folder for each in workspace.all_of_queue() for folder in folders(each)]
    lost = [(folder, read_status(folder)) for folder in everybody]
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
    if entry.folder in workers.children:
        return workers.exit_code(entry.folder) is None
    return entry.pid is not None and system.process_started(entry.pid, near=entry.started or 0.0)


def _bury(folder: Path) -> None:
    """Write down that a job's worker died, if it did."""
    lock = system.FolderLock(folder / LOCK)
    if not lock.acquire():
        return
    try:
        status = read_status(folder)
        if status.state in ("running", "queued"):
            write_status(folder, buried(folder, status))
    finally:
        lock.release()
