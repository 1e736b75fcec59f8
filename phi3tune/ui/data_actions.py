"""What happens in the Data tab: the dataset is read, audited, leafed through, mended."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from phi3tune import data
from phi3tune.chat import Renderer
from phi3tune.config import DatasetConfig, TrainConfig
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import forms, render_data, render_findings
from phi3tune.ui.data_tab import FIELDS, HINT, MAPPED, NO_FILE, PART_FILES, PARTS, DataTab
from phi3tune.ui.render import duration, empty, notice
from phi3tune.ui.wire import ACTION, Updates, dataset_choices, known_dataset, place_of, stepwise, toasts
from phi3tune.ui.words import t, told
from phi3tune.ui.work import Report, Turn, Work

AUDITS_KEPT = 2
_audits: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()
_audits_lock = threading.Lock()


@lru_cache(maxsize=2)
def _read(config: str, workspace: Workspace) -> data.Dataset:
    """A dataset, kept while a person leafs through it. `config` is JSON: a cache needs a key."""
    return data.read(DatasetConfig.model_validate_json(config), workspace)


@dataclass(frozen=True)
class Asked:
    """What the form asks to see: settings as JSON (a cache's key), the model's tokenizer, the longest length."""

    config: str
    tokenizer: Path
    max_length: int
    workspace: Workspace

    @property
    def dataset(self) -> data.Dataset:
        return _read(self.config, self.workspace)

    def rows(self, part: object) -> list[data.Conversation]:
        """The rows of a part; of the training part for anything else that a client sends."""
        return self.dataset.parts[next((name for name in PARTS if name == part), "train")]

    def audit(self, report: Report = lambda rows: None) -> dict[str, Any]:
        """The audit, kept like the rows; `report` is told how many rows have been looked at."""
        key = dataclasses.astuple(self)
        with _audits_lock:
            if key in _audits:
                _audits.move_to_end(key)
                return _audits[key]
        settings = TrainConfig(**self.settings.model_dump(), max_length=self.max_length)
        found = data.check(settings, self.workspace, Renderer.load(self.tokenizer), report=report)
        with _audits_lock:
            _audits[key] = found
            while len(_audits) > AUDITS_KEPT:
                _audits.popitem(last=False)
        return found

    @property
    def settings(self) -> DatasetConfig:
        return DatasetConfig.model_validate_json(self.config)


def read_settings(values: Sequence[Any], workspace: Workspace) -> dict[str, Any]:
    """The tab's own settings: those of `FIELDS`, then the files of the parts."""
    given = dict(zip([*FIELDS, *PART_FILES], values, strict=True))
    files = {name: given[name] for name in PART_FILES if given[name] not in (None, "", NO_FILE)}
    return {
        **{name: given[name] for name in FIELDS},
        **{name: known_dataset(value, workspace) for name, value in files.items()},
    }


def asked(dataset: object, model: object, max_length: object, values: Sequence[Any], workspace: Workspace) -> Asked:
    """Raises `UserError` for mistakes in the form and for datasets that are not in the list.

    Until a model is chosen (a page that opens sets its pickers one after the other), the bundled one reads the data.
    """
    given = read_settings(values, workspace)
    names = [*given, "max_length"]
    config = forms.read(TrainConfig, names, [*given.values(), max_length], dataset=known_dataset(dataset, workspace))
    tokenizer = models.resolve(str(model or models.NANO_NAME), workspace).tokenizer
    settings = config.model_dump_json(include=set(DatasetConfig.model_fields))
    return Asked(settings, tokenizer, config.max_length, workspace.here())


def columns_text(chosen: dict[str, object]) -> str:
    """The columns setting for what is chosen in the pickers: `user=ask,assistant=reply`."""
    return ",".join(f"{field}={column}" for field, column in chosen.items() if column)


def checked(tab: DataTab, found: dict[str, Any], dataset: object, workspace: Workspace) -> Updates:
    """Everything that the tab shows of an audit."""
    codes = {each["code"]: each for each in found["findings"]}
    choices = [(render_findings.title(code), code) for code in codes]
    advised = [code for code, each in codes.items() if each["advice"] == "drop"]
    errors = any(problem["severity"] == "error" for problem in found["problems"])
    unusable = (
        notice("bad", t("This dataset cannot be used as it is."), t("Mend what is listed below.")) if errors else ""
    )
    columns = [*found["columns"]]
    uploads = (each for each in data.list_datasets(workspace) if each.kind == "stored" and each.id == dataset)
    names = {each.path.name: each.name for each in uploads}
    mapping = {**found["suggested_mapping"], **found["mapping"]}
    return {
        tab.summary: unusable + render_data.summary(found) + render_data.problems(found["problems"], names),
        tab.lengths: render_data.lengths(found),
        tab.findings: render_findings.findings(found["findings"]),
        tab.found_rows: "",
        tab.statistics: render_data.statistics(found),
        tab.mend: gr.Column(visible=bool(codes) or errors),
        tab.drop: gr.CheckboxGroup(choices, value=advised, visible=bool(codes)),
        tab.mapping: gr.Row(visible=bool(columns)),
        tab.use: gr.Button(interactive=not errors),
        **{
            picker: gr.Dropdown(["", *columns], value=mapping.get(name) if mapping.get(name) in columns else "")
            for name, picker in tab.mapped.items()
        },
    }


def connect(tab: DataTab, chosen: gr.HTML, model: gr.Dropdown, max_length: forms.Widget, workspace: Workspace) -> None:
    """Look at the data again whenever something that matters to it changes; the audit follows the first look.

    `chosen` is the Train tab's line on the data; `model` and `max_length` are of its form.
    """
    settings = list(tab.settings.values())
    inputs = [tab.dataset, model, max_length, *settings]

    def waiting(text: str) -> Updates:
        return {tab.summary: notice("info", text), tab.stop: gr.Button(visible=True)}

    def show(
        turn: Turn, dataset: object, model: object, max_length: object, part: object, *values: Any
    ) -> Iterator[Updates]:
        number = turn.begin()
        blank = _details(tab, there=False) | {tab.mend: gr.Column(visible=False), tab.stop: gr.Button(visible=False)}
        if not dataset:
            # A page that opens asks this a moment before its dataset is set: Gradio's page loses the second of two
            # changes of what is visible that come at once.
            yield {tab.summary: empty(t(HINT)), chosen: render_data.chosen("", None)}
            return
        try:
            look = asked(dataset, model, max_length, values, workspace)
            reading = Work(lambda report: look.dataset)
            for seconds, _ in reading:
                if turn.over(number):
                    return
                yield waiting(t("Reading the dataset: {time} so far.", time=duration(seconds)))
            shown, there = look.rows(part), bool(reading.result.conversations)
        except UserError as error:
            yield {**blank, tab.summary: notice("bad", told(error)), chosen: render_data.chosen(str(dataset), None)}
            return
        yield {
            **blank,
            **_details(tab, there=there),
            tab.summary: notice("info", t("Checking every row…")),
            tab.rows: _rows(shown, part),
        }

    def audit(turn: Turn, dataset: object, model: object, max_length: object, *values: Any) -> Iterator[Updates]:
        ended: Updates = {tab.stop: gr.Button(visible=False)}
        number = turn.number
        if not dataset or turn.stopped:
            yield ended
            return
        try:
            look = asked(dataset, model, max_length, values, workspace)
            checking = Work(look.audit)
            for seconds, rows in checking:
                if turn.over(number):
                    return
                text = t("Checking every row: {n} so far, {time}.", n=f"{rows or 0:,}", time=duration(seconds))
                yield waiting(text)
            found = checking.result
        except UserError as error:
            yield {**ended, tab.summary: notice("bad", told(error)), chosen: render_data.chosen(str(dataset), None)}
            return
        name = next((label for label, value in dataset_choices(workspace) if value == dataset), str(dataset))
        yield {**ended, **checked(tab, found, dataset, workspace), chosen: render_data.chosen(name, found)}

    def stop(turn: Turn) -> Updates:
        turn.stop()
        text = notice("info", t("Stopped."), t("Choose the dataset again, or change a setting, to check it."))
        return {tab.summary: text, tab.stop: gr.Button(visible=False)}

    def leaf(dataset: object, model: object, max_length: object, part: object, *values: Any) -> str:
        """The rows of another part of the same dataset."""
        return _rows(asked(dataset, model, max_length, values, workspace).rows(part), part)

    def tokens(dataset: object, model: object, max_length: object, part: object, row: object, *values: Any) -> str:
        if not dataset:
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
        found = look.audit()["findings"]
        place = place_of(event)
        if not 0 <= place < len(found):
            return ""
        chats = {(chat.file, chat.row): chat for chat in look.dataset.conversations}
        return render_findings.rows_of(found[place], chats)

    def make(
        dataset: object, model: object, max_length: object, repair: object, drop: object, *values: Any
    ) -> Iterator[Updates]:
        look = asked(dataset, model, max_length, values, workspace)
        codes = [str(code) for code in drop] if isinstance(drop, list) else []

        def write(report: Report) -> data.Version:
            rows = data.drop_rows(look.audit(report)["findings"], codes)
            return data.new_version(look.settings, look.workspace, repair=bool(repair), drop=rows)

        writing = Work(write)
        for seconds, _ in writing:
            text = t("The new version is being written: {time} so far.", time=duration(seconds))
            yield {tab.changes: notice("info", text)}
        version = writing.result
        done = [dataclasses.asdict(change) for change in version.changes]
        yield {
            tab.dataset: gr.Dropdown(dataset_choices(workspace), value=version.id),
            tab.changes: render_findings.changes(version.id, done),
        }

    def store(path: str | None) -> Updates:
        if not path:
            return {tab.upload: gr.skip()}
        stored = data.store_upload(Path(path), Path(path).name, workspace)
        return {
            tab.dataset: gr.Dropdown(dataset_choices(workspace), value=stored),
            tab.upload: None,
            tab.changes: "",
        }

    def fetch(turn: Turn, hub_id: str) -> Iterator[Updates]:
        here, number = workspace.here(), turn.begin()
        fetching = Work(lambda report: data.fetch(hub_id.strip(), here, report=report))
        for seconds, said in fetching:
            if turn.over(number):
                return
            yield waiting(f"{told(said)} · {duration(seconds)}" if said else t("Asking the Hub…"))
        try:
            stored = fetching.result
        except UserError as error:
            yield {tab.summary: notice("bad", told(error)), tab.stop: gr.Button(visible=False)}
            return
        yield {
            tab.dataset: gr.Dropdown(dataset_choices(workspace), value=stored.id),
            tab.stop: gr.Button(visible=False),
        }

    def choose_columns(*chosen: object) -> str:
        return columns_text(dict(zip(MAPPED, chosen, strict=True)))

    of_part = [*inputs[:3], tab.part, *settings]
    with_row = [*inputs[:3], tab.part, tab.row, *settings]
    looked = [tab.summary, tab.rows, tab.details, tab.nothing, tab.mend, tab.stop, chosen]
    audited = [
        tab.summary, tab.lengths, tab.findings, tab.found_rows, tab.statistics, tab.mend, tab.drop, tab.mapping,
        tab.stop, tab.use, chosen, *tab.mapped.values(),
    ]  # fmt: skip
    changes = [part.change for part in inputs]
    first = gr.on(changes, show, [tab.turn, *of_part], looked, trigger_mode="always_last", **ACTION)
    cut = first.then(tokens, with_row, tab.tokens, **ACTION)
    cut.then(audit, [tab.turn, *inputs], audited, **ACTION)
    if tab.fetch is not None and tab.hub_id is not None:
        tab.fetch.click(stepwise(fetch), [tab.turn, tab.hub_id], [tab.dataset, tab.summary, tab.stop], **ACTION)
    tab.stop.click(stop, tab.turn, [tab.summary, tab.stop], **ACTION)
    leafed = tab.part.input(toasts(leaf), of_part, tab.rows, **ACTION)
    leafed.then(tokens, with_row, tab.tokens, **ACTION)
    tab.row.change(tokens, with_row, tab.tokens, trigger_mode="always_last", **ACTION)
    tab.findings.click(toasts(open_finding), inputs, tab.found_rows, **ACTION)
    made = [*inputs[:3], tab.repair, tab.drop, *settings]
    tab.make.click(stepwise(make), made, [tab.dataset, tab.changes], **ACTION)
    tab.upload.upload(toasts(store), tab.upload, [tab.dataset, tab.upload, tab.changes], **ACTION)
    tab.dataset.input(lambda: "", None, tab.changes, **ACTION)
    for picker in tab.mapped.values():
        picker.input(choose_columns, list(tab.mapped.values()), tab.fields["columns"], **ACTION)


def _details(tab: DataTab, *, there: bool) -> Updates:
    return {tab.details: gr.Column(visible=there), tab.nothing: gr.HTML(visible=not there)}


def _rows(shown: Sequence[data.Conversation], part: object) -> str:
    return render_data.rows(shown, len(shown), str(part)) if shown else empty(t("This part has no rows."))
