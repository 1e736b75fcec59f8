"""The Playground tab: two models side by side, a third on request, and one composer for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from phi3tune import votes
from phi3tune.config import PromptsConfig
from phi3tune.paths import Workspace
from phi3tune.ui import (
    playground_files,
    playground_prompts,
    playground_rows,
    playground_settings,
    render_chat,
    render_votes,
)
from phi3tune.ui.dialogue import SIDES, Dialogue, Side
from phi3tune.ui.live import Cursor
from phi3tune.ui.playground_actions import Actions
from phi3tune.ui.playground_files import FilesCard
from phi3tune.ui.playground_prompts import PromptsCard
from phi3tune.ui.playground_rows import RowCard
from phi3tune.ui.playground_settings import ALL, SettingsCard
from phi3tune.ui.wire import ACTION, Updates, stepwise, toasts

if TYPE_CHECKING:
    from phi3tune.chat import Message

HINTS: dict[Side, str] = {
    "left": "Choose a model above, write a message below, and press Send. Its answer appears here.",
    "right": "Choose a second model, such as your own run, to see both answers to the same message.",
    "third": "Choose a third model, such as a build of your run.",
}
VIEWERS = 4
PRESSED = (
    "element.addEventListener('click', e => {"
    " const copy = e.target.closest('.pt-copy');"
    " if (copy) { navigator.clipboard.writeText(copy.closest('.pt-turn').querySelector('.pt-text').textContent);"
    " copy.textContent = 'Copied'; setTimeout(() => { copy.textContent = 'Copy'; }, 1500); }"
    " const act = e.target.closest('.pt-act');"
    " if (act) trigger('click', {act: act.dataset.act, place: act.dataset.place}); })"
)


@dataclass
class PlaygroundTab:
    models: dict[Side, gr.Dropdown]
    panes: dict[Side, gr.HTML]
    stats: dict[Side, gr.HTML]
    third: gr.Checkbox
    third_pane: gr.Column
    blind: gr.Checkbox
    in_turn: gr.Checkbox
    bar: gr.HTML
    detail: gr.HTML
    row: RowCard
    to: gr.Radio
    composer: gr.Textbox
    send: gr.Button
    stop: gr.Button
    again: gr.Button
    clear: gr.Button
    settings: SettingsCard
    files: FilesCard
    prompts: PromptsCard
    tally: gr.HTML
    dialogue: gr.State

    @property
    def parts(self) -> list[Component]:
        """Everything that `update` may change."""
        return self.prompts.parts

    def update(self, cursor: Cursor, workspace: Workspace) -> Updates:
        """What this browser must be sent so that it shows the jobs of this tab as they are now."""
        return self.prompts.update(cursor, workspace)

    def show(self, said: Dialogue) -> Updates:
        """Every pane and its figures, what is to say of all of them, and the buttons."""
        told, differs = render_chat.parting(said) if not said.hidden else ("", None)
        begun = said.begun
        shown: Updates = {
            self.bar: render_chat.bar(said, told),
            # With their words: at the end of a stream of updates, Gradio would show them without.
            self.send: gr.Button(self.send.value, visible=not said.busy),
            self.stop: gr.Button(self.stop.value, visible=said.busy),
            self.again: gr.Button(self.again.value, interactive=begun and not said.busy),
            self.clear: gr.Button(self.clear.value, interactive=begun and not said.busy),
        }
        for side in SIDES:
            shown[self.panes[side]] = render_chat.chat(said, side, HINTS[side], differs if side in said.shown else None)
            shown[self.stats[side]] = render_chat.stats_line(said, side)
        return shown

    def show_side(self, said: Dialogue, side: Side) -> Updates:
        """One pane while its answer comes in."""
        return {
            self.panes[side]: render_chat.chat(said, side, HINTS[side]),
            self.stats[side]: render_chat.stats_line(said, side),
        }

    def laid_out(self, said: Dialogue) -> Updates:
        """The panes that are open, and what may be chosen between them."""
        choices = playground_settings.side_choices(said)
        return {
            self.third: len(said.shown) == len(SIDES),
            self.third_pane: gr.Column(visible=len(said.shown) == len(SIDES)),
            self.blind: said.blind,
            self.to: gr.Radio(choices, value=ALL),
            self.settings.of: gr.Radio(choices, value=said.form_of or ALL),
        }

    @property
    def shown(self) -> list[Component]:
        """Everything that `show` changes."""
        return [*self.panes.values(), *self.stats.values(), self.bar, self.send, self.stop, self.again, self.clear]

    @property
    def layout(self) -> list[Block]:
        """Everything that `laid_out` changes."""
        return [self.third, self.third_pane, self.blind, self.to, self.settings.of]

    def begin(self, prompt: Sequence[Message]) -> Updates:
        """A fresh dialogue that stands before its last question: earlier turns in both panes, the question typed."""
        said = Dialogue()
        system = "".join(message["content"] for message in prompt if message["role"] == "system")
        for side in said.shown:
            said.panes[side].begin(prompt[:-1])
        typed = prompt[-1]["content"] if prompt else ""
        shown = {**self.show(said), **self.laid_out(said)}
        return {**shown, self.dialogue: said, self.composer: typed, self.settings.fields["system"]: system}

    @property
    def begun(self) -> list[Block]:
        """Everything that `begin` changes."""
        return [*self.shown, *self.layout, self.dialogue, self.composer, self.settings.fields["system"]]


@dataclass
class _Parts:
    """The components of the panes as they are made."""

    models: dict[Side, gr.Dropdown] = field(default_factory=dict)
    panes: dict[Side, gr.HTML] = field(default_factory=dict)
    stats: dict[Side, gr.HTML] = field(default_factory=dict)

    def add(self, side: Side, label: str) -> None:
        empty = Dialogue()
        self.models[side] = gr.Dropdown(
            [], value=None, label=label, elem_id=f"pane-{side}-model", allow_custom_value=True
        )
        chat = render_chat.chat(empty, side, HINTS[side])
        self.panes[side] = gr.HTML(chat, elem_id=f"pane-{side}", js_on_load=PRESSED)
        self.stats[side] = gr.HTML(render_chat.stats_line(empty, side), elem_id=f"stats-{side}")


def build() -> PlaygroundTab:
    parts = _Parts()
    with gr.Row(elem_classes="pt-buttons pt-modes"):
        third = gr.Checkbox(label="Third model", elem_id="third-model", min_width=120)
        blind = gr.Checkbox(label="Blind: hide the names until I vote", elem_id="blind", min_width=260)
        in_turn = gr.Checkbox(label="One after the other, for a fair speed", elem_id="in-turn", min_width=270)
    with gr.Row(elem_classes="pt-panes"):
        for side in SIDES[:2]:
            with gr.Column(elem_classes="pt-card", min_width=320):
                parts.add(side, f"Model on the {side}")
        with gr.Column(elem_classes="pt-card", min_width=320, visible=False) as third_pane:
            parts.add("third", "Third model")
    below = gr.HTML(elem_id="difference", js_on_load=PRESSED)
    row = playground_rows.build()
    detail = gr.HTML(elem_id="prompt-detail")
    with gr.Column(elem_classes="pt-card"):
        composer = gr.Textbox(
            label="Message",
            placeholder="Write a message; Enter sends it, Shift+Enter makes a new line.",
            lines=1,  # with more, Gradio gives Enter to new lines
            max_lines=8,
            elem_id="composer",
        )
        with gr.Row(elem_classes="pt-bar-row pt-send"):
            with gr.Row(elem_classes="pt-buttons"):
                send = gr.Button("Send", variant="primary", elem_id="send")
                stop = gr.Button("Stop", variant="stop", elem_id="stop-answer", visible=False)
                again = gr.Button("Regenerate", elem_id="regenerate", interactive=False)
                clear = gr.Button("Clear", elem_id="clear", interactive=False)
            to = gr.Radio(
                playground_settings.side_choices(Dialogue()),
                value=ALL,
                label="Send to",
                elem_id="send-to",
                min_width=260,
            )
            files = playground_files.build()
        settings = playground_settings.build()
        prompts = playground_prompts.build()
        with gr.Accordion("Votes", open=False, elem_id="votes"):
            tally = gr.HTML(elem_id="vote-tally")
    return PlaygroundTab(
        parts.models, parts.panes, parts.stats, third, third_pane, blind, in_turn, below, detail, row, to, composer,
        send, stop, again, clear, settings, files, prompts, tally, gr.State(Dialogue()),
    )  # fmt: skip


def connect(
    tab: PlaygroundTab,
    datasets: list[gr.Dropdown],
    refresh: Callable[[Any], None],
    opened: Callable[..., object],
    workspace: Workspace,
) -> None:
    """`datasets` are the pickers that a saved row's dataset is offered in; `opened` attaches to the page's opening."""
    do, said = Actions(tab, workspace), tab.dialogue
    given = [*tab.models.values(), *tab.settings.values]

    def answering(side: Side) -> Callable[..., Iterator[Updates]]:
        def respond(*values: Any) -> Iterator[Updates]:
            yield from do.answer(side, *values)

        respond.__name__ = f"answer_{side}"
        return respond

    def pressing(side: Side) -> Callable[..., Updates]:
        def press(dialogue: Dialogue, event: gr.EventData) -> Updates:
            return do.pressed(side, dialogue, event)

        press.__name__ = f"press_{side}"
        return press

    def restored(dialogue: Dialogue) -> Updates:
        tally = render_votes.tally(votes.tally(workspace))
        return {**tab.show(dialogue), **tab.laid_out(dialogue), **tab.settings.choices(workspace), tab.tally: tally}

    def many(file: str, *values: Any) -> PromptsConfig:
        dialogue, *rest = values
        chosen, configs = do.given(dialogue, rest)
        names = list(dict.fromkeys(chosen[side] for side in dialogue.shown))
        return PromptsConfig(prompts=file, models=names, **configs[dialogue.shown[0]].model_dump())

    asked = [
        on(toasts(do.ask), [said, tab.composer, tab.to, *given], [*tab.shown, tab.composer], **ACTION)
        for on in (tab.composer.submit, tab.send.click)
    ]
    asked.append(tab.again.click(toasts(do.again), [said, *given], tab.shown, **ACTION))
    for event in asked:
        for side in SIDES:
            event.success(
                stepwise(answering(side)),
                [said, tab.in_turn, tab.settings.guards, tab.settings.key],
                [*tab.shown, tab.files.kept],
                concurrency_id=f"answer-{side}",
                concurrency_limit=VIEWERS,
                **ACTION,
            )
    tab.stop.click(do.stop, said, tab.shown, **{**ACTION, "queue": False})
    tab.clear.click(do.clear, said, [*tab.shown, tab.files.kept, tab.row.box, tab.detail], **ACTION)
    tab.third.input(toasts(do.open_third), [said, tab.third], [*tab.layout, *tab.shown], **ACTION)
    tab.blind.input(toasts(do.hide_names), [said, tab.blind], [*tab.layout, *tab.shown, tab.tally], **ACTION)
    changed = [*tab.shown, tab.composer, tab.detail, tab.tally, tab.files.kept, *tab.row.parts]
    for side in SIDES:
        tab.panes[side].click(toasts(pressing(side)), said, changed, **ACTION)
    tab.bar.click(toasts(pressing("left")), said, changed, **ACTION)
    playground_settings.connect(tab.settings, said, workspace)
    playground_rows.connect(tab.row, said, datasets, workspace)
    playground_prompts.connect(tab.prompts, many, [said, *given], refresh, workspace)
    everything = [*tab.shown, *tab.layout, tab.settings.preset, tab.settings.guards, tab.tally]
    playground_files.connect(tab.files, said, restored, everything, opened)
