"""Conversations as files, and the one in hand kept in the visitor's own browser, so that a reload loses nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.blocks import Block

from phi3tune import conversations
from phi3tune.errors import UserError
from phi3tune.ui.dialogue import WAIT, Dialogue
from phi3tune.ui.download import Download
from phi3tune.ui.wire import ACTION, POLL, Updates, toasts
from phi3tune.ui.words import t

KEPT_BYTES = 1_000_000  # browsers keep about 5 MB for a site
KEY = "phi3tune.conversation"


@dataclass
class FilesCard:
    download: Download
    upload: gr.UploadButton
    kept: gr.BrowserState

    def keep(self, said: Dialogue) -> Updates:
        """What the browser is to remember of a dialogue, with its branches as far as there is room: nothing while
        names are hidden, or of chats that are too long."""
        text = "" if said.hidden or not said.begun else conversations.to_json(said.saved(), KEPT_BYTES)
        return {self.kept: text if len(text.encode()) <= KEPT_BYTES else ""}


def build() -> FilesCard:
    download = Download.build(t("Export chat"), "chat-export")
    upload = gr.UploadButton(t("Import chat"), file_types=[".json"], size="sm", elem_id="chat-import")
    return FilesCard(download, upload, gr.BrowserState("", storage_key=KEY, secret=KEY))


def connect(
    card: FilesCard,
    said: gr.State,
    show: Callable[[Dialogue], Updates],
    shown: list[Block],
    opened: Callable[..., object],
) -> None:
    """`show` gives everything of a dialogue and `shown` are its parts; `opened` attaches to the page's opening."""

    def export(dialogue: Dialogue) -> str:
        if not dialogue.begun or dialogue.hidden:
            raise UserError(t("There is no chat to export yet, or its models are still hidden."))
        path = Path(tempfile.mkdtemp(prefix="phi3tune-chat-")) / f"chat-{time.strftime('%Y%m%d-%H%M%S')}.json"
        conversations.write(path, dialogue.saved())
        return str(path)

    def import_chat(dialogue: Dialogue, path: str) -> Updates:
        if dialogue.busy:
            raise UserError(t(WAIT))
        dialogue.restore(conversations.read(Path(path)))
        return {**show(dialogue), **card.keep(dialogue)}

    def restore(dialogue: Dialogue, kept: object) -> Updates:
        """What this browser remembers; what it cannot be read from any more is forgotten."""
        try:
            if isinstance(kept, str) and kept and not dialogue.begun:
                dialogue.restore(conversations.from_json(kept))
        except UserError:
            return {card.kept: ""}
        return show(dialogue)

    card.download.connect(export, said)
    card.upload.upload(toasts(import_chat), [said, card.upload], [*shown, card.kept], **ACTION)
    opened(restore, [said, card.kept], [*shown, card.kept], **POLL)
