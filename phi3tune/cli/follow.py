"""A job on the terminal: progress to standard error, one result to standard output."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phi3tune import jobs
from phi3tune.cli import INTERRUPTED
from phi3tune.config import Config
from phi3tune.events import (
    Event,
    Failed,
    Metrics,
    Notice,
    Phase,
    Progress,
    Resumed,
    Sample,
    Stopped,
)
from phi3tune.paths import Workspace


def print_json(value: Any) -> None:
    """One JSON object on standard output, and nothing else there."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def run_job(kind: jobs.Kind, config: Config, workspace: Workspace) -> tuple[jobs.JobView, int]:
    """Submit a job and follow it to its end; the job as it ended and the exit code."""
    folder = jobs.submit(kind, config, workspace)
    return follow_job(folder, workspace)


def follow_job(folder: Path, workspace: Workspace, offset: int = 0) -> tuple[jobs.JobView, int]:
    """Show a job's events from byte `offset` on. Ctrl+C asks it to stop, a second one ends it at once."""
    printer = Printer()
    interrupts = Interrupts(folder, workspace)
    position = next((job.queue_position for job in jobs.active(workspace) if job.folder == folder), None)
    if position is not None:
        say(f"{folder.name} waits in the queue at position {position}")
    with interrupts.caught():
        for event in jobs.follow(folder, workspace, offset=offset, on_poll=interrupts.obey):
            printer(event)
    job = jobs.view(folder)
    if job.state == "failed":
        say(f"phi3tune: {folder.name} failed: {job.reason}")
    code = {"completed": 0, "stopped": 0, "paused": 0, "failed": 2 if printer.user_error else 1}[job.state]
    return job, INTERRUPTED if interrupts.count else code


class Interrupts:
    """Counts Ctrl+C and acts on it between polls: a handler that stopped the job itself could
    interrupt a transaction on the queue."""

    def __init__(self, folder: Path, workspace: Workspace) -> None:
        self.count = 0
        self._obeyed = 0
        self._folder, self._workspace = folder, workspace

    @contextmanager
    def caught(self) -> Iterator[None]:
        before = signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _handle(self, *_: object) -> None:
        self.count += 1

    def obey(self) -> None:
        if self.count == self._obeyed or not jobs.view(self._folder).active:
            return
        self._obeyed = self.count
        if self.count == 1:
            say(f"\nstopping {self._folder.name} after this step; press Ctrl+C again to end it now")
        jobs.stop(self._folder, self._workspace, now=self.count > 1)


class Printer:
    """Writes each event as a line; progress without a line of its own is only shown on a terminal."""

    def __init__(self) -> None:
        self.user_error = False
        self._live = sys.stderr.isatty()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            eta = "" if event.eta_seconds is None else f", {duration(event.eta_seconds)} left"
            progress = f"{event.done:,}/{event.total:,} {event.unit}{eta}"
            if self._live:
                sys.stderr.write(f"\r\033[K{progress}")
                sys.stderr.flush()
            return
        if self._live:
            sys.stderr.write("\r\033[K")
        if (line := self._line(event)) is not None:
            say(line)

    def _line(self, event: Event) -> str | None:
        match event:
            case Phase():
                return event.name
            case Metrics() if "eval_loss" in event.values:
                return f"  step {event.step}: {_numbers(event.values)}"
            case Metrics() if not self._live or event.step == 1:
                return f"  step {event.step}: {_numbers(event.values)}"
            case Notice():
                return f"{event.level}: {event.message}" + (f" {event.action}" if event.action else "")
            case Sample():
                return f"  sample: {_short(event.prompt)} -> {_short(event.answer)}"
            case Resumed():
                return f"resumed after step {event.step}"
            case Stopped():
                return f"stopped after step {event.step}"
            case Failed():
                self.user_error = event.user_error
                return None
            case _:
                return None


def _numbers(values: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:,.4g}" for name, value in values.items())


def _short(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def duration(seconds: float) -> str:
    """`45 s`, `2 min`, `1 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
