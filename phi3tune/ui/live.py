"""What the page knows of a job: its events, read once for all viewers, and where each viewer stands.

The truth is on disk. A log is only a memory of what was read of a folder's `events.jsonl`; a
viewer's `Cursor` says which of it that browser has been sent, so that nothing is sent twice.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phi3tune import events, jobs
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace

LOGS_KEPT = 16
CHART_SECONDS = 4.0
# Every tick costs the browser some 0.3 s of a core, which on a small machine is taken from the training.
BUSY_TICK, IDLE_TICK = 2.0, 4.0


@dataclass
class RunLog:
    """Events of one job so far. `version` grows whenever something was added."""

    path: Path
    offset: int = 0
    version: int = 0
    metrics: list[events.Metrics] = field(default_factory=list)
    samples: list[events.Sample] = field(default_factory=list)
    notices: list[events.Notice] = field(default_factory=list)
    latest: dict[str, float] = field(default_factory=dict)

    def refresh(self) -> None:
        """Read what was appended since the last time."""
        new, self.offset = events.read_events(self.path, self.offset)
        for event in new:
            self._take(event)
        self.version += bool(new)

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.Metrics):
            self.metrics.append(event)
            self.latest.update(event.values)
        elif isinstance(event, events.Sample):
            self.samples.append(event)
        elif isinstance(event, events.Notice):
            self.notices.append(event)
        elif isinstance(event, events.Resumed):
            # An earlier attempt went further than its last checkpoint: those steps are done again.
            self.metrics = [m for m in self.metrics if m.step <= event.step]
            self.samples = [s for s in self.samples if s.step <= event.step]


class Logs:
    """The logs of the jobs looked at last, shared by all viewers of this process."""

    def __init__(self) -> None:
        self._logs: OrderedDict[tuple[Path, float], RunLog] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, job: JobView) -> RunLog:
        """The log of a job, read up to now. A deleted and remade job of the same name is another one."""
        with self._lock:
            key = (job.folder, job.created)
            log = self._logs.setdefault(key, RunLog(job.folder / jobs.EVENTS))
            self._logs.move_to_end(key)
            while len(self._logs) > LOGS_KEPT:
                self._logs.popitem(last=False)
            log.refresh()
            return log


@dataclass
class Cursor:
    """What one browser shows: kept in its `gr.State`, compared with the truth at every tick."""

    run: str = ""
    version: int = -1
    smoothing: float = 0.0
    charted: float = 0.0
    known_runs: frozenset[str] = frozenset()
    known_reports: frozenset[str] = frozenset()
    # Jobs that ran or waited at the last look, by key, and the one that the header named; the one that ended last.
    followed: frozenset[str] = frozenset()
    named: str = ""
    ended: JobView | None = None
    usage_due: float = 0.0
    sent: dict[str | None, object] = field(default_factory=dict)
    legends: dict[str, str] = field(default_factory=dict)

    def fresh(self, name: str | None, value: object) -> bool:
        """True when `value` differs from what this browser was sent under `name`; remembers it."""
        if name in self.sent and self.sent[name] == value:
            return False
        self.sent[name] = value
        return True

    def follow(self, active: Sequence[JobView], workspace: Workspace) -> list[JobView]:
        """The jobs that ran or waited when this browser was last told, and have ended since."""
        now = {key(job, workspace): job for job in active}
        gone = [workspace.root / name for name in sorted(self.followed - set(now))]
        self.followed = frozenset(now)
        running = (name for name, job in now.items() if job.state == "running")
        self.named = next(running, next(iter(now), ""))
        ended = [jobs.view(folder) for folder in gone if (folder / jobs.STATUS).is_file()]
        self.ended = ended[-1] if ended else self.ended
        return ended

    def chart_due(self, run: str, version: int, smoothing: float, *, ended: bool) -> bool:
        """Whether the charts must be drawn again: another run, another smoothing, or new events.

        New events alone redraw at most every `CHART_SECONDS`: drawing costs the browser time that
        on a small machine is taken from the training itself.
        """
        other = (run, smoothing) != (self.run, self.smoothing)
        now = time.monotonic()
        if not other and (version == self.version or (now - self.charted < CHART_SECONDS and not ended)):
            return False
        self.run, self.version, self.smoothing, self.charted = run, version, smoothing, now
        return True


def evaluations(workspace: Workspace) -> list[JobView]:
    """All evaluation jobs, newest first."""
    return _of_kind("evaluate", workspace)


def exports(workspace: Workspace) -> list[JobView]:
    """All export jobs, newest first."""
    return _of_kind("export", workspace)


def exports_of(model: str, workspace: Workspace) -> list[JobView]:
    """Export jobs of one model, newest first."""
    return [job for job in exports(workspace) if getattr(jobs.read_config(job.folder), "model", "") == model]


def _of_kind(kind: str, workspace: Workspace) -> list[JobView]:
    parents = {"evaluate": ("eval", "evals"), "export": ("exports",)}[kind]
    found = [jobs.view(folder) for folder in jobs.folders(workspace) if folder.parent.name in parents]
    return sorted((job for job in found if job.kind == kind), key=lambda job: (-job.created, job.id))


def written(workspace: Workspace) -> tuple[float, ...]:
    """When votes, keys and datasets were last written, in seconds since 1970: a look that costs nothing."""
    places = (workspace.database, workspace.datasets)
    return tuple(place.stat().st_mtime if place.exists() else 0.0 for place in places)


def key(job: JobView, workspace: Workspace) -> str:
    """The name under which `jobs.find` finds a job again: its path below the workspace."""
    return job.folder.relative_to(workspace.root).as_posix()
