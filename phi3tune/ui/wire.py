"""What every handler needs: errors as toasts, choices for pickers, settings of an event."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from phi3tune import data
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.paths import MANIFEST, Workspace
from phi3tune.ui.words import N, t, told

P = ParamSpec("P")
R = TypeVar("R")
ORIGINS = {"bundled": N("bundled"), "stored": N("stored")}
Choices = list[tuple[str, str]]
Updates = dict[Any, Any]

# For what a person does: queued, so that its error reaches them as a toast; never listed as an API.
ACTION: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# For polling: one plain request, no queue and no toasts.
POLL: dict[str, Any] = {**ACTION, "queue": False}


def toasts(handler: Callable[P, R]) -> Callable[P, R]:
    """Show a `UserError` of the handler as a toast; anything else is a bug and keeps its traceback."""

    @functools.wraps(handler)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(*args, **kwargs)
        except UserError as error:
            raise gr.Error(told(error), print_exception=False) from None

    return run


def model_choices(workspace: Workspace, kind: str | None = None) -> Choices:
    """`(label, ref)` of every model there is, or of one kind of engine only."""
    return [(ref.label, ref.ref) for ref in models.list_models(workspace) if kind in (None, ref.kind)]


def checkpoint_choices(workspace: Workspace) -> Choices:
    """`(label, ref)` of every complete checkpoint of every run."""
    found = [
        path.parent for run in workspace.run_folders() for path in run.glob(f"checkpoints/checkpoint-*/{MANIFEST}")
    ]
    refs = sorted((path.parts[-3], int(path.name.rpartition("-")[2]), path.name) for path in found)
    return [(f"{run}/{name}", f"{run}/{name}") for run, _, name in refs]


def dataset_choices(workspace: Workspace) -> Choices:
    """`(label, id)` of every dataset; later versions say which they are."""
    return [(_dataset_label(info), info.id) for info in data.list_datasets(workspace)]


def _dataset_label(info: data.DatasetInfo) -> str:
    return info.title if info.version > 1 else f"{info.name} ({t(ORIGINS[info.kind])})"


def known_dataset(dataset_id: object, workspace: Workspace) -> str:
    """A dataset of the list, by its id. Nothing else: the page opens no path that a client names."""
    if dataset_id in {info.id for info in data.list_datasets(workspace)}:
        return str(dataset_id)
    raise UserError(t("Choose a dataset from the list, or upload a file."))


def stored_choices(workspace: Workspace) -> Choices:
    """What was uploaded or fetched, for the pickers of single files."""
    return [(_dataset_label(info), info.id) for info in data.list_datasets(workspace) if info.kind == "stored"]


def stored_file(dataset_id: object, workspace: Workspace) -> str:
    """The file of a stored dataset, by its id."""
    for info in data.list_datasets(workspace):
        if info.id == dataset_id and info.kind == "stored":
            return str(info.path)
    raise UserError(t("Choose an uploaded file from the list, or upload one in the Data tab."))


def base_of(ref: models.ModelRef, workspace: Workspace) -> str:
    """The model that a run or a build of one is compared with: what the run started from."""
    if ref.run is None:
        return models.NANO_NAME
    from phi3tune.config import TrainConfig
    from phi3tune.jobs import read_config

    config = read_config(workspace.run(ref.run))
    return config.model if isinstance(config, TrainConfig) else models.NANO_NAME


def place_of(event: gr.EventData) -> int:
    """The place that was pressed in a list, as the browser names it; -1 for anything else that a client sends."""
    place = getattr(event, "place", None)
    return place if isinstance(place, int) else -1


def stepwise(handler: Callable[P, Iterator[R]]) -> Callable[P, Iterator[R]]:
    """`toasts` for a handler that yields."""

    @functools.wraps(handler)
    def run(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        try:
            yield from handler(*args, **kwargs)
        except UserError as error:
            raise gr.Error(told(error), print_exception=False) from None

    return run
