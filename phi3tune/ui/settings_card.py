"""Step 2 of the Train tab: the model and the settings of a run; simple or everything, from and to YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from phi3tune.config import QUALITY, DatasetConfig, TrainConfig, parse, read_yaml, sections
from phi3tune.paths import Workspace
from phi3tune.ui import access, forms
from phi3tune.ui.access import AccessCard
from phi3tune.ui.render import counted, esc, section
from phi3tune.ui.wire import ACTION, POLL, Updates, toasts

SIMPLE_MODE, ADVANCED_MODE = "Simple", "Advanced"
# The page is one machine's: a run over several is begun by the same command on each of them.
ELSEWHERE = ("model", "machines", "machine_rank", "main_address", *DatasetConfig.model_fields)
SIMPLE = forms.fields(TrainConfig, "simple", without=ELSEWHERE)
GROUPS = {
    title: names
    for title, fields in sections(TrainConfig).items()
    if (names := [name for name in fields if name not in (*ELSEWHERE, *SIMPLE)])
}
ADVANCED = [name for names in GROUPS.values() for name in names]
QUALITY_FIELDS = sorted({name for preset in QUALITY.values() for name in preset})


@dataclass
class SettingsCard:
    model: gr.Dropdown
    access: AccessCard
    mode: gr.Radio
    widgets: dict[str, forms.Widget]
    everything: gr.Column
    groups: dict[str, gr.Accordion]
    changed: gr.HTML
    reset: gr.Button
    load: gr.UploadButton

    @property
    def values(self) -> list[Any]:
        """The inputs that `read` takes, in its order."""
        return [self.model, *self.widgets.values()]

    def filled(self, config: TrainConfig) -> Updates:
        """The form set to show `config`; the dataset's own settings stay as they are."""
        return {self.model: config.model, **dict(zip(self.widgets.values(), shown(config, self.widgets), strict=True))}


def build() -> SettingsCard:
    gr.HTML(section("2", "Settings", "the defaults are a good first run"))
    info = forms.sentence(TrainConfig, "model")
    model = gr.Dropdown([], value=None, label="Base model", info=info, elem_id="train-model", allow_custom_value=True)
    hub = access.build()
    with gr.Row():
        widgets = {name: forms.widget(TrainConfig, name, min_width=190) for name in SIMPLE}
    with gr.Row(elem_classes="pt-bar-row"):
        mode = gr.Radio(
            [SIMPLE_MODE, ADVANCED_MODE],
            value=SIMPLE_MODE,
            label="Settings shown",
            elem_id="mode",
            min_width=220,
            scale=0,
        )
        changed = gr.HTML(changed_line(0), elem_id="changed")
        with gr.Row(elem_classes="pt-buttons"):
            reset = gr.Button("Reset to defaults", size="sm", elem_id="reset-settings")
            load = gr.UploadButton("Load settings", file_types=[".yaml", ".yml"], size="sm", elem_id="load-settings")
    groups = {}
    with gr.Column(visible=False, elem_id="advanced") as everything:
        for title, names in GROUPS.items():
            with gr.Accordion(title, open=False) as groups[title], gr.Row():
                widgets |= {name: forms.widget(TrainConfig, name, min_width=190) for name in names}
    return SettingsCard(model, hub, mode, widgets, everything, groups, changed, reset, load)


def changed_line(count: int) -> str:
    """How many of the advanced settings are not at their defaults."""
    text = "All other settings are at their defaults." if count == 0 else f"{_differ(count)} from the defaults."
    return f'<span class="pt-sub">{esc(text)}</span>'


def _differ(count: int) -> str:
    return f"{counted(count, 'setting')} {'differs' if count == 1 else 'differ'}"


def read(values: Sequence[Any], of_data: dict[str, Any], dataset: str) -> TrainConfig:
    """The settings of the form with those of the data; `ConfigError` naming every wrong one by its label."""
    model, *own = values
    names = [*SIMPLE, *ADVANCED]
    return forms.read(
        TrainConfig, [*of_data, *names], [*of_data.values(), *own], dataset=dataset, model=str(model or "").strip()
    )


def shown(config: TrainConfig, names: Iterable[str]) -> list[Any]:
    """What the widgets of `names` hold to show `config`."""
    return [forms.as_shown(TrainConfig, name, getattr(config, name)) for name in names]


def connect(card: SettingsCard, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    names = list(card.widgets)
    advanced = [card.widgets[name] for name in ADVANCED]

    def badge(*values: Any) -> list[Any]:
        by_name = dict(zip(ADVANCED, values, strict=True))
        counts = {
            title: forms.changed(TrainConfig, names, [by_name[name] for name in names])
            for title, names in GROUPS.items()
        }
        labels = [
            gr.Accordion(label=f"{title} · {count} changed" if count else title) for title, count in counts.items()
        ]
        return [changed_line(sum(counts.values())), *labels]

    def quality(value: str) -> list[Any]:
        return shown(parse(TrainConfig, {"quality": value}), QUALITY_FIELDS)

    def load_settings(path: str) -> Updates:
        values = read_yaml(Path(path))
        config = parse(TrainConfig, {name: value for name, value in values.items() if name not in ELSEWHERE})
        updates = card.filled(config.model_copy(update={"model": values.get("model", config.model)}))
        gr.Info("The settings were loaded; the dataset stays as it is chosen.")
        return updates

    def reset() -> list[Any]:
        return shown(TrainConfig(), names)

    def show(mode: str) -> gr.Column:
        return gr.Column(visible=mode == ADVANCED_MODE)

    card.mode.change(show, card.mode, card.everything, **POLL)
    badges = [card.changed, *card.groups.values()]
    gr.on([widget.change for widget in advanced], badge, advanced, badges, trigger_mode="always_last", **POLL)
    of_quality = [card.widgets[name] for name in QUALITY_FIELDS]
    card.widgets["quality"].input(toasts(quality), card.widgets["quality"], of_quality, **POLL)
    card.load.upload(toasts(load_settings), card.load, [card.model, *card.widgets.values()], **ACTION)
    card.reset.click(reset, None, list(card.widgets.values()), **ACTION)
    access.connect(card.access, card.model, card.widgets["revision"], refresh, workspace)
