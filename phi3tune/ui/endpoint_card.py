"""An endpoint of this app: start, stop, keys, what to copy, and the test that it behaves as OpenAI's clients expect."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
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
from phi3tune.ui.words import in_browser, t

# The page is one machine's: who may reach it from elsewhere is decided where it is started.
ELSEWHERE = ("models", "host", "api_key_file", "allowed_hosts", "guards")
SIMPLE = forms.fields(ServeConfig, "simple", without=ELSEWHERE)
ADVANCED = forms.fields(ServeConfig, "advanced", without=ELSEWHERE)
SETTINGS = [*SIMPLE, *ADVANCED]
LANGUAGES = {"curl": "shell", "python": "python", "javascript": "javascript"}


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
    def snippets(self, url: str, model: str, asked: Mapping[str, Any] | None = None) -> dict[str, str]: ...


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
    stop_test: gr.Button
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
            self.start: (on, gr.update(visible=not on)),
            self.stop: (on, gr.update(visible=on)),
            self.running: (on, gr.update(visible=on)),
            self.code: ((name, code), gr.update(value=code, language=LANGUAGES[name])),
            self.keys: (listed, listed),
        }
        return {part: value for part, (seen, value) in new.items() if cursor.fresh(f"endpoint-{part._id}", seen)}


def build() -> EndpointCard:
    hint = t("the interface of OpenAI, for programs on this machine: they need only its address")
    gr.HTML(section("3", t("Endpoint"), hint))
    models = gr.Dropdown(
        [],
        value=[],
        multiselect=True,
        label=t("Models to serve"),
        elem_id="serve-models",
        info=t("The first answers programs that name none."),
    )
    with gr.Row(elem_id="serve-settings"):
        settings = {name: forms.widget(ServeConfig, name, elem_id=f"serve-{name}", min_width=190) for name in SIMPLE}
    with gr.Accordion(t("Limits and keys"), open=False, elem_id="serve-limits"), gr.Row():
        settings |= {name: forms.widget(ServeConfig, name, elem_id=f"serve-{name}", min_width=190) for name in ADVANCED}
    with gr.Row(elem_classes="pt-buttons"):
        start = gr.Button(t("Start the endpoint"), variant="primary", elem_id="serve-start")
        stop = gr.Button(t("Stop the endpoint"), variant="stop", elem_id="serve-stop", visible=False)
    status = gr.HTML(elem_id="serve-status")
    with gr.Column(visible=False, elem_id="serve-running") as running:
        names = [("curl", "curl"), ("Python", "python"), ("JavaScript", "javascript")]
        language = gr.Radio(names, value="curl", label=t("Ask it from"), elem_id="serve-language")
        code = gr.Code(
            "", language="shell", elem_id="serve-code", show_label=False, interactive=False, buttons=["copy"]
        )
        gr.HTML(render_endpoint.about_test())
        with gr.Row(elem_classes="pt-buttons"):
            test = gr.Button(t("Run the conformance test"), elem_id="serve-test", size="sm")
            stop_test = gr.Button(t("Stop"), variant="stop", elem_id="serve-test-stop", size="sm", visible=False)
        checks = gr.HTML(elem_id="serve-checks")
    with gr.Accordion(t("API keys"), open=False, elem_id="serve-keys"):
        with gr.Row(elem_classes="pt-bar-row"):
            key_name = gr.Textbox(label=t("Name of a new key"), placeholder=t("who will use it"), elem_id="key-name")
            make_key = gr.Button(t("Make a key"), elem_id="make-key", size="sm", scale=0, min_width=140)
        key = gr.Textbox(
            label=t("The new key"), info=t("Copy it now: it is never shown again."), elem_id="new-key", visible=False,
            interactive=False, buttons=["copy"],
        )  # fmt: skip
        listed = gr.HTML(elem_id="keys", js_on_load=_revoke_key())
    return EndpointCard(
        models, settings, start, stop, status, running, language, code, test, stop_test, checks, key_name, make_key,
        key, listed,
    )  # fmt: skip


def _revoke_key() -> str:
    question = in_browser("Revoke KEY? Programs that use it are refused from then on.")
    return (
        "element.addEventListener('click', e => { const key = e.target.closest('[data-key]');"
        f" if (key && confirm({question}.replace('KEY', key.dataset.key)))"
        " trigger('click', {key: key.dataset.key}); })"
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
            raise UserError(t("Choose a model to serve first."))
        url = endpoints.start(forms.read(ServeConfig, SETTINGS, values, models=models))
        gr.Info(t("The endpoint listens at {url}; it answers as soon as its models are loaded.", url=url))
        return {card.checks: ""}

    def stop() -> None:
        endpoints.stop()
        gr.Info(t("The endpoint was stopped; programs that ask it are refused until you start it again."))

    def test() -> Iterator[Updates]:
        state = endpoints.state()
        if state.url is None or not state.ready:
            raise UserError(t("Start the endpoint and wait until its models are loaded."))
        done: list[conformance.Check] = []
        yield {card.checks: render_endpoint.checks(done), card.stop_test: gr.Button(visible=True)}
        with _key(workspace) if state.keyed else nullcontext() as key:
            for check in conformance.run(state.url, key, state.models[0]):
                done.append(check)
                yield {card.checks: render_endpoint.checks(done)}
        yield {card.stop_test: gr.Button(visible=False)}

    def stop_test() -> Updates:
        gr.Info(t("The test was stopped; press Run the conformance test to start it again."))
        return {card.checks: "", card.stop_test: gr.Button(visible=False)}

    def make_key(name: str) -> Updates:
        made = keys.make(name.strip(), workspace)
        return {card.key: gr.Textbox(made, visible=True), card.key_name: ""}

    def revoke(event: gr.EventData) -> None:
        keys.revoke(str(getattr(event, "key", "")), workspace)

    refresh(card.start.click(toasts(start), [card.models, *widgets], card.checks, **ACTION).then)
    refresh(card.stop.click(toasts(stop), None, None, **ACTION).then)
    testing = card.test.click(stepwise(test), None, [card.checks, card.stop_test], **ACTION)
    card.stop_test.click(stop_test, None, [card.checks, card.stop_test], cancels=[testing], **ACTION)
    refresh(card.make_key.click(toasts(make_key), card.key_name, [card.key, card.key_name], **ACTION).then)
    refresh(card.keys.click(toasts(revoke), None, None, **ACTION).then)
    refresh(card.language.input)
