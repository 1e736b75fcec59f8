"""Runs that have ended, as folders written by hand: no model is loaded for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phi3tune import jobs
from phi3tune.config import TrainConfig, to_yaml
from phi3tune.events import Completed, Event, EventLog, Metrics, State, Status
from phi3tune.jobs.folder import Job
from phi3tune.paths import Workspace, new_folder, write_json


def ended_run(
    workspace: Workspace,
    run: str,
    /,
    *,
    state: State = "completed",
    result: dict[str, Any] | None = None,
    events: Sequence[Event] = (),
    adapter: bool = True,
    **settings: Any,
) -> Path:
    """The folder of a run of phi3-nano with a (meaningless) adapter, and these events in its log."""
    config = TrainConfig(**settings)
    folder = workspace.runs / run
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(to_yaml(config))
    (folder / jobs.JOB).write_text(Job("train", config).to_json())
    outcome = {"run": run, "status": state, "steps": 4, **(result or {})}
    status = Status(kind="train", state=state, step=4, steps=4, pid=4711, resume_step=4, result=outcome)
    (folder / jobs.STATUS).write_text(status.model_dump_json())
    log = EventLog(folder / jobs.EVENTS)
    for event in events:
        log.append(event)
    log.append(Completed(result=outcome))
    write_json(folder / "dataset.json", {"schema": 1, "split": {}})
    if adapter:
        write_adapter(folder / "adapter")
    return folder


def write_adapter(place: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    with new_folder(place) as folder:
        save_file({"lora_A": np.arange(6, dtype=np.float32)}, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "phi3-nano"}
        (folder / "adapter_config.json").write_text(json.dumps(config))


def curve(**series: Sequence[float]) -> list[Metrics]:
    """Metrics at steps 1, 2, ...: one list of values for each name; `eval_` ones come by themselves."""
    found = []
    for step, values in enumerate(zip(*series.values(), strict=True), 1):
        told = dict(zip(series, values, strict=True))
        trained = {name: value for name, value in told.items() if not name.startswith("eval_")}
        if trained:
            found.append(Metrics(step=step, weight=10, values=trained))
        if evaluated := {name: value for name, value in told.items() if name.startswith("eval_")}:
            found.append(Metrics(step=step, values=evaluated))
    return found
