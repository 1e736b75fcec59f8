"""A model from the Hub: whether it may be had and what that takes, before anything is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from phi3tune import jobs
from phi3tune.config import DownloadConfig, parse
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import forms
from phi3tune.ui.render import esc, facts, notice, size
from phi3tune.ui.wire import ACTION, Updates, toasts

if TYPE_CHECKING:
    from phi3tune.engines.hub_models import Access

TOKEN = "HF_TOKEN"


@dataclass
class AccessCard:
    hub_id: gr.Textbox
    revision: forms.Widget
    token: gr.Textbox
    check: gr.Button
    download: gr.Button
    status: gr.HTML


def build() -> AccessCard:
    with gr.Accordion("A model from the Hub", open=False, elem_id="access"):
        with gr.Row():
            hub_id = gr.Textbox(
                label="Hub id",
                info="Owner and name of a Phi-3 model.",
                placeholder="microsoft/Phi-3-mini-4k-instruct",
                elem_id="hub-model",
                min_width=190,
            )
            revision = forms.widget(DownloadConfig, "revision", elem_id="hub-revision", min_width=190)
            token = gr.Textbox(
                label="Access token",
                info="Only for gated and private models. Kept in memory for this download, never written down.",
                placeholder="may stay empty",
                type="password",
                elem_id="hub-token",
                min_width=190,
            )
        with gr.Row(elem_classes="pt-buttons"):
            check = gr.Button("Check access", size="sm", elem_id="hub-check")
            download = gr.Button("Download and use it", size="sm", elem_id="hub-download")
        status = gr.HTML(elem_id="hub-status")
    return AccessCard(hub_id, revision, token, check, download, status)


def facts_of(found: Access) -> str:
    """What the Hub says of a model, and what a download would take."""
    figures = [
        (size(found.bytes_total), "on the Hub"),
        (size(found.bytes_to_download) if found.bytes_to_download else "all here", "to download"),
        (size(found.disk_free), "free on the disk"),
        (found.license or "not told", "licence"),
        (found.commit[:8], "commit"),
    ]
    names = [name for name, is_so in (("private", found.private), ("gated", found.gated)) if is_so]
    line = f'<p class="pt-sub">{esc(found.hub_id)} is {esc(" and ".join(names))}.</p>' if names else ""
    bad = "".join(notice("bad", problem) for problem in found.problems)
    return facts(figures) + line + (bad or notice("good", "It can be used."))


def connect(
    card: AccessCard, model: gr.Dropdown, revision: forms.Widget, refresh: Callable[[Any], None], workspace: Workspace
) -> None:
    """`model` and `revision` are the form's, set to what is downloaded."""
    given = [card.hub_id, card.revision, card.token]

    def check(hub_id: str, of: str, token: str) -> str:
        from phi3tune.engines import hub_models

        return facts_of(hub_models.examine(_hub_id(hub_id), of.strip() or None, token.strip() or None))

    def download(hub_id: str, of: str, token: str) -> Updates:
        config = parse(DownloadConfig, {"model": _hub_id(hub_id), "revision": of.strip() or None})
        secrets = {TOKEN: token.strip()} if token.strip() else None
        jobs.submit("download", config, workspace, secrets=secrets)
        gr.Info(f"{config.model} is being downloaded; the line above the tabs tells how far it is.")
        return {model: config.model, revision: config.revision or ""}

    card.check.click(toasts(check), given, card.status, **{**ACTION, "show_progress": "minimal"})
    refresh(card.download.click(toasts(download), given, [model, revision], **ACTION).then)


def _hub_id(text: str) -> str:
    if text.count("/") != 1:
        raise UserError("Write the Hub id as owner/name, such as microsoft/Phi-3-mini-4k-instruct.")
    return text.strip()
