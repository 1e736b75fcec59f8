"""The process that does a job: `python -m phi3tune.worker JOB_FOLDER`.

It holds the lock of its folder while it lives, is the only writer of the folder's status then, and
knows nothing of who started it or who watches.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from phi3tune import jobs, system
from phi3tune.config import Config, EvalConfig, ExportConfig, TrainConfig
from phi3tune.errors import UserError
from phi3tune.events import (
    CheckpointSaved,
    Completed,
    Event,
    EventLog,
    Failed,
    Phase,
    Progress,
    Stopped,
)
from phi3tune.paths import Workspace, sweep_temporary

LOCK_WAIT_SECONDS = 10.0
STATUS_SECONDS = 0.5


class FolderReporter:
    """Appends events to the job's folder and keeps its status true; safe to use from threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
            changes: dict[str, Any] = {"state": outcome.type, "ended": time.time(), "eta_seconds": None}
            if isinstance(outcome, Failed):
                changes["reason"] = outcome.reason
            else:
                changes["result"] = outcome.result
            if isinstance(outcome, Stopped):
                changes["resume_step"] = outcome.step
                changes["reason"] = "stopped by the user"
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

        return train(config, folder, workspace, reporter, resume=(folder / jobs.EVENTS).exists())
    if isinstance(config, EvalConfig):
        from phi3tune.evaluation import evaluate

        return evaluate(config, folder, workspace, reporter)
    if isinstance(config, ExportConfig):
        from phi3tune.export import export

        return export(config, workspace, reporter, job_dir=folder)
    raise TypeError(f"no work for {type(config).__name__}")


def _outcome(folder: Path, workspace: Workspace, reporter: FolderReporter) -> Completed | Stopped | Failed:
    try:
        result = _work(jobs.read_config(folder), folder, workspace, reporter)
    except UserError as error:
        return Failed(reason=str(error), user_error=True)
    except MemoryError:
        return Failed(reason="memory ran out; use a smaller batch size, a shorter max length or a smaller model")
    except Exception as error:
        traceback.print_exc()
        return Failed(reason=f"{type(error).__name__}: {' '.join(str(error).split())[:500]} (details in {jobs.LOG})")
    result["seconds"] = round(system.process_age(), 2)
    if result.get("status") == "stopped":
        return Stopped(step=int(result.get("steps", 0)), result=result)
    return Completed(result=result)


def _beat_until(done: threading.Event, reporter: FolderReporter) -> None:
    while not done.wait(jobs.HEARTBEAT_SECONDS):
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
        signal.signal(signal.SIGTERM, reporter.request_stop)
        reporter.begin()
        sweep_temporary(folder)
        done = threading.Event()
        heart = threading.Thread(target=_beat_until, args=(done, reporter), daemon=True)
        heart.start()
        try:
            outcome = _outcome(folder, workspace, reporter)
        finally:
            done.set()
            heart.join()
        reporter.end(outcome)
    finally:
        lock.release()
    jobs.dispatch(workspace)
    return 1 if isinstance(outcome, Failed) else 0


def main() -> int:
    # Set before any library that phones home is imported.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    return run(Path(sys.argv[1]).absolute())


if __name__ == "__main__":
    sys.exit(main())
