"""The rows that a build is made and judged with: a run's own, divided as its training divided them."""

from __future__ import annotations

import random
from pathlib import Path

from phi3tune import data
from phi3tune.config import DatasetConfig, Part
from phi3tune.data import Conversation, Dataset
from phi3tune.engines.folders import read_json
from phi3tune.engines.models import ModelRef
from phi3tune.errors import UserError
from phi3tune.events import Notice, Reporter
from phi3tune.paths import Workspace

BUNDLED = "lantern-support"
SKILLS = "skills/test.jsonl"


def held_out(ref: ModelRef, workspace: Workspace, reporter: Reporter) -> tuple[list[Conversation], dict[str, str]]:
    """Conversations that the model was not trained on, and where they are from.

    A run's own test part, else its validation part; the held-out skills that phi3-nano carries; for other models,
    and where a run's data is gone, bundled rows.
    """
    if ref.run is not None:
        try:
            dataset = _of_run(ref.run, workspace)
            part: Part
            for part in ("test", "validation"):
                if dataset.parts[part]:
                    return dataset.parts[part], {"dataset": dataset.name, "part": part}
            raise UserError("the run kept no row from training")
        except UserError as error:
            message = f"the build is compared on {BUNDLED} and not on the run's own rows: {error}"
            reporter.emit(Notice(code="run_rows_gone", message=message))
    skills = ref.base / SKILLS
    name, place = (SKILLS, str(skills)) if ref.run is None and skills.is_file() else (BUNDLED, BUNDLED)
    return data.load(DatasetConfig(dataset=place), workspace).parts["test"], {"dataset": name, "part": "test"}


def training(ref: ModelRef, workspace: Workspace, count: int) -> list[Conversation]:
    """`count` of the conversations that a run was trained on, the same ones each time; fewer where there are fewer.

    Raises `UserError` when the model is no run, or its data is gone or was changed.
    """
    if ref.run is None:
        raise UserError(
            f"--algorithm gptq calibrates on the rows that a run was trained on, and {ref.label} is no run; "
            "use --algorithm auto"
        )
    try:
        rows = _of_run(ref.run, workspace).parts["train"]
    except UserError as error:
        raise UserError(f"--algorithm gptq needs the rows of run {ref.run}: {error}; use --algorithm auto") from None
    return random.Random(0).sample(rows, min(count, len(rows)))


def _of_run(run: str, workspace: Workspace) -> Dataset:
    record = read_json(workspace.runs / run / "dataset.json")
    # The path as it was resolved then: the name given may have been relative to another folder.
    place = record["source"] if Path(record["source"]).exists() else record["config"]["dataset"]
    dataset = data.load(DatasetConfig(**{**record["config"], "dataset": place}), workspace, saved=record)
    if dataset.sha256 != record["sha256"]:
        raise UserError(f"{dataset.source} was changed since the run")
    return dataset
