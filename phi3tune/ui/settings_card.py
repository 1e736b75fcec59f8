"""Step 2 of the Train tab: the model and the settings of a run; simple or everything, from and to YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from phi3tune.config import QUALITY, DatasetConfig, HostedConfig, TrainConfig, parse, read_yaml, sections
from phi3tune.config.hosted import OWNERS
from phi3tune.paths import Workspace
from phi3tune.ui import access, forms
from phi3tune.ui.access import AccessCard
from phi3tune.ui.render import counted, esc, section
from phi3tune.ui.wire import ACTION, POLL, Updates, toasts
from phi3tune.ui.words import N, t

MODES = {"simple": N("Simple"), "advanced": N("Advanced")}
ADVANCED_MODE = "advanced"
# The page is one machine's: a run over several is begun by the same command on each of them.
ELSEWHERE = ("model", "machines", "machine_rank", "main_address", *DatasetConfig.model_fields)
SIMPLE = forms.fields(TrainConfig, "simple", without=ELSEWHERE)
QUALITY_FIELDS = sorted({name for preset in QUALITY.values() for name in preset})


# What a group of settings is for.
MEANINGS = {
    "Model and run": N("The model it starts from, and what the run is called."),
    "Method": N("Which numbers of the model are trained. LoRA trains a small adapter beside it, which needs little."),
    "Length and loss": N("How much of a row is read, and how being wrong is counted."),
    "Optimizer": N("How far the model is moved at each step, and by what rule."),
    "Watching and saving": N("How often the run is looked at, and what it keeps on the disk."),
    "Several processes": N("For machines with more than one GPU."),
}


@dataclass
class SettingsCard:
    model: gr.Dropdown
    access: AccessCard | None
    mode: gr.Radio
    widgets: dict[str, forms.Widget]
    everything: gr.Column
    names: dict[str, list[str]]
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


def grouped(rules: HostedConfig | None) -> dict[str, list[str]]:
    """The advanced settings by their group; visitors of a hosted app have fewer."""
    without = (*ELSEWHERE, *SIMPLE, *(OWNERS if rules is not None else ()))
    groups = {
        title: [name for name in fields if name not in without] for title, fields in sections(TrainConfig).items()
    }
    return {title: names for title, names in groups.items() if names}


def build(rules: HostedConfig | None) -> SettingsCard:
    """`rules` are those of a hosted app; None for the person at the machine."""
    gr.HTML(section("2", t("Settings"), t("the defaults are a good first run")))
    info = forms.sentence(TrainConfig, "model")
    model = gr.Dropdown(
        [], value=None, label=t("Base model"), info=info, elem_id="train-model", allow_custom_value=True
    )
    hub = access.build(rules)
    with gr.Row():
        widgets = {name: forms.widget(TrainConfig, name, min_width=190) for name in SIMPLE}
    with gr.Row(elem_classes="pt-bar-row"):
        mode = gr.Radio(
            [(t(name), mode) for mode, name in MODES.items()],
            value="simple",
            label=t("Settings shown"),
            elem_id="mode",
            min_width=220,
            scale=0,
        )
        changed = gr.HTML(changed_line(0), elem_id="changed")
        with gr.Row(elem_classes="pt-buttons"):
            reset = gr.Button(t("Reset to defaults"), size="sm", elem_id="reset-settings")
            load = gr.UploadButton(t("Load settings"), file_types=[".yaml", ".yml"], size="sm", elem_id="load-settings")
    names, groups = grouped(rules), {}
    with gr.Column(visible=False, elem_id="advanced") as everything:
        for title, fields in names.items():
            with gr.Accordion(t(title), open=False) as groups[title]:
                gr.HTML(f'<p class="pt-sub">{esc(t(MEANINGS[title]))}</p>')
                with gr.Row():
                    widgets |= {name: forms.widget(TrainConfig, name, min_width=190) for name in fields}
    return SettingsCard(model, hub, mode, widgets, everything, names, groups, changed, reset, load)


def changed_line(count: int) -> str:
    """How many of the advanced settings are not at their defaults."""
    text = t("All other settings are at their defaults.")
    if count:
        text = t("{settings} changed from the defaults.", settings=counted(count, "setting"))
    return f'<span class="pt-sub">{esc(text)}</span>'


def read(names: Iterable[str], values: Sequence[Any], of_data: dict[str, Any], dataset: str) -> TrainConfig:
    """The settings `names` of the form, after its model, with those of the data; `ConfigError` naming every wrong one
    by its label."""
    model, *own = values
    return forms.read(
        TrainConfig, [*of_data, *names], [*of_data.values(), *own], dataset=dataset, model=str(model or "").strip()
    )


def shown(config: TrainConfig, names: Iterable[str]) -> list[Any]:
    """What the widgets of `names` hold to show `config`."""
    return [forms.as_shown(TrainConfig, name, getattr(config, name)) for name in names]


def connect(card: SettingsCard, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    names = list(card.widgets)
    advanced = [name for group in card.names.values() for name in group]

    def badge(*values: Any) -> list[Any]:
        by_name = dict(zip(advanced, values, strict=True))
        counts = {
            title: forms.changed(TrainConfig, group, [by_name[name] for name in group])
            for title, group in card.names.items()
        }
        labels = [
            gr.Accordion(label=t("{title} · {n} changed", title=t(title), n=count) if count else t(title))
            for title, count in counts.items()
        ]
        return [changed_line(sum(counts.values())), *labels]

    def quality(value: str) -> list[Any]:
        return shown(parse(TrainConfig, {"quality": value}), QUALITY_FIELDS)

    def load_settings(path: str) -> Updates:
        values = read_yaml(Path(path))
        config = parse(TrainConfig, {name: value for name, value in values.items() if name not in ELSEWHERE})
        updates = card.filled(config.model_copy(update={"model": values.get("model", config.model)}))
        gr.Info(
            t("The settings were loaded; the dataset stays as it is chosen. Press Start training when they are right.")
        )
        return updates

    def reset() -> list[Any]:
        return shown(TrainConfig(), names)

    # In the browser alone: it answers at once, however busy the machine is.
    show = f"mode => ({{__type__: 'update', visible: mode === '{ADVANCED_MODE}'}})"
    card.mode.change(None, card.mode, card.everything, js=show, **POLL)
    badges = [card.changed, *card.groups.values()]
    changing = [card.widgets[name] for name in advanced]
    gr.on([widget.change for widget in changing], badge, changing, badges, trigger_mode="always_last", **POLL)
    of_quality = [card.widgets[name] for name in QUALITY_FIELDS]
    card.widgets["quality"].input(toasts(quality), card.widgets["quality"], of_quality, **POLL)
    card.load.upload(toasts(load_settings), card.load, [card.model, *card.widgets.values()], **ACTION)
    card.reset.click(reset, None, list(card.widgets.values()), **ACTION)
    if card.access is not None:
        access.connect(card.access, card.model, card.widgets["revision"], refresh, workspace)
