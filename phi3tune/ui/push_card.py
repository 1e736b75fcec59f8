"""A build to the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune import builds, events
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui.render import bar, esc, notice, size
from phi3tune.ui.wire import ACTION, Updates, stepwise
from phi3tune.ui.words import t, told
from phi3tune.ui.work import Report, Work


@dataclass
class PushCard:
    hub_id: gr.Textbox
    private: gr.Checkbox
    token: gr.Textbox
    send: gr.Button
    stop: gr.Button
    status: gr.HTML


def build() -> PushCard:
    with gr.Accordion(t("Publish it on the Hugging Face Hub"), open=False, elem_id="push"):
        with gr.Row():
            hub_id = gr.Textbox(
                label=t("Hub id"),
                info=t("Owner and name; made where it is not. Of an earlier upload, what this build lacks is deleted."),
                placeholder="you/lamp-int4",
                elem_id="push-id",
            )
            token = gr.Textbox(
                label=t("Access token"),
                info=t("With the right to write. Kept in memory for this upload, never written down."),
                placeholder=t("empty takes that of the environment"),
                type="password",
                elem_id="push-token",
            )
            private = gr.Checkbox(
                True, label=t("Private"), info=t("Only you and your organisation see it."), elem_id="push-private"
            )
        with gr.Row(elem_classes="pt-buttons"):
            send = gr.Button(t("Publish"), size="sm", elem_id="push-send")
            stop = gr.Button(t("Stop"), variant="stop", size="sm", elem_id="push-stop", visible=False)
        status = gr.HTML(elem_id="push-status")
    return PushCard(hub_id, private, token, send, stop, status)


class _Reporter:
    """What an upload tells, as `(phase, progress)`. An upload that nobody waits for ends when it tells the next."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._phase, self._progress = "", events.Progress(done=0, total=0)

    def emit(self, event: events.Event) -> None:
        if isinstance(event, events.Phase):
            self._phase = event.name
        elif isinstance(event, events.Progress):
            self._progress = event
        self._report((self._phase, self._progress))

    def stop_requested(self) -> bool:
        self._report((self._phase, self._progress))
        return False


def connect(card: PushCard, chosen: gr.Dropdown, workspace: Workspace) -> None:
    def send(name: object, hub_id: str, private: bool, token: str) -> Iterator[Updates]:
        from phi3tune.export.push import push

        if not isinstance(name, str) or not name:
            raise UserError(t("Choose a build first."))
        here = workspace.here()
        ref = models.resolve(builds.find(name, here).ref, here, download=False)
        repo, given = hub_id.strip(), token.strip() or None
        upload = Work(lambda report: push(ref, repo, here, _Reporter(report), private=private, token=given))
        yield {card.stop: gr.Button(visible=True), card.status: _line("", events.Progress(done=0, total=0))}
        try:
            for _, so_far in upload:
                if so_far is not None:
                    yield {card.status: _line(*so_far)}
            result = upload.result or {}
        except UserError as error:
            yield {card.stop: gr.Button(visible=False), card.status: notice("bad", told(error))}
            return
        text = t("Published at {url}.", url=result.get("url"))
        yield {card.stop: gr.Button(visible=False), card.status: notice("good", text, _sent(result))}

    def stop() -> Updates:
        text = notice("info", t("The upload was stopped; nothing was published."), t("Press Publish to try again."))
        return {card.stop: gr.Button(visible=False), card.status: text}

    inputs = [chosen, card.hub_id, card.private, card.token]
    sending = card.send.click(stepwise(send), inputs, [card.stop, card.status], **ACTION)
    card.stop.click(stop, None, [card.stop, card.status], cancels=[sending], **{**ACTION, "queue": False})


def _sent(result: dict[str, Any]) -> str:
    sent, deleted = size(int(result.get("bytes", 0))), result.get("deleted")
    if not deleted:
        return t("{size} were sent.", size=sent)
    return t("{size} were sent, and {files} of an earlier upload deleted.", size=sent, files=", ".join(deleted))


def _line(phase: str, progress: events.Progress) -> str:
    share = progress.done / progress.total if progress.total else 0.0
    parts = [told(phase) if phase else t("starting")]
    if progress.total:
        parts.append(t("{n} of {total}", n=size(progress.done), total=size(progress.total)))
    return bar(share, t("progress of the upload")) + f'<p class="pt-line">{esc(" · ".join(parts))}</p>'
