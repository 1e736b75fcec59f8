"""A build to the Hugging Face Hub."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune import builds, events
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui.render import bar, esc, notice, size
from phi3tune.ui.wire import ACTION, stepwise

LOOK_SECONDS = 0.5


@dataclass
class PushCard:
    hub_id: gr.Textbox
    private: gr.Checkbox
    token: gr.Textbox
    send: gr.Button
    status: gr.HTML


def build() -> PushCard:
    with gr.Accordion("Publish it on the Hugging Face Hub", open=False, elem_id="push"):
        with gr.Row():
            hub_id = gr.Textbox(
                label="Hub id",
                info="Owner and name; made where it is not.",
                placeholder="you/lamp-int4",
                elem_id="push-id",
            )
            token = gr.Textbox(
                label="Access token",
                info="With the right to write. Kept in memory for this upload, never written down.",
                placeholder="empty takes that of the environment",
                type="password",
                elem_id="push-token",
            )
            private = gr.Checkbox(
                True, label="Private", info="Only you and your organisation see it.", elem_id="push-private"
            )
        with gr.Row(elem_classes="pt-buttons"):
            send = gr.Button("Publish", size="sm", elem_id="push-send")
        status = gr.HTML(elem_id="push-status")
    return PushCard(hub_id, private, token, send, status)


class _Upload(threading.Thread):
    """One upload beside the page, as a reporter of its own."""

    def __init__(self, work: Callable[[events.Reporter], dict[str, Any] | None]) -> None:
        super().__init__(daemon=True, name="push")
        self._work = work
        self.phase, self.progress = "", events.Progress(done=0, total=0)
        self.result: dict[str, Any] | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.result = self._work(self)
        except Exception as error:
            self.error = error

    def emit(self, event: events.Event) -> None:
        if isinstance(event, events.Phase):
            self.phase = event.name
        elif isinstance(event, events.Progress):
            self.progress = event

    def stop_requested(self) -> bool:
        return False


def connect(card: PushCard, chosen: gr.Dropdown, workspace: Workspace) -> None:
    def send(name: object, hub_id: str, private: bool, token: str) -> Iterator[str]:
        from phi3tune.export.push import push

        if not isinstance(name, str) or not name:
            raise UserError("Choose a build first.")
        ref = models.resolve(builds.find(name, workspace).ref, workspace, download=False)
        given = token.strip() or None
        upload = _Upload(lambda reporter: push(ref, hub_id.strip(), workspace, reporter, private=private, token=given))
        upload.start()
        while upload.is_alive():
            upload.join(LOOK_SECONDS)
            yield _line(upload)
        if upload.error is not None:
            raise upload.error
        result = upload.result or {}
        yield notice("good", f"Published at {result.get('url')}.", f"{size(int(result.get('bytes', 0)))} were sent.")

    inputs = [chosen, card.hub_id, card.private, card.token]
    card.send.click(stepwise(send), inputs, card.status, **ACTION)


def _line(upload: _Upload) -> str:
    done, total = upload.progress.done, upload.progress.total
    share = done / total if total else 0.0
    figures = f" · {size(done)} of {size(total)}" if total else ""
    return (
        bar(share, "progress of the upload") + f'<p class="pt-line">{esc((upload.phase or "starting") + figures)}</p>'
    )
