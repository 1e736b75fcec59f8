"""The answer that a model should have given, kept as a row to train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block

from phi3tune import feedback
from phi3tune.chat import Message
from phi3tune.config import SamplingConfig, TrainConfig
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.jobs import read_config
from phi3tune.paths import Workspace
from phi3tune.ui.dialogue import WAIT, Dialogue, Side
from phi3tune.ui.render import section
from phi3tune.ui.wire import ACTION, Updates, dataset_choices, known_dataset, toasts
from phi3tune.ui.words import N, t

OWN = N("corrected answers alone")


@dataclass
class RowCard:
    box: gr.Column
    text: gr.Textbox
    dataset: gr.Dropdown
    save: gr.Button
    cancel: gr.Button
    place: gr.State

    @property
    def parts(self) -> list[Block]:
        """Everything that `opened` changes."""
        return [self.box, self.text, self.dataset, self.place]

    def opened(self, said: Dialogue, side: Side, place: int, workspace: Workspace) -> Updates:
        """The form for the answer at a place, holding what the model said, and the data that its run learned from."""
        pane = said.panes[side]
        if not pane.answers(place):
            raise UserError(t(WAIT))
        choices = _choices(workspace)
        learned = data_of(pane.turns[place].model, workspace)
        chosen = learned if learned in [value for _, value in choices] else OWN
        return {
            self.box: gr.Column(visible=True),
            self.text: pane.turns[place].text.strip(),
            self.dataset: gr.update(choices=choices, value=chosen),
            self.place: (side, place),
        }


def build() -> RowCard:
    with gr.Column(elem_classes="pt-card", visible=False, elem_id="correction") as box:
        hint = t("the chat up to here, with your answer, becomes a row to train on")
        gr.HTML(section("", t("Correct this answer"), hint))
        text = gr.Textbox(label=t("What the model should have said"), lines=3, max_lines=16, elem_id="corrected")
        with gr.Row(elem_classes="pt-bar-row"):
            dataset = gr.Dropdown(
                [(t(OWN), OWN)],
                value=OWN,
                label=t("Add it to"),
                info=t(
                    "The dataset itself stays as it is: the row goes into a new version, which the Data tab offers."
                ),
                elem_id="correction-dataset",
                allow_custom_value=True,
                min_width=220,
            )
            with gr.Row(elem_classes="pt-buttons"):
                save = gr.Button(t("Save as training row"), variant="primary", elem_id="save-row")
                cancel = gr.Button(t("Cancel"), elem_id="cancel-row")
    return RowCard(box, text, dataset, save, cancel, gr.State(None))


def row_of(said: Dialogue, side: Side, place: int, text: str) -> list[Message]:
    """The chat up to the answer at a place, which is `text` instead."""
    pane = said.panes[side]
    if not pane.answers(place):
        raise UserError(t("The answer is not there any more; choose another one to correct."))
    system = (pane.turns[place].asked or SamplingConfig()).system
    return [*pane.messages(system, place), {"role": "assistant", "content": text}]


def connect(card: RowCard, said: gr.State, pickers: list[gr.Dropdown], workspace: Workspace) -> None:
    """`pickers` are those of datasets, which the new version is offered in; the first is set to it."""

    def save(dialogue: Dialogue, place: Any, text: str, dataset: object) -> Updates:
        if place is None:
            raise UserError(t("Choose an answer to correct first."))
        side, number = place
        row = row_of(dialogue, side, number, text)
        info = feedback.save_row(row, workspace, None if dataset == OWN else known_dataset(dataset, workspace))
        gr.Info(t("Saved in {dataset}. The Data tab offers it.", dataset=info.title))
        choices = dataset_choices(workspace)
        updates: Updates = {picker: gr.update(choices=choices) for picker in pickers}
        updates[pickers[0]] = gr.update(choices=choices, value=info.id)
        return {**updates, **close()}

    def close() -> Updates:
        return {card.box: gr.Column(visible=False), card.text: "", card.place: None}

    closed = [card.box, card.text, card.place]
    card.save.click(toasts(save), [said, card.place, card.text, card.dataset], [*pickers, *closed], **ACTION)
    card.cancel.click(close, None, closed, **ACTION)


def _choices(workspace: Workspace) -> list[tuple[str, str]]:
    return [(t(OWN), OWN), *dataset_choices(workspace)]


def data_of(model: str, workspace: Workspace) -> str | None:
    """The dataset that the run behind a model was trained on; None where there is none."""
    try:
        run = models.resolve(model, workspace, download=False).run
        config = read_config(workspace.run(run)) if run is not None else None
    except UserError:
        return None
    return config.dataset if isinstance(config, TrainConfig) else None
