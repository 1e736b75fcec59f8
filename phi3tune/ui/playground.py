"""The Playground tab: two models side by side, a third on request, and one composer for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from phi3tune import votes
from phi3tune.config import HostedConfig, PromptsConfig
from phi3tune.paths import Workspace
from phi3tune.ui import (
    playground_code,
    playground_examples,
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
from phi3tune.ui.playground_code import CodeCard
from phi3tune.ui.playground_files import FilesCard
from phi3tune.ui.playground_prompts import PromptsCard
from phi3tune.ui.playground_rows import RowCard
from phi3tune.ui.playground_settings import ALL, SettingsCard
from phi3tune.ui.wire import ACTION, POLL, Updates, stepwise, toasts
from phi3tune.ui.words import N, in_browser, t

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.ui.endpoint_card import Endpoints

HINTS: dict[Side, str] = {
    "left": N("Choose a model above, write a message below, and press Send. Its answer appears here."),
    "right": N("Choose a second model, such as your own run, to see both answers to the same message."),
    "third": N("Choose a third model, such as a build of your run."),
}
LABELS: dict[Side, str] = {"left": N("Model on the left"), "right": N("Model on the right"), "third": N("Third model")}
VIEWERS = 4


# Every update replaces a pane's chat. It follows what is written for as long as its reader is at the end; one who has
# scrolled back stays where they are, until another question is asked.
FOLLOW = """
let place = null, asked = 0;
element.addEventListener('scroll', ({target}) => {
  if (!target.matches('.pt-chat') || !target.isConnected) return;
  place = target.scrollTop < -24 ? target.scrollHeight - target.clientHeight + target.scrollTop : null;
}, true);
new MutationObserver(() => {
  const chat = element.querySelector('.pt-chat');
  if (!chat) return;
  const questions = chat.querySelectorAll('.user').length;
  if (questions !== asked) place = null;
  asked = questions;
  if (place !== null) chat.scrollTop = place - (chat.scrollHeight - chat.clientHeight);
}).observe(element, {childList: true, subtree: true});
"""


def pressed() -> str:
    """JavaScript of the buttons in the panes and below them."""
    return f"""
element.addEventListener('click', ({{target}}) => {{
  const copy = target.closest('.pt-copy'), act = target.closest('.pt-act');
  if (copy) {{
    navigator.clipboard.writeText(copy.closest('.pt-turn').querySelector('.pt-text').textContent);
    copy.textContent = {in_browser("Copied")};
    setTimeout(() => {{ copy.textContent = {in_browser("Copy")}; }}, 1500);
  }}
  if (act) trigger('click', {{act: act.dataset.act, place: act.dataset.place}});
}});
"""


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
    examples: gr.HTML
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
    code: CodeCard
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
        comparison, differs = render_chat.parting(said) if not said.hidden else ("", None)
        begun = said.begun
        shown: Updates = {
            self.bar: render_chat.between(said, comparison),
            # With their words, which an update without them may lose.
            self.send: gr.Button(t("Send"), visible=not said.busy),
            self.stop: gr.Button(t("Stop"), visible=said.busy),
            self.again: gr.Button(t("Regenerate"), interactive=begun and not said.busy),
            self.clear: gr.Button(t("Clear"), interactive=begun and not said.busy),
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
            self.code.of: gr.Radio(playground_code.side_choices(said)),
        }

    @property
    def sides(self) -> list[Component]:
        """Everything that `show_side` changes, of all panes."""
        return [*self.panes.values(), *self.stats.values()]

    @property
    def shown(self) -> list[Component]:
        """Everything that `show` changes."""
        return [*self.sides, self.bar, self.send, self.stop, self.again, self.clear]

    @property
    def layout(self) -> list[Block]:
        """Everything that `laid_out` changes."""
        return [self.third, self.third_pane, self.blind, self.to, self.settings.of, self.code.of]

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

    def add(self, side: Side) -> None:
        empty = Dialogue()
        self.models[side] = gr.Dropdown(
            [], value=None, label=t(LABELS[side]), elem_id=f"pane-{side}-model", allow_custom_value=True
        )
        chat = render_chat.chat(empty, side, HINTS[side])
        self.panes[side] = gr.HTML(chat, elem_id=f"pane-{side}", js_on_load=pressed() + FOLLOW)
        self.stats[side] = gr.HTML(render_chat.stats_line(empty, side), elem_id=f"stats-{side}")


def build(rules: HostedConfig | None) -> PlaygroundTab:
    """`rules` of a hosted app; None for the person at the machine."""
    parts = _Parts()
    with gr.Row(elem_classes="pt-buttons pt-modes"):
        third = gr.Checkbox(label=t("Third model"), elem_id="third-model", min_width=120)
        blind = gr.Checkbox(label=t("Blind: hide the names until I vote"), elem_id="blind", min_width=260)
        in_turn = gr.Checkbox(label=t("One after the other, for a fair speed"), elem_id="in-turn", min_width=270)
    with gr.Row(elem_classes="pt-panes"):
        for side in SIDES[:2]:
            with gr.Column(elem_classes="pt-card", min_width=320):
                parts.add(side)
        with gr.Column(elem_classes="pt-card", min_width=320, visible=False) as third_pane:
            parts.add("third")
    below = gr.HTML(elem_id="difference", js_on_load=pressed())
    row = playground_rows.build()
    detail = gr.HTML(elem_id="prompt-detail")
    examples = gr.HTML(elem_id="examples", js_on_load=pressed())
    with gr.Row(elem_classes="pt-card pt-composer"):
        composer = gr.Textbox(
            label=t("Message"),
            placeholder=t("Write a message"),
            lines=1,  # with more, Gradio gives Enter to new lines
            max_lines=6,
            elem_id="composer",
            min_width=160,
        )
        send = gr.Button(t("Send"), variant="primary", elem_id="send", elem_classes="pt-main", scale=0, min_width=96)
        stop = gr.Button(t("Stop"), variant="stop", elem_id="stop-answer", visible=False, scale=0, min_width=96)
    with gr.Column(elem_classes="pt-card"):
        with gr.Row(elem_classes="pt-bar-row pt-send"):
            with gr.Row(elem_classes="pt-buttons"):
                again = gr.Button(t("Regenerate"), elem_id="regenerate", interactive=False, size="sm")
                clear = gr.Button(t("Clear"), elem_id="clear", interactive=False, size="sm")
                files = playground_files.build()
            to = gr.Radio(
                playground_settings.side_choices(Dialogue()),
                value=ALL,
                label=t("Send to"),
                elem_id="send-to",
                min_width=260,
            )
        settings = playground_settings.build(visitors=rules is not None)
        code = playground_code.build()
        prompts = playground_prompts.build()
        with gr.Accordion(t("Votes"), open=False, elem_id="votes"):
            tally = gr.HTML(elem_id="vote-tally")
        gr.HTML(render_chat.words(), elem_id="playground-words")
    return PlaygroundTab(
        parts.models, parts.panes, parts.stats, third, third_pane, blind, in_turn, below, detail, examples, row, to,
        composer, send, stop, again, clear, settings, files, prompts, tally, code, gr.State(Dialogue()),
    )  # fmt: skip


def connect(
    tab: PlaygroundTab,
    datasets: list[gr.Dropdown],
    refresh: Callable[[Any], None],
    opened: Callable[..., object],
    workspace: Workspace,
    endpoints: Endpoints,
) -> None:
    """`datasets` are the pickers that a saved row's dataset is offered in, the first of them the dataset in hand;
    `opened` attaches to the page's opening, and `endpoints` are the server's side of the Deploy tab."""
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

    def questions(dataset: object, *chosen: object) -> str:
        return playground_examples.html(chosen, dataset, workspace)

    picked = tab.examples.click(do.example, None, tab.composer, **ACTION)
    asked = [
        on(toasts(do.ask), [said, tab.composer, tab.to, *given], [*tab.shown, tab.composer], **ACTION)
        for on in (tab.composer.submit, tab.send.click, picked.success)
    ]
    asked.append(tab.again.click(toasts(do.again), [said, *given], tab.shown, **ACTION))
    for event in asked:
        for side in SIDES:
            answered = event.success(
                stepwise(answering(side)),
                [said, tab.in_turn, *tab.settings.own],
                tab.sides,  # a button among them would lose its words while they stream
                concurrency_id=f"answer-{side}",
                concurrency_limit=VIEWERS,
                **ACTION,
            )
            answered.then(do.ended, said, [*tab.shown, tab.files.kept], **POLL)
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
    everything = [*tab.shown, *tab.layout, *tab.settings.chosen, tab.tally]
    playground_files.connect(tab.files, said, restored, everything, opened)
    shown = [datasets[0], tab.models["left"], tab.models["right"]]
    opened(questions, shown, tab.examples, **POLL)
    for chosen in shown:
        chosen.change(questions, shown, tab.examples, **POLL)
    playground_code.connect(tab.code, do.given, [said, tab.composer, *given], asked, endpoints, workspace)
