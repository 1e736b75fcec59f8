"""The Data tab: choose a dataset, see what is in it, what is wrong with it, mend it, go on to training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from phi3tune.config import DatasetConfig, HostedConfig, Part, TrainConfig
from phi3tune.ui import forms
from phi3tune.ui.render import empty, esc, section
from phi3tune.ui.words import N, t
from phi3tune.ui.work import Turn

FILE_TYPES = [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zst"]
# The page opens no path that a client names: files for the parts are chosen from the stored datasets.
PART_FILES = {"validation_file": N("Validation file"), "test_file": N("Test file")}
FIELDS = forms.fields(DatasetConfig, "advanced", without=list(PART_FILES))
MAPPED = {"user": N("Question column"), "assistant": N("Answer column"), "system": N("System column")}
HINT = N("Choose one of the bundled datasets, or drop a file with chats: JSON lines, JSON, CSV, Parquet or text.")
NO_ROWS = N("The rows of the dataset will be shown here as chats, and as the tokens that the model reads.")
NO_FILE = "none"
PARTS: tuple[Part, ...] = get_args(Part)
OPEN_FINDING = (
    "element.addEventListener('click', e => { const finding = e.target.closest('[data-finding]');"
    " if (finding) trigger('click', {place: Number(finding.dataset.finding)}); })"
)


@dataclass
class DataTab:
    dataset: gr.Dropdown
    upload: gr.File
    hub_id: gr.Textbox | None
    fetch: gr.Button | None
    fields: dict[str, forms.Widget]
    part_files: dict[str, gr.Dropdown]
    mapped: dict[str, gr.Dropdown]
    mapping: gr.Row
    stop: gr.Button
    summary: gr.HTML
    nothing: gr.HTML
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
    use: gr.Button
    turn: gr.State

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting of the tab by name."""
        return {**self.fields, **self.part_files}


def build(rules: HostedConfig | None) -> DataTab:
    """`rules` are those of a hosted app; None for the person at the machine."""
    with gr.Row(equal_height=False):
        with gr.Column(elem_classes="pt-card", scale=2, min_width=340, elem_id="data-choice"):
            gr.HTML(section("1", t("Data"), t("the chats that the model learns from")))
            dataset, upload = _choice()
            hub_id, fetch = _hub(rules)
            fields, part_files, mapped, mapping = _settings()
            summary = gr.HTML(empty(t(HINT)), elem_id="data-summary")
            stop = gr.Button(t("Stop"), variant="stop", size="sm", visible=False, elem_id="data-stop")
            use = gr.Button(
                t("Use this data: go to Train"), variant="primary", elem_id="data-use", elem_classes="pt-main"
            )
            mend, repair, drop, make = _mend()
            changes = gr.HTML(elem_id="data-changes")
        with gr.Column(elem_classes="pt-card", scale=3, min_width=340, elem_id="data-look"):
            gr.HTML(section("", t("What is in it")))
            nothing = gr.HTML(empty(t(NO_ROWS), picture="rows"), elem_id="data-nothing")
            with gr.Column(visible=False, elem_id="data-details") as details:
                part = gr.Radio(
                    [(t(name), name) for name in PARTS],
                    value="train",
                    label=t("Rows and tokens of the part"),
                    info=t(
                        "The model learns from train; validation is looked at while it learns, test only afterwards."
                    ),
                    elem_id="data-part",
                )
                with gr.Tabs(overflow_behavior="wrap"):
                    with gr.Tab(t("Rows")):
                        rows = gr.HTML(elem_id="data-rows")
                    with gr.Tab(t("Tokens")):
                        _said(t("A row as the pieces (tokens) that the model reads and is taught to write."))
                        row = gr.Number(1, label=t("Row"), precision=0, minimum=1, elem_id="token-row", min_width=120)
                        tokens = gr.HTML(elem_id="data-tokens")
                    with gr.Tab(t("Lengths")):
                        lengths = gr.HTML(elem_id="data-lengths")
                    with gr.Tab(t("Findings")):
                        findings = gr.HTML(elem_id="data-findings", js_on_load=OPEN_FINDING)
                        found_rows = gr.HTML(elem_id="data-found-rows")
                    with gr.Tab(t("Statistics")):
                        statistics = gr.HTML(elem_id="data-statistics")
    return DataTab(
        dataset, upload, hub_id, fetch, fields, part_files, mapped, mapping, stop, summary, nothing, details, part,
        row, rows, tokens, lengths, findings, found_rows, statistics, mend, repair, drop, make, changes, use,
        gr.State(Turn()),
    )  # fmt: skip


def _said(text: str) -> gr.HTML:
    return gr.HTML(f'<p class="pt-sub">{esc(text)}</p>')


def _choice() -> tuple[gr.Dropdown, gr.File]:
    dataset = gr.Dropdown(
        [],
        value=None,
        label=t("Dataset"),
        info=t("Bundled with phi3tune, or uploaded before."),
        elem_id="dataset",
        allow_custom_value=True,
        min_width=220,
    )
    upload = gr.File(
        label=t("Drop a file, or click to choose one"),
        file_types=FILE_TYPES,
        show_label=False,
        height=76,
        elem_id="upload",
        min_width=220,
    )
    return dataset, upload


def _hub(rules: HostedConfig | None) -> tuple[gr.Textbox | None, gr.Button | None]:
    """Datasets of the Hub; visitors of a hosted app only where its owner lists some."""
    if rules is not None and not rules.datasets:
        return None, None
    with gr.Accordion(t("From the Hub"), open=False, elem_id="data-hub"), gr.Row(elem_classes="pt-bar-row"):
        info = t("owner/name, with :config or @revision where it needs one. It is downloaded and stored here.")
        if rules is not None:
            info = t("These may be fetched here: {names}.", names=", ".join(rules.datasets))
        hub_id = gr.Textbox(label=t("Hub dataset id"), info=info, elem_id="hub-id")
        fetch = gr.Button(t("Fetch"), size="sm", elem_id="hub-fetch")
    return hub_id, fetch


def _settings() -> tuple[dict[str, forms.Widget], dict[str, gr.Dropdown], dict[str, gr.Dropdown], gr.Row]:
    with gr.Accordion(t("Columns and division into parts"), open=False, elem_id="data-settings"):
        with gr.Row(visible=False) as mapping:
            mapped = {
                name: gr.Dropdown([], value=None, label=t(label), elem_id=f"map-{name}", min_width=160)
                for name, label in MAPPED.items()
            }
        with gr.Row():
            fields = {name: forms.widget(TrainConfig, name, min_width=220) for name in FIELDS}
            part_files = {
                name: gr.Dropdown(
                    [(t("none"), NO_FILE)],
                    value=NO_FILE,
                    label=t(label),
                    info=forms.sentence(TrainConfig, name),
                    elem_id=f"set-{name.replace('_', '-')}",
                    min_width=220,
                )
                for name, label in PART_FILES.items()
            }
    return fields, part_files, mapped, mapping


def _mend() -> tuple[gr.Column, gr.Checkbox, gr.CheckboxGroup, gr.Button]:
    with gr.Column(visible=False, elem_id="data-mend", elem_classes="pt-after") as mend:
        gr.HTML(f'<h3 class="pt-small-heading">{esc(t("A mended version of this dataset"))}</h3>')
        repair = gr.Checkbox(
            value=True,
            label=t("Repair what can be repaired"),
            info=t("Every change is listed; rows that cannot be repaired are left out."),
            elem_id="data-repair",
        )
        drop = gr.CheckboxGroup([], label=t("Leave out the rows of"), elem_id="data-drop", visible=False)
        with gr.Row(elem_classes="pt-buttons"):
            make = gr.Button(t("Write a new version"), elem_id="data-make", size="sm")
    return mend, repair, drop, make
