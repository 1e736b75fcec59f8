"""What is checked before a job is queued: everything that needs no model in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phi3tune import hosted
from phi3tune.config import Config, DatasetConfig, DownloadConfig, EvalConfig, ExportConfig, PromptsConfig, TrainConfig
from phi3tune.config.hosted import beyond_visitors
from phi3tune.errors import ConfigError, UserError
from phi3tune.paths import Workspace

if TYPE_CHECKING:
    from phi3tune.engines.models import ModelRef

HUB_TOKEN = "HF_TOKEN"


@dataclass(frozen=True)
class Admission:
    """A job that may start.

    config     its settings, with names that mean the same from any folder
    parent     the folder that its own folder is made in
    name       the name that it must have, or None
    base_name  what a made name begins with
    """

    config: Config
    parent: Path
    name: str | None
    base_name: str


def admit(config: Config, workspace: Workspace, *, token: str | None = None) -> Admission:
    """Check a job; raises `UserError` when it could not succeed as asked. `token` opens gated models on the Hub."""
    from phi3tune import data, evaluation
    from phi3tune.engines import models, zero
    from phi3tune.training import settings

    rules = hosted.rules(workspace)
    if rules is not None and (problems := beyond_visitors(config)):
        raise ConfigError(problems)
    if isinstance(config, TrainConfig):
        zero.refuse_training()
        name, start = _start(config, workspace, token)
        config = settings.check(config, start)
        dataset = data.load(config, workspace)
        if rules is not None:
            _check_steps(config, len(dataset.parts["train"]), rules.max_steps)
        if config.task == "classification":
            evaluation.classes(dataset.parts["train"])
        changes = {"model": name, "revision": None, **_dataset_names(config, workspace)}
        return Admission(config.model_copy(update=changes), workspace.runs, config.name, dataset.name)
    if isinstance(config, EvalConfig):
        refs = [models.resolve(model, workspace) for model in config.models]
        for name in ("json_schema", "safety"):
            hosted.check_file(getattr(config, name), workspace)
        evaluation.check(config)
        evaluation.check_models(config, refs)
        evaluation.choose(config, refs, workspace)
        run = next((ref.run for ref in refs if ref.run), None)
        parent = workspace.run(run) / "eval" if run else workspace.evals
        paths = {name: _absolute(getattr(config, name)) for name in ("json_schema", "safety", "benchmark_tasks")}
        names = {"models": [ref.ref for ref in refs], **_dataset_names(config, workspace)}
        changed = config.model_copy(update={**names, **paths})
        return Admission(changed, parent, None, f"{config.split}-eval" if config.dataset else "eval")
    if isinstance(config, ExportConfig):
        ref = models.buildable(config.model, config.format, workspace)
        changed_export = config.model_copy(update={"model": ref.ref})
        return Admission(changed_export, workspace.exports, None, f"{ref.label}-{config.precision}")
    if isinstance(config, DownloadConfig):
        from phi3tune.engines import hub_models

        hosted.check_hub_model(config.model, workspace)
        access = hub_models.examine(config.model, config.revision, token)
        if access.problems:
            raise UserError(access.problems[0])
        named = config.model_copy(update={"model": access.hub_id, "revision": access.revision})
        return Admission(named, workspace.downloads, None, access.hub_id)
    if isinstance(config, PromptsConfig):
        from phi3tune.evaluation import prompts

        hosted.check_file(config.prompts, workspace)
        prompts.read(Path(config.prompts))
        refs = [models.resolve(model, workspace) for model in config.models]
        changed_prompts = config.model_copy(
            update={"models": [ref.ref for ref in refs], "prompts": _absolute(config.prompts)}
        )
        return Admission(changed_prompts, workspace.evals, None, "prompts")
    raise TypeError(f"there is no job for {type(config).__name__}")


def _check_steps(config: TrainConfig, rows: int, most: int) -> None:
    """Raise `UserError` when a run of so many rows has more steps than a visitor's may have."""
    from phi3tune.training.plan import steps_of

    if (steps := steps_of(config, rows)) > most:
        given = "--epochs" if config.max_steps is None else "--max-steps"
        raise UserError(
            f"the run would take {steps:,} steps, and {most:,} are the limit here; lower {given}, or raise --batch-size"
        )


def _start(config: TrainConfig, workspace: Workspace, token: str | None) -> tuple[str, ModelRef]:
    """The name of exactly the weights that a run starts from, and those; of a Hub model that the worker has yet to
    download, its small files."""
    from phi3tune.engines import hub_models, models

    hub = models.hub_model(config.model, config.revision, workspace)
    if hub is None:
        ref = models.resolve(config.model, workspace)
        return ref.ref, models.starting_point(ref, workspace, adapter=config.adapter)
    held = hub_models.cached_folder(hub)
    if held is not None:  # the folder of a commit is called after it
        ref = models.resolve(str(hub_models.HubModel(hub.repo, held.name)), workspace)
        return ref.ref, models.starting_point(ref, workspace, adapter=config.adapter)
    folder, access = hub_models.small_files(hub, token)
    return access.pinned, models.ModelRef(access.pinned, hub.repo, "torch", folder)


def _dataset_names(config: DatasetConfig, workspace: Workspace) -> dict[str, str]:
    """The datasets that a config names, by names that mean the same from any folder."""
    from phi3tune import data

    given = {name: getattr(config, name) for name in ("dataset", "validation_file", "test_file")}
    return {name: data.canonical_name(value, workspace) for name, value in given.items() if value}


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())
