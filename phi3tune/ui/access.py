"""A model from the Hub: whether it may be had and what that takes, before anything is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from phi3tune import hosted, jobs
from phi3tune.config import DownloadConfig, HostedConfig, parse
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import forms
from phi3tune.ui.render import duration, esc, facts, notice, size
from phi3tune.ui.wire import ACTION, Updates, stepwise, toasts
from phi3tune.ui.words import N, t, told
from phi3tune.ui.work import Report, Work

if TYPE_CHECKING:
    from phi3tune.engines.hub_models import Access

TOKEN = "HF_TOKEN"
# (private, gated) -> what is said of a model.
CLOSED = {
    (True, False): N("{name} is private."),
    (False, True): N("{name} is gated: its owner asks for consent on the Hub first."),
    (True, True): N("{name} is private and gated."),
}


@dataclass
class AccessCard:
    hub_id: gr.Textbox
    revision: forms.Widget
    token: gr.Textbox | None
    check: gr.Button
    download: gr.Button
    status: gr.HTML


def build(rules: HostedConfig | None) -> AccessCard | None:
    """Models of the Hub; visitors of a hosted app only those that its owner lists, and never with a token."""
    if rules is not None and not rules.models:
        return None
    with gr.Accordion(t("A model from the Hub"), open=False, elem_id="access"):
        with gr.Row():
            hub_id = gr.Textbox(
                label=t("Hub id"),
                info=t("Owner and name of a Phi-3 model.")
                if rules is None
                else t("These may be used here: {names}.", names=", ".join(rules.models)),
                placeholder="microsoft/Phi-3-mini-4k-instruct",
                elem_id="hub-model",
                min_width=190,
            )
            revision = forms.widget(DownloadConfig, "revision", elem_id="hub-revision", min_width=190)
            token = _token() if rules is None else None
        with gr.Row(elem_classes="pt-buttons"):
            check = gr.Button(t("Check access"), size="sm", elem_id="hub-check")
            download = gr.Button(t("Download and use it"), size="sm", elem_id="hub-download")
        status = gr.HTML(elem_id="hub-status")
    return AccessCard(hub_id, revision, token, check, download, status)


def _token() -> gr.Textbox:
    return gr.Textbox(
        label=t("Access token"),
        info=t("Only for gated and private models. Kept in memory for this download, never written down."),
        placeholder=t("may stay empty"),
        type="password",
        elem_id="hub-token",
        min_width=190,
    )


def facts_of(found: Access) -> str:
    """What the Hub says of a model, and what a download would take."""
    figures = [
        (size(found.bytes_total), t("on the Hub")),
        (size(found.bytes_to_download) if found.bytes_to_download else t("all here"), t("to download")),
        (size(found.disk_free), t("free on the disk")),
        (found.license or t("not told"), t("licence")),
        (found.commit[:8], t("commit")),
    ]
    kind = CLOSED.get((bool(found.private), bool(found.gated)))
    line = f'<p class="pt-sub">{esc(t(kind, name=found.hub_id))}</p>' if kind else ""
    bad = "".join(notice("bad", told(problem)) for problem in found.problems)
    return facts(figures) + line + (bad or notice("good", t("It can be used."), t("Press Download and use it.")))


def connect(
    card: AccessCard, model: gr.Dropdown, revision: forms.Widget, refresh: Callable[[Any], None], workspace: Workspace
) -> None:
    """`model` and `revision` are the form's, set to what is downloaded."""
    given = [card.hub_id, card.revision, *([card.token] if card.token is not None else [])]

    def check(hub_id: str, of: str, token: str = "") -> Iterator[str]:
        name, here = _hub_id(hub_id), workspace.here()

        def examine(_: Report) -> Access:
            from phi3tune.engines import hub_models

            hosted.check_hub_model(name, here)
            return hub_models.examine(name, of.strip() or None, token.strip() or None)

        asking = Work(examine)
        for seconds, _ in asking:
            yield notice("info", t("Asking the Hub: {time} so far.", time=duration(seconds)))
        yield facts_of(asking.result)

    def download(hub_id: str, of: str, token: str = "") -> Updates:
        config = parse(DownloadConfig, {"model": _hub_id(hub_id), "revision": of.strip() or None})
        secrets = {TOKEN: token.strip()} if token.strip() else None
        jobs.submit("download", config, workspace, secrets=secrets)
        gr.Info(t("{name} is being downloaded; the line above the tabs tells how far it is.", name=config.model))
        return {model: config.model, revision: config.revision or ""}

    card.check.click(stepwise(check), given, card.status, **ACTION)
    refresh(card.download.click(toasts(download), given, [model, revision], **ACTION).then)


def _hub_id(text: str) -> str:
    if text.count("/") != 1:
        raise UserError(t("Write the Hub id as owner/name, such as microsoft/Phi-3-mini-4k-instruct."))
    return text.strip()
