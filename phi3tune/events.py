"""What a job says while it works: typed events, one JSON line each, and the status they add up to.

A worker appends events to `events.jsonl` in its folder; the terminal, the page and the tests are
readers of that one stream. A job ends with exactly one of `Completed`, `Stopped`, `Failed`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

State = Literal["queued", "running", "completed", "stopped", "paused", "failed"]
FINAL: frozenset[str] = frozenset({"completed", "stopped", "paused", "failed"})


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="constants")

    time: float = Field(default_factory=time.time, description="seconds since the epoch")


class Phase(_Event):
    """The job entered a new phase: `loading the model`, `training`, `checking the build`."""

    type: Literal["phase"] = "phase"
    name: str


class Progress(_Event):
    """How far the job is. `eta_seconds` is None until it can be told."""

    type: Literal["progress"] = "progress"
    done: int
    total: int
    unit: str = "steps"
    eta_seconds: float | None = None


class Metrics(_Event):
    """Numbers at an optimizer step.

    Keys of `values` in training: `loss`, `token_accuracy`, `entropy` (nats per loss-bearing token), `learning_rate`,
    `grad_norm`, `tokens_per_second`, `memory_bytes` per logging interval; `eval_loss`, `eval_token_accuracy` and the
    like per evaluation. `weight` is the number of loss-bearing tokens behind `loss`, for weighted means.
    """

    type: Literal["metrics"] = "metrics"
    step: int
    epoch: float | None = None
    weight: int | None = None
    values: dict[str, float]


class Sample(_Event):
    """The model's greedy answer to a held-out prompt, at a step of training."""

    type: Literal["sample"] = "sample"
    step: int
    prompt: str
    expected: str
    answer: str


class Notice(_Event):
    """Something the user should know; `action` says what to do about it."""

    type: Literal["notice"] = "notice"
    level: Literal["info", "warning"] = "warning"
    code: str
    message: str
    action: str = ""


class CheckpointSaved(_Event):
    """A checkpoint is complete on disk (its manifest is written): a run can resume from it.

    `best` marks the one of the best evaluation so far.
    """

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    best: bool = False


class Resumed(_Event):
    """A run starts again after `step`; later events of an earlier attempt are superseded."""

    type: Literal["resumed"] = "resumed"
    step: int


class Completed(_Event):
    """The job did what it was asked to do; `result` is what `--json` prints."""

    type: Literal["completed"] = "completed"
    result: dict[str, Any] = {}


class Stopped(_Event):
    """The user stopped the job, or paused it to make room; a run can be resumed after `step`."""

    type: Literal["stopped"] = "stopped"
    step: int = 0
    paused: bool = False
    result: dict[str, Any] = {}


class Failed(_Event):
    """The job could not go on. `user_error` tells a mistake of the user's from a fault."""

    type: Literal["failed"] = "failed"
    reason: str
    user_error: bool = False


Outcome = Completed | Stopped | Failed
Event = Annotated[
    Phase | Progress | Metrics | Sample | Notice | CheckpointSaved | Resumed | Completed | Stopped | Failed,
    Field(discriminator="type"),
]
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)


class Reporter(Protocol):
    """What the work is given to tell of itself and to learn that it should stop."""

    def emit(self, event: Event) -> None: ...

    def stop_requested(self) -> bool: ...


class EventLog:
    """Appends events to a file, each in one write, so that readers never see a mixed line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, event: Event) -> None:
        with self._path.open("ab+") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # a line that a full disk cut off must not take this one with it
                    stream.write(b"\n")
            stream.write(event.model_dump_json().encode() + b"\n")


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Events from byte `offset` on, and the offset to read on from.

    A last line that is still being written is left for the next call; a line that no known event
    fits (from a newer version) is skipped.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read()
    except FileNotFoundError:
        return [], offset
    complete = data[: data.rfind(b"\n") + 1]
    events = []
    for line in complete.splitlines():
        try:
            events.append(_ADAPTER.validate_json(line))
        except ValidationError:
            continue
    return events, offset + len(complete)


class Status(BaseModel):
    """`status.json`: the state of a job, written only by the holder of the folder's lock."""

    model_config = ConfigDict(extra="ignore")

    kind: str
    state: State = "queued"
    phase: str = ""
    step: int = 0
    steps: int = 0
    eta_seconds: float | None = None
    resume_step: int | None = None
    reason: str = ""
    pid: int | None = None
    created: float = Field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    heartbeat: float | None = None
    memory_bytes: int = 0
    result: dict[str, Any] = {}
