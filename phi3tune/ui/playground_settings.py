"""The playground's settings: how answers are drawn, in all panes or in each, by name, and through which guards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from phi3tune import presets
from phi3tune.config import SamplingConfig
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import forms, playground_engines
from phi3tune.ui.dialogue import SIDES, Dialogue, Side
from phi3tune.ui.wire import ACTION, Updates, toasts
from phi3tune.ui.words import N, t

FIELDS = list(SamplingConfig.model_fields)
DRAWN = [name for name in FIELDS if name != "system"]
ALL = "all"
ONLY: dict[Side, str] = {"left": N("only left"), "right": N("only right"), "third": N("only third")}


def side_choices(said: Dialogue) -> list[tuple[str, str]]:
    """What a choice between all panes and one of them offers."""
    return [(t("all models"), ALL), *((t(ONLY[side]), side) for side in said.shown)]


def side_of(value: object) -> Side | None:
    """The pane that was chosen; None for all."""
    return next((side for side in SIDES if side == value), None)


@dataclass
class SettingsCard:
    of: gr.Radio
    fields: dict[str, forms.Widget]
    preset: gr.Dropdown
    keep: gr.Button
    forget: gr.Button
    guards: gr.Dropdown | None
    key: gr.Textbox | None

    @property
    def values(self) -> list[Component]:
        """The form, in the order of `read`."""
        return [self.fields[name] for name in FIELDS]

    @property
    def own(self) -> list[Component]:
        """Guards and the key of endpoints: only for whoever runs the app, in this order."""
        return [part for part in (self.guards, self.key) if part is not None]

    def filled(self, config: SamplingConfig) -> Updates:
        """The form with these settings."""
        return {self.fields[name]: forms.as_shown(SamplingConfig, name, getattr(config, name)) for name in FIELDS}

    def choices(self, workspace: Workspace) -> Updates:
        """What there is to choose from on this disk."""
        found: Updates = {self.preset: gr.update(choices=presets.names(workspace))}
        if self.guards is not None:
            files = playground_engines.guard_files(workspace)
            found[self.guards] = gr.update(
                choices=[(t(playground_engines.NO_GUARDS), playground_engines.NO_GUARDS), *files]
            )
        return found

    @property
    def chosen(self) -> list[Component]:
        """Everything that `choices` changes."""
        return [self.preset, *([self.guards] if self.guards is not None else [])]


def build(*, visitors: bool) -> SettingsCard:
    """`visitors`: for those of a hosted app, who bring no guards and ask no endpoints."""
    guards, key = None, None
    with gr.Accordion(t("System prompt and settings"), open=False, elem_id="sampling"):
        of = gr.Radio(
            side_choices(Dialogue()),
            value=ALL,
            label=t("Settings of"),
            info=t("One form for all models, or one for each: the form shows the chosen one's."),
            elem_id="settings-of",
        )
        fields = {"system": forms.widget(SamplingConfig, "system", elem_id="system-prompt")}
        with gr.Row():
            fields |= {
                name: forms.widget(SamplingConfig, name, elem_id=f"sample-{name}", min_width=180) for name in DRAWN
            }
        with gr.Row():
            preset = gr.Dropdown(
                [],
                value=None,
                label=t("Preset"),
                info=t("Choose one to fill the form, or type a name and save the form under it."),
                elem_id="preset",
                allow_custom_value=True,
                min_width=180,
            )
            if not visitors:
                guards = gr.Dropdown(
                    [(t(playground_engines.NO_GUARDS), playground_engines.NO_GUARDS)],
                    value=playground_engines.NO_GUARDS,
                    label=t("Guards"),
                    info=t("Checks on questions and answers: YAML files in the workspace's folder guards."),
                    elem_id="guards",
                    min_width=180,
                )
                key = gr.Textbox(
                    label=t("Key of endpoints"),
                    info=t("Sent to endpoints that are asked here; kept in memory only."),
                    type="password",
                    placeholder=t("may stay empty"),
                    elem_id="endpoint-key",
                    min_width=180,
                )
        with gr.Row(elem_classes="pt-buttons"):
            keep = gr.Button(t("Save preset"), size="sm", elem_id="preset-save")
            forget = gr.Button(t("Delete preset"), size="sm", elem_id="preset-delete")
    return SettingsCard(of, fields, preset, keep, forget, guards, key)


def read(values: Sequence[Any]) -> SamplingConfig:
    """The settings of the form; `ConfigError` names every wrong one."""
    return forms.read(SamplingConfig, FIELDS, values)


def connect(card: SettingsCard, said: gr.State, workspace: Workspace) -> None:
    def turn_to(dialogue: Dialogue, of: object, *values: Any) -> Updates:
        return card.filled(dialogue.settings_for(side_of(of), read(values)))

    def fill(name: object) -> Updates:
        if name not in presets.names(workspace):
            return {field: gr.skip() for field in card.values}  # a name that is only being typed
        return card.filled(presets.load(str(name), workspace))

    def keep(name: object, *values: Any) -> Updates:
        presets.save(str(name or ""), read(values), workspace)
        gr.Info(t("Saved as {name}.", name=str(name).strip()))
        return {card.preset: gr.update(choices=presets.names(workspace), value=str(name).strip())}

    def forget(name: object) -> Updates:
        if not name:
            raise UserError(t("Choose the preset to delete."))
        presets.delete(str(name), workspace)
        return {card.preset: gr.update(choices=presets.names(workspace), value=None)}

    card.of.input(toasts(turn_to), [said, card.of, *card.values], card.values, **ACTION)
    card.preset.input(toasts(fill), card.preset, card.values, **ACTION)
    card.keep.click(toasts(keep), [card.preset, *card.values], card.preset, **ACTION)
    card.forget.click(toasts(forget), card.preset, card.preset, **ACTION)
