"""Step 1 of the Train tab: choose a dataset, see what is in it and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from phi3tune import data
from phi3tune.chat import Renderer
from phi3tune.config import DatasetConfig, TrainConfig
from phi3tune.data import DataError
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import forms, render_data
from phi3tune.ui.render import empty, notice, section
from phi3tune.ui.wire import ACTION, Updates, dataset_choices, known_dataset, toasts

FILE_TYPES = [".jsonl", ".json", ".csv", ".tsv", ".parquet"]
FIELDS = forms.fields(DatasetConfig, "advanced")
HINT = "Choose one of the bundled datasets, or drop a file with chats: JSON lines, JSON, CSV or Parquet."


@dataclass
class DataCard:
    dataset: gr.Dropdown
    upload: gr.File
    fields: dict[str, forms.Widget]
    details: gr.Column
    row: gr.Number
    summary: gr.HTML
    rows: gr.HTML
    tokens: gr.HTML
    lengths: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """Everything that a look at the data changes."""
        return [self.summary, self.rows, self.tokens, self.lengths, self.details]


def build() -> DataCard:
    with gr.Column(elem_classes="pt-card", scale=3, min_width=340):
        gr.HTML(section("1", "Data", "the chats that the model learns from"))
        with gr.Row():
            dataset = gr.Dropdown(
                [],
                value=None,
                label="Dataset",
                info="Bundled with phi3tune, or uploaded before.",
                elem_id="dataset",
                allow_custom_value=True,
                min_width=220,
            )
            upload = gr.File(
                label="Drop a file, or click to choose one",
                file_types=FILE_TYPES,
                show_label=False,
                height=76,
                elem_id="upload",
                min_width=220,
            )
        with gr.Accordion("Columns and division into parts", open=False, elem_id="data-settings"), gr.Row():
            fields = {name: forms.widget(TrainConfig, name, min_width=220) for name in FIELDS}
        summary = gr.HTML(empty(HINT), elem_id="data-summary")
        with gr.Column(visible=False, elem_id="data-details") as details, gr.Tabs():
            with gr.Tab("Rows"):
                rows = gr.HTML(elem_id="data-rows")
            with gr.Tab("Tokens"):
                row = gr.Number(1, label="Row", precision=0, minimum=1, elem_id="token-row", min_width=120)
                tokens = gr.HTML(elem_id="data-tokens")
            with gr.Tab("Lengths"):
                lengths = gr.HTML(elem_id="data-lengths")
    return DataCard(dataset, upload, fields, details, row, summary, rows, tokens, lengths)


@dataclass(frozen=True)
class Look:
    """HTML of what there is to see of a dataset; without rows where it cannot be used."""

    summary: str
    rows: str = ""
    tokens: str = ""
    lengths: str = ""


@lru_cache(maxsize=2)
def _read(config: str, root: Path, tokenizer: Path, max_length: int) -> tuple[data.Dataset, Renderer, data.DataReport]:
    """A dataset as a model sees it, kept while a person leafs through it. `config` is JSON: a cache needs a key."""
    found = data.load(DatasetConfig.model_validate_json(config), Workspace(root))
    renderer = Renderer.load(tokenizer)
    return found, renderer, data.report(found, renderer, max_length)


def look(
    dataset: object, model: object, max_length: object, row: object, values: Sequence[Any], workspace: Workspace
) -> Look:
    """The dataset of the form as its model sees it, row number `row` (from 1) token by token.

    Mistakes in the data and in the settings are part of the answer: they are shown where they were made.
    """
    if not dataset:
        return Look(empty(HINT))
    if not model:
        return Look(notice("info", "Choose a base model to see how it reads this dataset."))
    try:
        names, chosen = [*FIELDS, "max_length"], known_dataset(dataset, workspace)
        config = forms.read(TrainConfig, names, [*values, max_length], dataset=chosen)
        tokenizer = models.resolve(str(model), workspace).tokenizer
        settings = config.model_dump_json(include=set(DatasetConfig.model_fields))
        found, renderer, report = _read(settings, workspace.root, tokenizer, config.max_length)
    except DataError as error:
        text = notice("bad", "This dataset cannot be used yet.", "Mend what is listed below.")
        return Look(text + render_data.problems(error.problems))
    except UserError as error:
        return Look(notice("bad", str(error)))
    part = found.parts["train"]
    place = min(max(1, int(row)), len(part)) if isinstance(row, int | float) else 1
    return Look(
        render_data.summary(report) + render_data.problems(report.problems),
        render_data.rows(part, len(part)),
        render_data.tokens(renderer, part[place - 1], config.max_length, place, len(part)),
        render_data.lengths(report),
    )


def connect(card: DataCard, model: gr.Dropdown, max_length: forms.Widget, workspace: Workspace) -> None:
    """Look at the data again whenever something that matters to it changes."""
    fields = list(card.fields.values())
    inputs = [card.dataset, model, max_length, card.row, *fields]

    def show(dataset: object, model: object, max_length: object, row: object, *values: Any) -> Updates:
        seen = look(dataset, model, max_length, row, values, workspace)
        return {
            card.summary: seen.summary,
            card.rows: seen.rows,
            card.tokens: seen.tokens,
            card.lengths: seen.lengths,
            card.details: gr.Column(visible=bool(seen.rows)),
        }

    def store(path: str | None) -> Updates:
        if not path:
            return {card.upload: None}
        stored = data.store_upload(Path(path), Path(path).name, workspace)
        return {card.dataset: gr.Dropdown(dataset_choices(workspace), value=stored), card.upload: None}

    for changing in (card.dataset, model):
        changing.change(show, inputs, card.shown, **ACTION)
    for typed in (card.row, max_length, *fields):
        typed.change(show, inputs, card.shown, trigger_mode="always_last", **ACTION)
    card.upload.upload(toasts(store), card.upload, [card.dataset, card.upload], **ACTION)
