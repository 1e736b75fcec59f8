"""The process that does a job: `python -m phi3tune.worker JOB_FOLDER`.

It holds the lock of its folder while it lives, is the only writer of the folder's status then, and
knows nothing of who started it or who watches.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from phi3tune import jobs, system
from phi3tune.config import Config, DownloadConfig, EvalConfig, ExportConfig, PromptsConfig, TrainConfig
from phi3tune.errors import UserError
from phi3tune.events import (
    FINAL,
    CheckpointSaved,
    Completed,
    Event,
    EventLog,
    Failed,
    Notice,
    Phase,
    Progress,
    Stopped,
)
from phi3tune.paths import Workspace, sweep_temporary

LOCK_WAIT_SECONDS = 10.0
STATUS_SECONDS = 0.5
HEARTBEAT_SECONDS = 2.0
# Held on disk while the worker lives, so that it can still say that the disk is full when it is.
RESERVE, RESERVE_BYTES = ".reserve", 64 * 1024
NEEDED_BYTES = 64 * 1024**2


class FolderReporter:
    """Appends events to the job's folder and keeps its status true; safe to use from threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.resuming = (folder / jobs.EVENTS).exists()
        self._log = EventLog(folder / jobs.EVENTS)
        self._lock = threading.Lock()
        self._written = 0.0
        self._signalled = False
        self.status = jobs.read_status(folder)

    def emit(self, event: Event) -> None:
        with self._lock:
            self._log.append(event)
            self._apply(event)
            if isinstance(event, CheckpointSaved | Phase) or time.monotonic() - self._written > STATUS_SECONDS:
                self._write()

    def stop_requested(self) -> bool:
        return self._signalled or (self._folder / jobs.STOP).exists()

    def pause_requested(self) -> bool:
        return self._why_stopped() == jobs.PAUSE

    def _why_stopped(self) -> str:
        """What the file `stop` says: nothing where the user pressed Stop."""
        stop = self._folder / jobs.STOP
        return stop.read_text(encoding="utf-8") if stop.is_file() else ""

    def request_stop(self, *_: object) -> None:
        """A signal handler: the system asks the worker to end."""
        self._signalled = True

    def begin(self) -> None:
        with self._lock:
            now = time.time()
            self._update(state="running", pid=os.getpid(), started=now, ended=None, heartbeat=now, reason="", result={})
            self._write(sync=True)

    def beat(self) -> None:
        with self._lock:
            self._update(heartbeat=time.time(), memory_bytes=system.process_memory())
            self._write()

    def end(self, outcome: Completed | Stopped | Failed) -> None:
        """The status is written after the event: who sees the end sees every event before it."""
        with self._lock:
            self._log.append(outcome)
            paused = isinstance(outcome, Stopped) and outcome.paused
            state = "paused" if paused else outcome.type
            changes: dict[str, Any] = {"state": state, "ended": time.time(), "eta_seconds": None}
            if isinstance(outcome, Failed):
                changes["reason"] = outcome.reason
            else:
                changes["result"] = outcome.result
            if isinstance(outcome, Stopped):
                changes["resume_step"] = outcome.step
                why = "" if paused else self._why_stopped()
                changes["reason"] = why or f"{state} by the user"
            self._update(**changes)
            self._write(sync=True)

    def _apply(self, event: Event) -> None:
        if isinstance(event, Phase):
            self._update(phase=event.name)
        elif isinstance(event, Progress):
            self._update(step=event.done, steps=event.total, eta_seconds=event.eta_seconds)
        elif isinstance(event, CheckpointSaved):
            self._update(resume_step=event.step)

    def _update(self, **changes: Any) -> None:
        self.status = self.status.model_copy(update=changes)

    def _write(self, *, sync: bool = False) -> None:
        jobs.write_status(self._folder, self.status, sync=sync)
        self._written = time.monotonic()


def _work(config: Config, folder: Path, workspace: Workspace, reporter: FolderReporter) -> dict[str, Any]:
    if isinstance(config, TrainConfig):
        from phi3tune.training import train

        return train(config, folder, workspace, reporter, resume=reporter.resuming)
    if isinstance(config, EvalConfig):
        from phi3tune.evaluation import evaluate

        return evaluate(config, folder, workspace, reporter)
    if isinstance(config, ExportConfig):
        from phi3tune.export import export

        return export(config, workspace, reporter, job_dir=folder)
    if isinstance(config, DownloadConfig):
        from phi3tune.engines import hub_models

        fetched = hub_models.fetch(config.model, config.revision, reporter)
        return {"status": "stopped"} if fetched is None else {"model": config.model, "path": str(fetched)}
    if isinstance(config, PromptsConfig):
        from phi3tune.evaluation import prompts

        return prompts.answer(config, folder / prompts.ANSWERS, workspace, reporter)
    raise TypeError(f"no work for {type(config).__name__}")


def _outcome(folder: Path, workspace: Workspace, reporter: FolderReporter) -> Completed | Stopped | Failed:
    try:
        job = jobs.read_job(folder)
        _tell_lost_secrets(job.secrets, reporter)
        result = _work(job.config, folder, workspace, reporter)
    except UserError as error:
        return Failed(reason=str(error), user_error=True)
    except MemoryError:
        return Failed(reason="memory ran out; use a smaller batch size, a shorter max length or a smaller model")
    except Exception as error:
        if _disk_full(error, folder):
            return Failed(reason=_make_room(folder), user_error=True)
        traceback.print_exc()
        return Failed(reason=f"{type(error).__name__}: {' '.join(str(error).split())[:500]} (details in {jobs.LOG})")
    result["seconds"] = round(system.process_age(), 2)
    if result.get("status") == "stopped":
        paused = reporter.pause_requested()
        result["status"] = "paused" if paused else "stopped"
        return Stopped(step=int(result.get("steps", 0)), paused=paused, result=result)
    return Completed(result=result)


def _tell_lost_secrets(names: Sequence[str], reporter: FolderReporter) -> None:
    if lost := [name for name in names if name not in os.environ]:
        given = ", ".join(lost)
        message = (
            f"{given} was given when the job was submitted, and is never on disk: this worker was started without it"
        )
        reporter.emit(Notice(code="secret_lost", message=message, action=f"set {given} in the environment and resume"))


def _disk_full(error: Exception, folder: Path) -> bool:
    """Whether the disk is why a write failed: torch and safetensors have errors of their own for it."""
    no_space = isinstance(error, OSError) and error.errno == errno.ENOSPC
    return no_space or system.disk_free(folder) < RESERVE_BYTES


def _make_room(folder: Path) -> str:
    """Give up the reserve and what was half written; what to tell the user."""
    free = system.disk_free(folder)
    (folder / RESERVE).unlink(missing_ok=True)
    sweep_temporary(folder)
    return (
        f"the disk of {folder} is full: {free / 1e6:,.1f} MB were free and at least {NEEDED_BYTES / 1e6:,.0f} MB are "
        "needed to go on; free some space, then resume, or start again"
    )


def _beat_until(done: threading.Event, reporter: FolderReporter) -> None:
    while not done.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # a full disk is told by the work itself
            reporter.beat()


def run(folder: Path) -> int:
    """Do the job in `folder`; 0 when it ended as completed or stopped, 1 when it failed."""
    workspace = Workspace.current()
    lock = system.FolderLock(folder / jobs.LOCK)
    if not lock.acquire(timeout=LOCK_WAIT_SECONDS):
        sys.stderr.write(f"another worker holds {folder}\n")
        return 1
    try:
        reporter = FolderReporter(folder)
        if reporter.status.state in FINAL:
            return 0  # whoever started us died before they could write that down, and another worker was started
        signal.signal(signal.SIGTERM, reporter.request_stop)
        reporter.begin()
        sweep_temporary(folder)
        (folder / RESERVE).write_bytes(bytes(RESERVE_BYTES))
        done = threading.Event()
        heart = threading.Thread(target=_beat_until, args=(done, reporter), daemon=True)
        heart.start()
        try:
            outcome = _outcome(folder, workspace, reporter)
        finally:
            done.set()
            heart.join()
        (folder / RESERVE).unlink(missing_ok=True)
        reporter.end(outcome)
    finally:
        lock.release()
    # The next job's worker inherits this environment.
    for name in jobs.read_job(folder).secrets:
        os.environ.pop(name, None)
    if workspace.shared is None:  # the next job of visitors is started by the app, whose environment it needs
        jobs.dispatch(workspace)
    return 1 if isinstance(outcome, Failed) else 0


def main() -> int:
    faulthandler.enable()  # names a crash in native code in the log
    # Set before any library that phones home is imported.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    return run(Path(sys.argv[1]).absolute())


if __name__ == "__main__":
    sys.exit(main())
