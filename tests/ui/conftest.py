"""Jobs on disk, as workers leave them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from phi3tune import jobs
from phi3tune.config import Config, EvalConfig, ExportConfig, TrainConfig, to_yaml
from phi3tune.events import Event, EventLog, Status
from phi3tune.jobs import JobView
from phi3tune.paths import Workspace

MakeJob = Callable[..., JobView]
KINDS: dict[type[Config], str] = {TrainConfig: "train", EvalConfig: "evaluate", ExportConfig: "export"}


@pytest.fixture
def make_job() -> MakeJob:
    def make(folder: Path, config: Config, events: Sequence[Event] = (), **status: Any) -> JobView:
        kind = KINDS[type(config)]
        folder.mkdir(parents=True, exist_ok=True)
        job = {"schema": 1, "kind": kind, "config": config.model_dump(mode="json")}
        (folder / jobs.JOB).write_text(json.dumps(job))
        if kind == "train":
            (folder / "run.yaml").write_text(to_yaml(config))
        (folder / jobs.STATUS).write_text(Status(kind=kind, **status).model_dump_json())
        log = EventLog(folder / jobs.EVENTS)
        for event in events:
            log.append(event)
        return jobs.view(folder)

    return make


@pytest.fixture
def make_run(make_job: MakeJob, workspace: Workspace) -> MakeJob:
    def make(name: str, events: Sequence[Event] = (), **status: Any) -> JobView:
        config = TrainConfig(dataset="lantern-support", name=name)
        return make_job(workspace.runs / name, config, events, **{"state": "completed", **status})

    return make
