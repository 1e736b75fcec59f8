"""The Playground tab: two models side by side, one composer for both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from phi3tune.chat import Renderer
from phi3tune.config import SamplingConfig
from phi3tune.engines import models
from phi3tune.engines.base import Chunk, Request, Sampling
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import dialogue, forms, render_chat
from phi3tune.ui.dialogue import SIDES, Dialogue, Pane, Side
from phi3tune.ui.wire import ACTION, Updates, stepwise, toasts

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.engines.pool import Pool

SETTINGS = list(SamplingConfig.model_fields)
DRAWN = [name for name in SETTINGS if name != "system"]
HINTS: dict[Side, str] = {
    "left": "Choose a model above, write a message below, and press Send. Its answer appears here.",
    "right": "Choose a second model, such as your own run, to see both answers to the same message.",
}
VIEWERS = 4
COPY_ANSWER = (
    "element.addEventListener('click', e => { const button = e.target.closest('.pt-copy'); if (!button) return;"
    " navigator.clipboard.writeText(button.closest('.pt-turn').querySelector('.pt-text').textContent);"
    " button.textContent = 'Copied'; setTimeout(() => { button.textContent = 'Copy'; }, 1500); })"
)

_pool: Pool | None = None
_pool_lock = threading.Lock()


def pool() -> Pool:
    """The engines of this process, shared by both panes and all pages; made when first needed."""
    global _pool
    with _pool_lock:
        if _pool is None:
            from phi3tune.engines.pool import Pool

            _pool = Pool()
        return _pool


@dataclass
class PlaygroundTab:
    models: dict[Side, gr.Dropdown]
    panes: dict[Side, gr.HTML]
    stats: dict[Side, gr.HTML]
    difference: gr.HTML
    composer: gr.Textbox
    send: gr.Button
    stop: gr.Button
    again: gr.Button
    clear: gr.Button
    settings: dict[str, forms.Widget]
    dialogue: gr.State

    def show(self, said: Dialogue) -> Updates:
        """Both panes, their figures and the buttons."""
        shown: Updates = {}
        for side in SIDES:
            shown |= self.show_side(said, side)
        return shown

    def show_side(self, said: Dialogue, side: Side) -> Updates:
        """One pane while its answer comes in."""
        of = said.panes[side]
        return {self.panes[side]: render_chat.pane(of, HINTS[side]), self.stats[side]: render_chat.stats_line(of)}

    def buttons(self, said: Dialogue) -> Updates:
        """Send while nothing is being answered, Stop while something is."""
        asked = any(of.turns for of in said.panes.values())
        return {
            self.send: gr.Button(visible=not said.busy),
            self.stop: gr.Button(visible=said.busy),
            self.again: gr.Button(interactive=asked and not said.busy),
            self.clear: gr.Button(interactive=asked and not said.busy),
            self.difference: render_chat.difference(said),
        }

    def begin(self, prompt: Sequence[Message]) -> Updates:
        """A fresh dialogue that stands before its last question: earlier turns in both panes, the question typed."""
        said = Dialogue()
        system = "".join(message["content"] for message in prompt if message["role"] == "system")
        for of in said.panes.values():
            of.begin(prompt[:-1])
        typed = prompt[-1]["content"] if prompt else ""
        shown = {**self.show(said), **self.buttons(said)}
        return {**shown, self.dialogue: said, self.composer: typed, self.settings["system"]: system}

    @property
    def begun(self) -> list[Component]:
        """Everything that `begin` changes."""
        own = [self.dialogue, self.composer, self.settings["system"]]
        return [*self.panes.values(), *self.stats.values(), *self.controls, *own]

    @property
    def controls(self) -> list[Component]:
        return [self.send, self.stop, self.again, self.clear, self.difference]


def build() -> PlaygroundTab:
    said = gr.State(Dialogue())
    pickers: dict[Side, gr.Dropdown] = {}
    panes: dict[Side, gr.HTML] = {}
    stats: dict[Side, gr.HTML] = {}
    with gr.Row(elem_classes="pt-panes"):
        for side in SIDES:
            with gr.Column(elem_classes="pt-card", min_width=320):
                pickers[side] = gr.Dropdown(
                    [], value=None, label=f"Model on the {side}", elem_id=f"pane-{side}-model", allow_custom_value=True
                )
                hint = render_chat.pane(Pane(), HINTS[side])
                panes[side] = gr.HTML(hint, elem_id=f"pane-{side}", js_on_load=COPY_ANSWER)
                stats[side] = gr.HTML(render_chat.stats_line(Pane()), elem_id=f"stats-{side}")
    difference = gr.HTML(elem_id="difference")
    with gr.Column(elem_classes="pt-card"):
        composer = gr.Textbox(
            label="Message to both models",
            placeholder="Write a message; Enter sends it, Shift+Enter makes a new line.",
            lines=1,  # with more, Gradio gives Enter to new lines
            max_lines=8,
            elem_id="composer",
        )
        with gr.Row(elem_classes="pt-buttons"):
            send = gr.Button("Send", variant="primary", elem_id="send")
            stop = gr.Button("Stop", variant="stop", elem_id="stop-answer", visible=False)
            again = gr.Button("Regenerate", elem_id="regenerate", interactive=False)
            clear = gr.Button("Clear", elem_id="clear", interactive=False)
        with gr.Accordion("System prompt and sampling", open=False, elem_id="sampling"):
            settings = {"system": forms.widget(SamplingConfig, "system", elem_id="system-prompt")}
            with gr.Row():
                settings |= {
                    name: forms.widget(SamplingConfig, name, elem_id=f"sample-{name}", min_width=180) for name in DRAWN
                }
    return PlaygroundTab(pickers, panes, stats, difference, composer, send, stop, again, clear, settings, said)


def request_for(ref: models.ModelRef, messages: list[Any], config: SamplingConfig) -> Request:
    """What the engine is asked for the open answer of a pane."""
    sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p, config.seed)
    if ref.task == "classification":  # it renders by itself, and answers with its likeliest label
        return Request((), sampling, messages)
    return Request(Renderer.load(ref.tokenizer).prompt(messages), sampling)


def add_engines(said: Dialogue, workspace: Workspace) -> None:
    """Note what gave the last answers, for the lines under the panes; only of models that are in memory."""
    for of in said.panes.values():
        turn = of.turns[-1] if of.turns else None
        if turn is None or turn.error or turn.engine is not None:
            continue
        ref = models.resolve(turn.model, workspace)
        if pool().state(ref) == "ready":
            turn.engine = pool().info(ref)


def connect(tab: PlaygroundTab, workspace: Workspace) -> None:
    settings = [tab.settings[name] for name in SETTINGS]

    def ask(said: Dialogue, text: str) -> Updates:
        if not text.strip():
            raise UserError("Write a message first.")
        if said.busy:
            raise UserError("Wait for the answers, or press Stop.")
        for of in said.panes.values():
            of.ask(text)
        return {**tab.show(said), **tab.buttons(said), tab.composer: ""}

    def again(said: Dialogue) -> Updates:
        if said.busy or not all(of.turns for of in said.panes.values()):
            raise UserError("There is no answer to give again yet.")
        for of in said.panes.values():
            of.again()
        return {**tab.show(said), **tab.buttons(said)}

    def stop(said: Dialogue) -> Updates:
        for of in said.panes.values():
            of.stop()
        return {**tab.show(said), **tab.buttons(said)}

    def clear(said: Dialogue) -> Updates:
        for of in said.panes.values():
            of.clear()
        return {**tab.show(said), **tab.buttons(said)}

    def answering(side: Side) -> Callable[..., Iterator[Updates]]:
        def respond(said: Dialogue, model: object, *values: Any) -> Iterator[Updates]:
            of = said.panes[side]
            if not of.busy:
                return

            def stream(cancelled: Callable[[], bool]) -> Iterator[Chunk]:
                config = forms.read(SamplingConfig, SETTINGS, values)
                ref = models.resolve(str(model or ""), workspace)
                of.waiting_for = "waiting for its turn" if pool().state(ref) == "ready" else "loading the model"
                return pool().stream(ref, request_for(ref, of.messages(config.system), config), cancelled)

            for _ in dialogue.answer(of, str(model or "no model"), stream):
                yield tab.show_side(said, side)
            if not said.busy:
                add_engines(said, workspace)
                yield {**tab.show(said), **tab.buttons(said)}

        respond.__name__ = f"answer_{side}"
        return respond

    everything = [*tab.panes.values(), *tab.stats.values(), *tab.controls]
    asked = [
        on(toasts(ask), [tab.dialogue, tab.composer], [*everything, tab.composer], **ACTION)
        for on in (tab.composer.submit, tab.send.click)
    ]
    asked.append(tab.again.click(toasts(again), tab.dialogue, everything, **ACTION))
    for event in asked:
        for side in SIDES:
            event.success(
                stepwise(answering(side)),
                [tab.dialogue, tab.models[side], *settings],
                everything,
                concurrency_id=f"answer-{side}",
                concurrency_limit=VIEWERS,
                **ACTION,
            )
    tab.stop.click(stop, tab.dialogue, everything, **{**ACTION, "queue": False})
    tab.clear.click(clear, tab.dialogue, everything, **ACTION)
