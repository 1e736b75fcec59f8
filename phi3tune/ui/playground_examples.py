"""Questions to begin with: held-out ones of the data that the chosen model learned from, or of the dataset in hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from phi3tune import data
from phi3tune.config import EvalConfig
from phi3tune.data.stored import find_dataset
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui.playground_rows import data_of
from phi3tune.ui.render import esc
from phi3tune.ui.render_chat import act
from phi3tune.ui.words import t

MOST, LONGEST = 5, 80  # questions, and characters of one
LARGEST_BYTES = 20_000_000  # a larger dataset takes longer to read than somebody waits for examples


def html(chosen: Sequence[object], dataset: object, workspace: Workspace) -> str:
    """A button for each question; nothing where there is none to show."""
    name, found = examples(chosen, dataset, workspace)
    if not found:
        return ""
    buttons = "".join(act("example", text, text, t("Ask this")) for text in found)
    head = t("Held-out questions of {dataset}:", dataset=name)
    return f'<div class="pt-examples"><p class="pt-sub">{esc(head)}</p><div>{buttons}</div></div>'


def examples(chosen: Sequence[object], dataset: object, workspace: Workspace) -> tuple[str, tuple[str, ...]]:
    """The name of a dataset and questions of its test part.

    `chosen` are models, the last ones first asked what they were trained on; `dataset` is the id of one that is used
    where none of them was trained here.
    """
    trained = [name for model in reversed(chosen) if model and (name := data_of(str(model), workspace))]
    wanted = next(iter(trained), dataset)
    info = find_dataset(wanted, workspace) if isinstance(wanted, str) and wanted else None
    if info is None or _bytes(info) > LARGEST_BYTES:
        return "", ()
    return info.name, _questions(info.id, tuple(str(model) for model in chosen if model), workspace.here())


def _bytes(info: data.DatasetInfo) -> int:
    files = [info.path] if info.path.is_file() else info.path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


@lru_cache(maxsize=32)
def _questions(dataset: str, chosen: tuple[str, ...], workspace: Workspace) -> tuple[str, ...]:
    """First questions that are short, spread over the part; none that a model was trained on."""
    from phi3tune.evaluation import choose

    refs = []
    for model in chosen:
        try:
            refs.append(models.resolve(model, workspace, download=False))
        except UserError:
            continue  # a name that is only being typed
    try:
        rows = choose(EvalConfig(dataset=dataset), refs, workspace).rows
    except UserError:
        return ()
    asked = [row.prompt_messages[-1]["content"].strip() for row in rows if _alone(row)]
    short = list(dict.fromkeys(text for text in asked if 0 < len(text) <= LONGEST and "\n" not in text))
    return tuple(short[:: max(1, len(short) // MOST)][:MOST])


def _alone(row: data.Conversation) -> bool:
    """Whether a row is one question and its answer."""
    return [message["role"] for message in row.prompt_messages if message["role"] != "system"] == ["user"]
