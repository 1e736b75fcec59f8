"""Who keeps the order in a hosted app: starts what waits, stops what takes too long, deletes what was left behind."""

from __future__ import annotations

import shutil
import threading
import time
import traceback
import uuid
from pathlib import Path

from phi3tune import hosted, jobs
from phi3tune.config import HostedConfig
from phi3tune.errors import UserError
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace, every_visitor, visitors
from phi3tune.store import queue

LOOK_SECONDS = 2.0
# How long a job may take to save and stop, before it is ended.
GRACE_SECONDS = 60.0
_GONE = ".gone-"


class Janitor:
    """A thread that looks after the visitors in the folder `shared`, until `stop`."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="janitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return when it has put down its work."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            try:
                look(self._shared)
            except Exception:  # at the next look; nobody else would do it
                traceback.print_exc()


def look(shared: Path) -> None:
    """Do once what is to be done."""
    rules, everybody = hosted.limits(), Workspace(visitors(shared), shared)
    jobs.dispatch(everybody)
    for left in visitors(shared).glob(f"{_GONE}*"):
        shutil.rmtree(left, ignore_errors=True)
    with queue(everybody) as line:
        folders = [entry.folder for entry in line.entries() if entry.folder.is_dir()]
        working = {everybody.owner_of(folder).root for folder in folders}
        # While the queue is locked nobody begins a job in what is deleted.
        for workspace in every_visitor(shared):
            if workspace.root not in working and time.time() > hosted.expires(workspace):
                _delete(workspace)
    for folder in folders:
        workspace = everybody.owner_of(folder)
        try:
            job = jobs.view(folder)
            if reason := _over(job, workspace, rules):
                _stop(job, workspace, reason)
        except (UserError, FileNotFoundError):
            continue  # it ended by itself meanwhile


def _over(job: JobView, workspace: Workspace, rules: HostedConfig) -> str:
    """Why a running job must stop; empty when it may go on."""
    if job.state != "running" or job.started is None:
        return ""
    if time.time() - job.started > rules.max_minutes * 60:
        return f"stopped at the limit of {rules.max_minutes:g} minutes; what it had done by then is saved"
    if hosted.used_bytes(workspace) > rules.max_storage * hosted.MB:
        return f"stopped at the limit of {rules.max_storage:g} MB for your files; what it had done by then is saved"
    return ""


def _stop(job: JobView, workspace: Workspace, reason: str) -> None:
    """Ask the job to save and stop; end it where it was asked long ago."""
    asked = job.folder / jobs.STOP
    if not asked.exists():
        jobs.stop(job.folder, workspace, reason=reason)
    elif time.time() - asked.stat().st_mtime > GRACE_SECONDS:
        jobs.stop(job.folder, workspace, now=True, reason=reason)


def _delete(workspace: Workspace) -> None:
    """Delete what somebody left behind; renamed first, so that nobody finds a part of it."""
    state = workspace.database.parent
    gone = workspace.root.with_name(f"{_GONE}{uuid.uuid4().hex}")
    workspace.root.rename(gone)
    for folder in (gone, state):
        shutil.rmtree(folder, ignore_errors=True)
