"""Step 1 of the Train tab: choose a dataset, see what is in it, what is wrong with it, and mend it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from phi3tune import data
from phi3tune.chat import Renderer
from phi3tune.config import DatasetConfig, Part, TrainConfig
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import forms, render_data, render_findings
from phi3tune.ui.render import empty, notice, section
from phi3tune.ui.wire import ACTION, Updates, dataset_choices, known_dataset, place_of, toasts

FILE_TYPES = [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zst"]
# The page opens no path that a client names: files for the parts are chosen from the stored datasets.
PART_FILES = {"validation_file": "Validation file", "test_file": "Test file"}
FIELDS = forms.fields(DatasetConfig, "advanced", without=list(PART_FILES))
MAPPED = {"user": "Question column", "assistant": "Answer column", "system": "System column"}
HINT = "Choose one of the bundled datasets, or drop a file with chats: JSON lines, JSON, CSV, Parquet or text."
NO_FILE = "none"
PARTS: tuple[Part, ...] = get_args(Part)
OPEN_FINDING = (
    "element.addEventListener('click', e => { const finding = e.target.closest('[data-finding]');"
    " if (finding) trigger('click', {place: Number(finding.dataset.finding)}); })"
)


@dataclass
class DataCard:
    dataset: gr.Dropdown
    upload: gr.File
    hub_id: gr.Textbox
    fetch: gr.Button
    fields: dict[str, forms.Widget]
    part_files: dict[str, gr.Dropdown]
    mapped: dict[str, gr.Dropdown]
    mapping: gr.Row
    summary: gr.HTML
    details: gr.Column
    part: gr.Radio
    row: gr.Number
    rows: gr.HTML
    tokens: gr.HTML
    lengths: gr.HTML
    findings: gr.HTML
    found_rows: gr.HTML
    statistics: gr.HTML
    mend: gr.Column
    repair: gr.Checkbox
    drop: gr.CheckboxGroup
    make: gr.Button
    changes: gr.HTML

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting of the card by name."""
        return {**self.fields, **self.part_files}


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
        with gr.Accordion("From the Hub", open=False, elem_id="data-hub"), gr.Row(elem_classes="pt-bar-row"):
            hub_id = gr.Textbox(
                label="Hub dataset id",
                info="owner/name, with :config or @revision where it needs one. It is downloaded and stored here.",
                elem_id="hub-id",
            )
            fetch = gr.Button("Fetch", size="sm", elem_id="hub-fetch")
        with gr.Accordion("Columns and division into parts", open=False, elem_id="data-settings"):
            with gr.Row(visible=False) as mapping:
                mapped = {
                    name: gr.Dropdown([], value=None, label=label, elem_id=f"map-{name}", min_width=160)
                    for name, label in MAPPED.items()
                }
            with gr.Row():
                fields = {name: forms.widget(TrainConfig, name, min_width=220) for name in FIELDS}
                part_files = {
                    name: gr.Dropdown(
                        [NO_FILE],
                        value=NO_FILE,
                        label=label,
                        info=forms.sentence(TrainConfig, name),
                        elem_id=f"set-{name.replace('_', '-')}",
                        min_width=220,
                    )
                    for name, label in PART_FILES.items()
                }
        summary = gr.HTML(empty(HINT), elem_id="data-summary")
        with gr.Column(visible=False, elem_id="data-details") as details:
            part = gr.Radio(list(PARTS), value="train", label="Rows and tokens of the part", elem_id="data-part")
            with gr.Tabs():
                with gr.Tab("Rows"):
                    rows = gr.HTML(elem_id="data-rows")
                with gr.Tab("Tokens"):
                    row = gr.Number(1, label="Row", precision=0, minimum=1, elem_id="token-row", min_width=120)
                    tokens = gr.HTML(elem_id="data-tokens")
                with gr.Tab("Lengths"):
                    lengths = gr.HTML(elem_id="data-lengths")
                with gr.Tab("Findings"):
                    findings = gr.HTML(elem_id="data-findings", js_on_load=OPEN_FINDING)
                    found_rows = gr.HTML(elem_id="data-found-rows")
                with gr.Tab("Statistics"):
                    statistics = gr.HTML(elem_id="data-statistics")
        with gr.Column(visible=False, elem_id="data-mend", elem_classes="pt-after") as mend:
            gr.HTML('<h3 class="pt-small-heading">A mended version of this dataset</h3>')
            repair = gr.Checkbox(
                value=True,
                label="Repair what can be repaired",
                info="Every change is listed; rows that cannot be repaired are left out.",
                elem_id="data-repair",
            )
            drop = gr.CheckboxGroup([], label="Leave out the rows of", elem_id="data-drop", visible=False)
            with gr.Row(elem_classes="pt-buttons"):
                make = gr.Button("Write a new version", elem_id="data-make", size="sm")
        changes = gr.HTML(elem_id="data-changes")
    return DataCard(
        dataset, upload, hub_id, fetch, fields, part_files, mapped, mapping, summary, details, part, row, rows,
        tokens,
        lengths, findings, found_rows, statistics, mend, repair, drop, make, changes,
    )  # fmt: skip


@lru_cache(maxsize=2)
def _read(config: str, root: Path) -> data.Dataset:
    """A dataset, kept while a person leafs through it. `config` is JSON: a cache needs a key."""
    return data.read(DatasetConfig.model_validate_json(config), Workspace(root))


@lru_cache(maxsize=2)
def _audit(config: str, root: Path, tokenizer: Path, max_length: int) -> dict[str, Any]:
    settings = TrainConfig(**DatasetConfig.model_validate_json(config).model_dump(), max_length=max_length)
    return data.check(settings, Workspace(root), Renderer.load(tokenizer))


@dataclass(frozen=True)
class Asked:
    """What the form asks to see: settings as JSON (a cache's key), the model's tokenizer, the longest length."""

    config: str
    tokenizer: Path
    max_length: int
    workspace: Workspace

    @property
    def dataset(self) -> data.Dataset:
        return _read(self.config, self.workspace.root)

    def rows(self, part: object) -> list[data.Conversation]:
        """The rows of a part; of the training part for anything else that a client sends."""
        return self.dataset.parts[next((name for name in PARTS if name == part), "train")]

    @property
    def audit(self) -> dict[str, Any]:
        return _audit(self.config, self.workspace.root, self.tokenizer, self.max_length)

    @property
    def settings(self) -> DatasetConfig:
        return DatasetConfig.model_validate_json(self.config)


def read_settings(values: Sequence[Any], workspace: Workspace) -> dict[str, Any]:
    """The card's own settings: those of `FIELDS`, then the files of the parts."""
    given = dict(zip([*FIELDS, *PART_FILES], values, strict=True))
    files = {name: given[name] for name in PART_FILES if given[name] not in (None, "", NO_FILE)}
    return {
        **{name: given[name] for name in FIELDS},
        **{name: known_dataset(value, workspace) for name, value in files.items()},
    }


def asked(dataset: object, model: object, max_length: object, values: Sequence[Any], workspace: Workspace) -> Asked:
    """Raises `UserError` for mistakes in the form and for datasets that are not in the list."""
    given = read_settings(values, workspace)
    names = [*given, "max_length"]
    config = forms.read(TrainConfig, names, [*given.values(), max_length], dataset=known_dataset(dataset, workspace))
    tokenizer = models.resolve(str(model), workspace).tokenizer
    settings = config.model_dump_json(include=set(DatasetConfig.model_fields))
    return Asked(settings, tokenizer, config.max_length, workspace)


def columns_text(chosen: dict[str, object]) -> str:
    """The columns setting for what is chosen in the pickers: `user=ask,assistant=reply`."""
    return ",".join(f"{field}={column}" for field, column in chosen.items() if column)


def connect(card: DataCard, model: gr.Dropdown, max_length: forms.Widget, workspace: Workspace) -> None:
    """Look at the data again whenever something that matters to it changes; the audit follows the first look."""
    settings = list(card.settings.values())
    inputs = [card.dataset, model, max_length, *settings]

    def show(dataset: object, model: object, max_length: object, part: object, *values: Any) -> Updates:
        blank: Updates = {card.details: gr.Column(visible=False), card.mend: gr.Column(visible=False)}
        if not dataset:
            return {**blank, card.summary: empty(HINT)}
        if not model:
            return {**blank, card.summary: notice("info", "Choose a base model to see how it reads this dataset.")}
        try:
            look = asked(dataset, model, max_length, values, workspace)
            shown, there = look.rows(part), bool(look.dataset.conversations)
        except UserError as error:
            return {**blank, card.summary: notice("bad", str(error))}
        rows = render_data.rows(shown, len(shown), str(part)) if shown else empty("This part has no rows.")
        checking = notice("info", "Checking every row…")
        return {**blank, card.summary: checking, card.rows: rows, card.details: gr.Column(visible=there)}

    def audit(dataset: object, model: object, max_length: object, *values: Any) -> Updates:
        if not dataset or not model:
            return {card.summary: gr.skip()}
        try:
            found = asked(dataset, model, max_length, values, workspace).audit
        except UserError as error:
            return {card.summary: notice("bad", str(error))}
        codes = {each["code"]: each for each in found["findings"]}
        choices = [(render_findings.title(code), code) for code in codes]
        advised = [code for code, each in codes.items() if each["advice"] == "drop"]
        errors = any(problem["severity"] == "error" for problem in found["problems"])
        unusable = (
            notice("bad", "This dataset cannot be used as it is.", "Mend what is listed below.") if errors else ""
        )
        columns = [*found["columns"]]
        uploads = (each for each in data.list_datasets(workspace) if each.kind == "stored" and each.id == dataset)
        names = {each.path.name: each.name for each in uploads}
        mapping = {**found["suggested_mapping"], **found["mapping"]}
        return {
            card.summary: unusable + render_data.summary(found) + render_data.problems(found["problems"], names),
            card.lengths: render_data.lengths(found),
            card.findings: render_findings.findings(found["findings"]),
            card.found_rows: "",
            card.statistics: render_data.statistics(found),
            card.mend: gr.Column(visible=bool(codes) or errors),
            card.drop: gr.CheckboxGroup(choices, value=advised, visible=bool(codes)),
            card.mapping: gr.Row(visible=bool(columns)),
            **{
                picker: gr.Dropdown(["", *columns], value=mapping.get(name) if mapping.get(name) in columns else "")
                for name, picker in card.mapped.items()
            },
        }

    def leaf(dataset: object, model: object, max_length: object, part: object, *values: Any) -> str:
        """The rows of another part of the same dataset."""
        shown = asked(dataset, model, max_length, values, workspace).rows(part)
        return render_data.rows(shown, len(shown), str(part)) if shown else empty("This part has no rows.")

    def tokens(dataset: object, model: object, max_length: object, part: object, row: object, *values: Any) -> str:
        if not dataset or not model:
            return ""
        try:
            look = asked(dataset, model, max_length, values, workspace)
            shown = look.rows(part)
        except UserError:  # told in the summary
            return ""
        if not shown:
            return ""
        place = min(max(1, int(row)), len(shown)) if isinstance(row, int | float) else 1
        return render_data.tokens(Renderer.load(look.tokenizer), shown[place - 1], look.max_length, place, len(shown))

    def open_finding(event: gr.EventData, dataset: object, model: object, max_length: object, *values: Any) -> str:
        look = asked(dataset, model, max_length, values, workspace)
        found = look.audit["findings"]
        place = place_of(event)
        if not 0 <= place < len(found):
            return ""
        chats = {(chat.file, chat.row): chat for chat in look.dataset.conversations}
        return render_findings.rows_of(found[place], chats)

    def make(dataset: object, model: object, max_length: object, repair: object, drop: object, *values: Any) -> Updates:
        look = asked(dataset, model, max_length, values, workspace)
        codes = [str(code) for code in drop] if isinstance(drop, list) else []
        rows = data.drop_rows(look.audit["findings"], codes)
        version = data.new_version(look.settings, workspace, repair=bool(repair), drop=rows)
        done = [dataclasses.asdict(change) for change in version.changes]
        return {
            card.dataset: gr.Dropdown(dataset_choices(workspace), value=version.id),
            card.changes: render_findings.changes(version.id, done),
        }

    def store(path: str | None) -> Updates:
        if not path:
            return {card.upload: gr.skip()}
        stored = data.store_upload(Path(path), Path(path).name, workspace)
        chosen = gr.Dropdown(dataset_choices(workspace), value=stored)
        return {card.dataset: chosen, card.upload: None, card.changes: ""}

    def fetch(hub_id: str) -> gr.Dropdown:
        stored = data.fetch(hub_id.strip(), workspace)
        return gr.Dropdown(dataset_choices(workspace), value=stored.id)

    def choose_columns(*chosen: object) -> str:
        return columns_text(dict(zip(MAPPED, chosen, strict=True)))

    told = [card.summary, card.rows, card.details, card.mend]
    audited = [
        card.summary, card.lengths, card.findings, card.found_rows, card.statistics, card.mend, card.drop, card.mapping,
        *card.mapped.values(),
    ]  # fmt: skip
    of_part = [*inputs[:3], card.part, *settings]
    with_row = [*inputs[:3], card.part, card.row, *settings]
    for changing in (card.dataset, model, max_length, *settings):
        first = changing.change(show, of_part, told, trigger_mode="always_last", **ACTION)
        first.then(tokens, with_row, card.tokens, **ACTION).then(audit, inputs, audited, **ACTION)
    leafed = card.part.input(toasts(leaf), of_part, card.rows, **ACTION)
    leafed.then(tokens, with_row, card.tokens, **ACTION)
    card.row.change(tokens, with_row, card.tokens, trigger_mode="always_last", **ACTION)
    card.findings.click(toasts(open_finding), inputs, card.found_rows, **ACTION)
    made = [*inputs[:3], card.repair, card.drop, *settings]
    card.make.click(toasts(make), made, [card.dataset, card.changes], **ACTION)
    card.upload.upload(toasts(store), card.upload, [card.dataset, card.upload, card.changes], **ACTION)
    card.fetch.click(toasts(fetch), card.hub_id, card.dataset, **ACTION)
    card.dataset.input(lambda: "", None, card.changes, **ACTION)
    for picker in card.mapped.values():
        picker.input(choose_columns, list(card.mapped.values()), card.fields["columns"], **ACTION)
