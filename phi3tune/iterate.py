"""The next run out of an earlier one: the same with changes, or training that goes on from its result."""

from __future__ import annotations

import json
from typing import Any

from phi3tune import jobs
from phi3tune.about import read_about
from phi3tune.config import PRESETS, QUALITY, DatasetConfig, TrainConfig, parse
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.training.settings import ADAPTER_FIELDS

ADAPTER_SHAPE = tuple(name for name in ADAPTER_FIELDS if name != "task")
# The settings that a preset stands for: a new preset begins from their defaults.
_PRESET_SETTINGS = {
    "method": {name for preset in PRESETS.values() for name in preset},
    "quality": {name for preset in QUALITY.values() for name in preset},
}


def cloned(run: str, workspace: Workspace, **changes: Any) -> TrainConfig:
    """The settings of a run with changes, under a new name. `changes` are fields of `TrainConfig`.

    Raises `UserError` when there is no such run, `ConfigError` when the settings cannot be together.
    """
    folder = workspace.run(run)
    config = jobs.read_config(folder)
    if not isinstance(config, TrainConfig):
        raise UserError(f"{run} is no training run")
    about = read_about(folder)
    values = {**config.model_dump(), "name": None, "project": about.project, "tags": list(about.tags), "note": ""}
    for preset in _PRESET_SETTINGS.keys() & changes.keys():
        values = {name: value for name, value in values.items() if name not in _PRESET_SETTINGS[preset]}
    return parse(TrainConfig, {**values, **changes})


def continued(run: str, workspace: Workspace, **changes: Any) -> TrainConfig:
    """Settings of a new run that begins with the result of a completed one: as long again, or on other data.

    Its adapter is trained on as it is; the earlier run stays as it was. Raises as `cloned`, and `UserError` when the
    run has no result.
    """
    folder = workspace.run(run)
    if not any((folder / part).is_dir() for part in ("adapter", "merged")):
        raise UserError(f"run {run} is {jobs.view(folder).state} and has no result to go on from; resume it instead")
    goes_on: dict[str, Any] = {"revision": None}  # the run recorded its base's
    if (folder / "adapter").is_dir() and changes.get("method") not in ("full", "last_layers"):
        # What the adapter is, it brings along: PiSSA's, say, was saved with twice its rank.
        fields = TrainConfig.model_fields
        goes_on |= {name: fields[name].get_default(call_default_factory=True) for name in ADAPTER_SHAPE}
    return cloned(run, workspace, **{**goes_on, **changes, "model": run})


def rows_seen_before(config: TrainConfig, workspace: Workspace) -> int:
    """Rows held out by a continued run that the runs before it were trained on; a score on them is no held-out score.

    None on the same data, whose division stays. On new data a row may have changed its part. Rows are the same when
    their text is; runs whose dataset is gone are passed over.
    """
    from phi3tune import data
    from phi3tune.data import split

    held_out = None
    seen: set[bytes] = set()
    for run, earlier in _before(config, workspace):
        if _data_of(earlier) == _data_of(config):
            continue
        record = workspace.run(run) / "dataset.json"
        try:
            saved = json.loads(record.read_text(encoding="utf-8"))
            rows = data.load(earlier, workspace, saved=saved).parts["train"]
        except (OSError, ValueError, UserError):
            continue
        seen |= {split.key(row.messages) for row in rows}
    if seen:
        parts = data.load(config, workspace).parts
        held_out = [split.key(row.messages) for part in ("validation", "test") for row in parts[part]]
    return sum(key in seen for key in held_out or [])


def _before(config: TrainConfig, workspace: Workspace) -> list[tuple[str, TrainConfig]]:
    """The runs that `config` goes on from, newest first."""
    found: list[tuple[str, TrainConfig]] = []
    while config.model not in {run for run, _ in found}:
        try:
            earlier = jobs.read_config(workspace.run(config.model))
        except UserError:
            break
        if not isinstance(earlier, TrainConfig):
            break
        found.append((config.model, earlier))
        config = earlier
    return found


def _data_of(config: TrainConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in DatasetConfig.model_fields}
