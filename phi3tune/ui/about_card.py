"""What a person may write on a run at any time: title, project, tags, note."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune import about
from phi3tune.config import TrainConfig, names_from_text
from phi3tune.paths import Workspace
from phi3tune.ui import forms
from phi3tune.ui.wire import ACTION, POLL, toasts
from phi3tune.ui.words import t

FIELDS = ("project", "tags", "note")


@dataclass
class AboutCard:
    panel: gr.Accordion
    title: gr.Textbox
    fields: dict[str, forms.Widget]
    save: gr.Button

    @property
    def parts(self) -> list[Any]:
        """Title, project, tags, note."""
        return [self.title, *self.fields.values()]


def build() -> AboutCard:
    with gr.Accordion(t("Title, tags and note"), open=False, elem_id="about") as panel:
        with gr.Row():
            title = gr.Textbox(
                label=t("Title"),
                info=t("Shown in lists. The run keeps its own name, by which commands and models refer to it."),
                elem_id="about-title",
                min_width=190,
            )
            fields = {name: forms.widget(TrainConfig, name, elem_id=f"about-{name}", min_width=190) for name in FIELDS}
        save = gr.Button(t("Save"), size="sm", elem_id="about-save")
    return AboutCard(panel, title, fields, save)


def connect(card: AboutCard, run: gr.Dropdown, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    def show(name: str) -> list[str]:
        found = about.read_about(workspace.run(name))
        return [found.title, found.project or "", ",".join(found.tags), found.note]

    def save(name: str, title: str, project: str, tags: str, note: str) -> None:
        about.edit_about(
            workspace.run(name), title=title, project=project.strip() or None, tags=names_from_text(tags), note=note
        )
        gr.Info(t("What you wrote on {name} was saved.", name=name))

    card.panel.expand(toasts(show), run, card.parts, **POLL)
    refresh(card.save.click(toasts(save), [run, *card.parts], None, **ACTION).then)
