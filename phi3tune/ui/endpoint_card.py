"""An endpoint of this app: start, stop, keys, what to copy, and the test that it behaves as OpenAI's clients expect."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import gradio as gr

from phi3tune import conformance, keys
from phi3tune.config import ServeConfig
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import forms, render_endpoint
from phi3tune.ui.live import Cursor
from phi3tune.ui.render import section
from phi3tune.ui.wire import ACTION, Updates, stepwise, toasts

# The page is one machine's: who may reach it from elsewhere is decided where it is started.
ELSEWHERE = ("models", "host", "api_key_file", "allowed_hosts", "guards")
SIMPLE = forms.fields(ServeConfig, "simple", without=ELSEWHERE)
ADVANCED = forms.fields(ServeConfig, "advanced", without=ELSEWHERE)
SETTINGS = [*SIMPLE, *ADVANCED]
LANGUAGES = {"curl": "shell", "python": "python", "javascript": "javascript"}
REVOKE_KEY = (
    "element.addEventListener('click', e => { const key = e.target.closest('[data-key]');"
    " if (key && confirm(`Revoke ${key.dataset.key}? Programs that use it are refused from then on.`))"
    " trigger('click', {key: key.dataset.key}); })"
)


class State(Protocol):
    """How an endpoint goes; `url` is None while it is off, and ends in /v1. `keyed`: it asks for a key."""

    @property
    def url(self) -> str | None: ...
    @property
    def models(self) -> tuple[str, ...]: ...
    @property
    def ready(self) -> bool: ...
    @property
    def since(self) -> float | None: ...
    @property
    def keyed(self) -> bool: ...
    @property
    def requests(self) -> int: ...
    @property
    def error(self) -> str | None: ...


class Endpoints(Protocol):
    """What the page needs of the server, which it does not import; at most one endpoint runs."""

    def start(self, config: ServeConfig) -> str: ...
    def stop(self) -> None: ...
    def state(self) -> State: ...
    def snippets(self, url: str, model: str) -> dict[str, str]: ...


@dataclass
class EndpointCard:
    models: gr.Dropdown
    settings: dict[str, forms.Widget]
    start: gr.Button
    stop: gr.Button
    status: gr.HTML
    running: gr.Column
    language: gr.Radio
    code: gr.Code
    test: gr.Button
    checks: gr.HTML
    key_name: gr.Textbox
    make_key: gr.Button
    key: gr.Textbox
    keys: gr.HTML

    @property
    def parts(self) -> list[Any]:
        """Everything that `update` may change."""
        return [self.status, self.start, self.stop, self.running, self.code, self.keys]

    def update(self, cursor: Cursor, endpoints: Endpoints, workspace: Workspace, language: object) -> Updates:
        """What has changed since this browser was last told."""
        state = endpoints.state()
        on = state.url is not None
        status, listed = render_endpoint.status(state), render_endpoint.keys(keys.list_keys(workspace))
        name = language if isinstance(language, str) and language in LANGUAGES else next(iter(LANGUAGES))
        code = endpoints.snippets(state.url, state.models[0])[name] if state.url is not None else ""
        new: dict[Any, tuple[object, Any]] = {
            self.status: (status, status),
            self.start: (on, gr.Button(visible=not on)),
            self.stop: (on, gr.Button(visible=on)),
            self.running: (on, gr.Column(visible=on)),
            self.code: ((name, code), gr.Code(code, language=LANGUAGES[name])),  # type: ignore[arg-type]
            self.keys: (listed, listed),
        }
        return {part: value for part, (seen, value) in new.items() if cursor.fresh(f"endpoint-{part._id}", seen)}


def build() -> EndpointCard:
    gr.HTML(section("3", "Endpoint", "the interface of OpenAI, for programs on this machine"))
    models = gr.Dropdown(
        [], value=[], multiselect=True, label="Models to serve", elem_id="serve-models", info="The first by default."
    )
    with gr.Row():
        settings = {name: forms.widget(ServeConfig, name, elem_id=f"serve-{name}", min_width=190) for name in SIMPLE}
    with gr.Accordion("Limits and keys", open=False), gr.Row():
        settings |= {name: forms.widget(ServeConfig, name, elem_id=f"serve-{name}", min_width=190) for name in ADVANCED}
    with gr.Row(elem_classes="pt-buttons"):
        start = gr.Button("Start the endpoint", variant="primary", elem_id="serve-start")
        stop = gr.Button("Stop the endpoint", variant="stop", elem_id="serve-stop", visible=False)
    status = gr.HTML(elem_id="serve-status")
    with gr.Column(visible=False, elem_id="serve-running") as running:
        language = gr.Radio(list(LANGUAGES), value="curl", label="Ask it from", elem_id="serve-language")
        code = gr.Code(
            "", language="shell", elem_id="serve-code", show_label=False, interactive=False, buttons=["copy"]
        )
        with gr.Row(elem_classes="pt-buttons"):
            test = gr.Button("Run the conformance test", elem_id="serve-test", size="sm")
        checks = gr.HTML(elem_id="serve-checks")
    with gr.Accordion("API keys", open=False, elem_id="serve-keys"):
        with gr.Row(elem_classes="pt-bar-row"):
            key_name = gr.Textbox(label="Name of a new key", placeholder="who will use it", elem_id="key-name")
            make_key = gr.Button("Make a key", elem_id="make-key", size="sm", scale=0, min_width=140)
        key = gr.Textbox(
            label="The new key", info="Copy it now: it is never shown again.", elem_id="new-key", visible=False,
            interactive=False, buttons=["copy"],
        )  # fmt: skip
        listed = gr.HTML(elem_id="keys", js_on_load=REVOKE_KEY)
    return EndpointCard(
        models, settings, start, stop, status, running, language, code, test, checks, key_name, make_key, key, listed
    )


@contextmanager
def _key(workspace: Workspace) -> Iterator[str]:
    """A key for one test: those that exist are known by their hashes only."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    try:
        yield keys.make(name, workspace)
    finally:
        keys.revoke(name, workspace)


def connect(card: EndpointCard, endpoints: Endpoints, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    widgets = [card.settings[name] for name in SETTINGS]

    def start(models: list[str], *values: Any) -> Updates:
        if not models:
            raise UserError("Choose a model to serve first.")
        url = endpoints.start(forms.read(ServeConfig, SETTINGS, values, models=models))
        gr.Info(f"The endpoint listens at {url}; it answers as soon as its models are loaded.")
        return {card.checks: ""}

    def stop() -> None:
        endpoints.stop()
        gr.Info("The endpoint was stopped.")

    def test() -> Iterator[str]:
        state = endpoints.state()
        if state.url is None or not state.ready:
            raise UserError("Start the endpoint and wait until its models are loaded.")
        done: list[conformance.Check] = []
        with _key(workspace) if state.keyed else nullcontext() as key:
            for check in conformance.run(state.url, key, state.models[0]):
                done.append(check)
                yield render_endpoint.checks(done)

    def make_key(name: str) -> Updates:
        made = keys.make(name.strip(), workspace)
        return {card.key: gr.Textbox(made, visible=True), card.key_name: ""}

    def revoke(event: gr.EventData) -> None:
        keys.revoke(str(getattr(event, "key", "")), workspace)

    refresh(card.start.click(toasts(start), [card.models, *widgets], card.checks, **ACTION).then)
    refresh(card.stop.click(toasts(stop), None, None, **ACTION).then)
    card.test.click(stepwise(test), None, card.checks, **ACTION)
    refresh(card.make_key.click(toasts(make_key), card.key_name, [card.key, card.key_name], **ACTION).then)
    refresh(card.keys.click(toasts(revoke), None, None, **ACTION).then)
    refresh(card.language.input)
