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
from phi3tune.conversations import Conversation
from phi3tune.errors import UserError
from phi3tune.ui.dialogue import Dialogue
from phi3tune.ui.download import Download
from phi3tune.ui.wire import ACTION, POLL, Updates, toasts

KEPT_BYTES = 1_000_000  # browsers keep about 5 MB for a site
KEY = "phi3tune.conversation"


@dataclass
class FilesCard:
    download: Download
    upload: gr.UploadButton
    kept: gr.BrowserState

    def keep(self, said: Dialogue) -> Updates:
        """What the browser is to remember of a dialogue: nothing while names are hidden, or of one that is too long."""
        text = "" if said.hidden or not said.begun else conversations.to_json(Conversation(chats=said.saved()))
        return {self.kept: text if len(text.encode()) <= KEPT_BYTES else ""}


def build() -> FilesCard:
    with gr.Row(elem_classes="pt-buttons"):
        download = Download.build("Export chat", "chat-export")
        upload = gr.UploadButton("Import chat", file_types=[".json"], size="sm", elem_id="chat-import")
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
            raise UserError("There is no chat to export yet, or its models are still hidden.")
        path = Path(tempfile.mkdtemp(prefix="phi3tune-chat-")) / f"chat-{time.strftime('%Y%m%d-%H%M%S')}.json"
        conversations.write(path, Conversation(chats=dialogue.saved()))
        return str(path)

    def import_chat(dialogue: Dialogue, path: str) -> Updates:
        if dialogue.busy:
            raise UserError("Wait for the answers, or press Stop.")
        dialogue.restore(conversations.read(Path(path)).chats)
        return {**show(dialogue), **card.keep(dialogue)}

    def restore(dialogue: Dialogue, kept: object) -> Updates:
        """What this browser remembers; what it cannot be read from any more is forgotten."""
        try:
            if isinstance(kept, str) and kept and not dialogue.begun:
                dialogue.restore(conversations.from_json(kept).chats)
        except UserError:
            return {card.kept: ""}
        return show(dialogue)

    card.download.connect(export, said)
    card.upload.upload(toasts(import_chat), [said, card.upload], [*shown, card.kept], **ACTION)
    opened(restore, [said, card.kept], [*shown, card.kept], **POLL)
