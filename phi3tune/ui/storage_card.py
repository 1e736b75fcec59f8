"""How much room the workspace takes, by kind, and what of it can be cleaned: opened from the header."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune import housekeeping
from phi3tune.housekeeping import Room
from phi3tune.paths import Workspace
from phi3tune.ui.render import Column, duration, notice, section, size, table
from phi3tune.ui.wire import ACTION, POLL, Updates, stepwise
from phi3tune.ui.words import N, in_browser, t
from phi3tune.ui.work import Report, Work

# Kind -> (name, what it is).
KINDS = {
    "runs": (N("Runs"), N("settings, adapters, and the checkpoints that are needed to go on")),
    "builds": (N("Builds"), N("exported models")),
    "datasets": (N("Datasets"), N("what was uploaded or fetched, and the versions made of it")),
    "reports": (N("Reports"), N("comparisons with every answer")),
    "other": (N("Other"), N("chats, databases, logs")),
    "checkpoints": (N("Earlier checkpoints"), N("of finished runs, all but the last of each; nothing needs them")),
    "trash": (N("Trash"), N("what was deleted on this page")),
    "leftovers": (N("Leftovers"), N("temporary files of work that was interrupted")),
    "models": (N("Models of the Hub"), N("outside of the workspace; other programs may use them too")),
}
BUTTONS = {
    "trash": N("Empty the trash ({size})"),
    "checkpoints": N("Delete earlier checkpoints ({size})"),
    "leftovers": N("Clear leftovers ({size})"),
}


@dataclass
class StorageCard:
    panel: gr.Column
    sizes: gr.HTML
    clean: dict[str, gr.Button]
    close: gr.Button


def build() -> StorageCard:
    with gr.Column(visible=False, elem_id="storage", elem_classes="pt-card") as panel:
        with gr.Row(elem_classes="pt-bar-row"):
            gr.HTML(section("", t("Storage"), t("what the workspace holds, and what of it can go")))
            close = gr.Button(t("Close"), size="sm", scale=0, min_width=90, elem_id="storage-close")
        sizes = gr.HTML(elem_id="storage-sizes", min_height=180)
        with gr.Row(elem_classes="pt-buttons"):
            clean = {
                kind: gr.Button(
                    t(text, size="–"), variant="stop", size="sm", interactive=False, elem_id=f"storage-{kind}"
                )
                for kind, text in BUTTONS.items()
            }
    return StorageCard(panel, sizes, clean, close)


def sizes(room: Room) -> str:
    """What takes how much, as a table."""
    columns = [Column(t("Kind")), Column(t("Size"), numeric=True), Column(t("What it is"), wide=True)]
    held = [(name, getattr(room, kind), meaning) for kind, (name, meaning) in KINDS.items()]
    rows = [[t(name), size(count), t(meaning)] for name, count, meaning in held if count is not None]
    caption = t("{size} in the workspace, {free} free on its disk", size=size(room.total), free=size(room.free))
    return table(columns, rows, caption=caption)


def connect(card: StorageCard, opener: gr.Button, refresh: Callable[[Any], None], workspace: Workspace) -> None:
    outputs = [card.sizes, *card.clean.values()]

    def measure() -> Iterator[Updates]:
        here = workspace.here()
        measuring: Work[Room] = Work(lambda _: housekeeping.measure(here))
        for seconds, _ in measuring:
            yield {card.sizes: notice("info", t("Looking at every file: {time} so far.", time=duration(seconds)))}
        room = measuring.result
        yield {card.sizes: sizes(room)} | {
            button: gr.Button(t(BUTTONS[kind], size=size(getattr(room, kind))), interactive=getattr(room, kind) > 0)
            for kind, button in card.clean.items()
        }

    def cleaner(kind: str) -> Callable[[str | None], Iterator[Updates]]:
        def clean(confirmed: str | None) -> Iterator[Updates]:
            if not confirmed:
                yield {card.sizes: gr.skip()}
                return
            here = workspace.here()

            def delete(_: Report) -> int:
                return housekeeping.CLEANERS[kind](here)

            cleaning = Work(delete)
            for seconds, _ in cleaning:
                yield {card.sizes: notice("info", t("Deleting: {time} so far.", time=duration(seconds)))}
            gr.Info(t("{size} freed.", size=size(cleaning.result)))
            yield from measure()

        return clean

    # In the browser alone: it answers at once, however busy the machine is.
    visible = "() => ({{__type__: 'update', visible: {}}})"
    opened = opener.click(None, None, card.panel, js=visible.format("true"), **POLL)
    opened.then(stepwise(measure), None, outputs, **ACTION)
    card.close.click(None, None, card.panel, js=visible.format("false"), **POLL)
    question = in_browser("Delete this for good? It cannot be brought back.")
    for kind, button in card.clean.items():
        confirm = f"shown => confirm({question}) ? (shown || ' ') : ''"
        refresh(button.click(stepwise(cleaner(kind)), card.sizes, outputs, js=confirm, **ACTION).then)
