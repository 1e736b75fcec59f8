"""The request that the playground would send next, as code to copy: curl, Python, JavaScript and the terminal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from phi3tune import hosted
from phi3tune.config import SamplingConfig, arguments
from phi3tune.engines import address, models
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui.dialogue import SIDES, Dialogue, Side
from phi3tune.ui.pane import Pane
from phi3tune.ui.render import notice
from phi3tune.ui.wire import POLL, Updates
from phi3tune.ui.words import N, t, told

if TYPE_CHECKING:
    from phi3tune.chat import Message
    from phi3tune.ui.endpoint_card import Endpoints

USUAL_URL = "http://127.0.0.1:8000/v1"  # of `phi3tune serve`
QUESTION = "Hello! Who are you?"
TERMINAL = "terminal"
LANGUAGES: dict[str, tuple[str, str]] = {
    "curl": ("curl", "shell"),
    "python": ("Python", "python"),
    "javascript": ("JavaScript", "javascript"),
    TERMINAL: (N("terminal"), "shell"),
}
MODELS: dict[Side, str] = {"left": N("left model"), "right": N("right model"), "third": N("third model")}
# What decides on the request: the dialogue, the model of every pane and the settings, as they are chosen now.
Given = Callable[[Dialogue, Sequence[Any]], tuple[dict[Side, str], dict[Side, SamplingConfig]]]


@dataclass
class CodeCard:
    box: gr.Accordion
    language: gr.Radio
    of: gr.Radio
    where: gr.HTML
    code: gr.Code


def build() -> CodeCard:
    with gr.Accordion(t("View code"), open=False, elem_id="view-code") as box:
        with gr.Row(elem_classes="pt-bar-row"):
            languages = [(t(name), language) for language, (name, _) in LANGUAGES.items()]
            language = gr.Radio(languages, value="curl", label=t("Ask from"), elem_id="code-language", min_width=260)
            of = gr.Radio(side_choices(Dialogue()), value="left", label=t("Code for"), elem_id="code-of", min_width=220)
        where = gr.HTML(elem_id="code-where")
        code = gr.Code(
            "", language="shell", elem_id="code", label=t("Code"), show_label=False, interactive=False, buttons=["copy"]
        )
    return CodeCard(box, language, of, where, code)


def side_choices(said: Dialogue) -> list[tuple[str, str]]:
    """The panes that code can be shown for."""
    return [(t(MODELS[side]), side) for side in said.shown]


def messages(pane: Pane, typed: str, system: str) -> list[Message]:
    """The chat with what is typed as its next question; with nothing typed, up to the last question that was asked."""
    if not pane.turns and not typed.strip():
        typed = QUESTION
    if not typed.strip():
        return pane.messages(system)
    ahead = Pane(turns=list(pane.turns))
    ahead.ask(typed.strip())
    return ahead.messages(system)


def body(config: SamplingConfig) -> dict[str, Any]:
    """The settings by their names in a request; those that change nothing are left out."""
    found: dict[str, Any] = {"temperature": config.temperature, "max_tokens": config.max_new_tokens}
    if config.temperature > 0:
        found |= {"top_p": config.top_p, "seed": config.seed}
        found |= {"top_k": config.top_k} if config.top_k else {}
    if config.repetition_penalty != 1.0:
        found["repetition_penalty"] = config.repetition_penalty
    return found | ({"stop": config.stop} if config.stop else {})


def commands(model: str, given: Sequence[Message], config: SamplingConfig) -> str:
    """The same in a terminal: a chat with these settings, and this very question answered into a file."""
    chat = shlex.join(["phi3tune", "chat", model, *arguments(config)])
    drawn = arguments(config.model_copy(update={"system": ""}))
    row = shlex.quote(json.dumps({"messages": list(given)}, ensure_ascii=False))
    many = shlex.join(["phi3tune", "prompts", "chat.jsonl", model, *drawn])
    return (
        f"# {t('a chat in the terminal')}\n{chat}\n\n"
        f"# {t('the answer to this very chat, into answers.jsonl')}\nprintf '%s\\n' {row} > chat.jsonl\n{many}\n"
    )


def code(
    ref: models.ModelRef,
    given: list[Message],
    config: SamplingConfig,
    language: str,
    endpoints: Endpoints,
    *,
    visitor: bool = False,
) -> tuple[str, str]:
    """What to know before the code is run, as HTML, and the code. To a `visitor` nothing is told of the endpoint."""
    if ref.task == "classification":
        say = t("{model} is a classifier: it answers with labels, in a terminal or at /classify.", model=ref.label)
        return notice("info", say), shlex.join(["phi3tune", "classify", ref.ref, given[-1]["content"]]) + "\n"
    if language == TERMINAL:
        return "", commands(ref.ref, given, config)
    asked: Mapping[str, Any] = {"messages": given, **body(config)}
    if ref.kind == "remote":
        place = address.parse(ref.ref)
        return "", endpoints.snippets(place.url, place.model or ref.label, asked)[language]
    state = None if visitor else endpoints.state()
    if state is not None and state.url is not None and ref.ref in state.models:
        say = t("This app's endpoint serves {model} at {url}.", model=ref.label, url=state.url)
        key = t("It asks for a key: put yours in the place of YOUR_KEY.") if state.keyed else ""
        return notice("good", say, key), endpoints.snippets(state.url, ref.ref, asked)[language]
    serve = shlex.join(["phi3tune", "serve", ref.ref])
    if visitor:
        start = t("On your own machine, {command} starts one.", command=serve)
    else:
        start = t("Start one on the Deploy tab, or with {command}.", command=serve)
    say = t("No endpoint serves {model} yet.", model=ref.label)
    return notice("info", say, start), endpoints.snippets(USUAL_URL, ref.ref, asked)[language]


def connect(
    card: CodeCard,
    given: Given,
    inputs: Sequence[Component],
    asked: Sequence[Any],
    endpoints: Endpoints,
    workspace: Workspace,
) -> None:
    """`inputs` are the dialogue, the composer, and what `given` reads; `asked` are events after which the request is
    another one."""

    def show(language: object, of: object, said: Dialogue, typed: str, *values: Any) -> Updates:
        name = language if isinstance(language, str) and language in LANGUAGES else next(iter(LANGUAGES))
        side = next((each for each in said.shown if each == of), SIDES[0])
        try:
            if said.hidden:
                raise UserError(t("The names are hidden until you vote, and the code would tell them."))
            chosen, configs = given(said, values)
            ref, config = models.resolve(chosen[side], workspace, download=False), configs[side]
            chat = messages(said.panes[side], typed, config.system)
            visitor = hosted.rules(workspace) is not None
            where, text = code(ref, chat, config, name, endpoints, visitor=visitor)
        except UserError as error:
            return {card.where: notice("warning", told(error)), card.code: gr.Code(visible=False)}
        return {card.where: where, card.code: gr.Code(text, language=LANGUAGES[name][1], visible=True)}  # type: ignore[arg-type]

    sources, parts = [card.language, card.of, *inputs], [card.where, card.code]
    changes = [card.box.expand, card.language.input, card.of.input]
    changes += [part.blur for part in inputs if hasattr(part, "blur")]
    for event in (*changes, *(event.then for event in asked)):
        event(show, sources, parts, **POLL)
