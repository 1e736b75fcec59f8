"""What lies in the folder of a job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phi3tune.config import Config, DownloadConfig, EvalConfig, ExportConfig, PromptsConfig, TrainConfig
from phi3tune.events import Status
from phi3tune.paths import write_text

Kind = Literal["train", "evaluate", "export", "download", "prompts"]
CONFIGS: dict[str, type[Config]] = {
    "train": TrainConfig,
    "evaluate": EvalConfig,
    "export": ExportConfig,
    "download": DownloadConfig,
    "prompts": PromptsConfig,
}
# One training job at a time on the device; short jobs do not wait behind a long one.
LANES = {"train": "train", **dict.fromkeys(("evaluate", "export", "download", "prompts"), "tools")}
# Kinds of jobs that go on where they ended: from a checkpoint, after the rows that have been answered, or the bytes
# that have been fetched.
RESUMABLE = ("train", "evaluate", "download", "prompts")
RESUMABLE_STATES = ("stopped", "paused", "failed")

JOB, STATUS, EVENTS, LOCK, LOG, STOP = "job.json", "status.json", "events.jsonl", "run.lock", "worker.log", "stop"
# What the file `stop` holds when the job is to be paused, rather than stopped.
PAUSE = "pause"


@dataclass(frozen=True)
class Job:
    """What a job was given.

    secrets  names of the environment variables that its first worker was started with; their values are never on disk
    """

    kind: Kind
    config: Config
    secrets: tuple[str, ...] = ()

    def to_json(self) -> str:
        job = {"schema": 1, "kind": self.kind, "config": self.config.model_dump(mode="json"), "secrets": self.secrets}
        return json.dumps(job, indent=1, ensure_ascii=False)


def read_job(folder: Path) -> Job:
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    config = CONFIGS[job["kind"]].model_validate(job["config"])
    return Job(job["kind"], config, tuple(job.get("secrets", ())))


def read_config(folder: Path) -> Config:
    """The settings that a job was given."""
    return read_job(folder).config


def read_status(folder: Path) -> Status:
    return Status.model_validate_json((folder / STATUS).read_text(encoding="utf-8"))


def write_status(folder: Path, status: Status, *, sync: bool = True) -> None:
    """Only the holder of the folder's lock may call this."""
    write_text(folder / STATUS, status.model_dump_json(indent=1), sync=sync)
