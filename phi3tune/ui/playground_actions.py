"""What a person can do in the playground: each of these changes the dialogue, and tells what is to be shown anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from phi3tune import votes
from phi3tune.config import SamplingConfig
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.ui import pane, playground_engines, playground_settings, render_chat, render_votes
from phi3tune.ui.dialogue import SIDES, Dialogue, Side
from phi3tune.ui.wire import Updates
from phi3tune.ui.words import N, t

if TYPE_CHECKING:
    from phi3tune.ui.playground import PlaygroundTab


MISSING: dict[Side, str] = {
    "left": N("Choose a model for the left pane first."),
    "right": N("Choose a model for the right pane first."),
    "third": N("Choose a model for the third pane first."),
}
LONGEST_EXAMPLE = 2_000


class Actions:
    """What a person can do, over one browser's dialogue."""

    def __init__(self, tab: PlaygroundTab, workspace: Workspace) -> None:
        self.tab, self.workspace = tab, workspace

    def given(self, said: Dialogue, values: Sequence[Any]) -> tuple[dict[Side, str], dict[Side, SamplingConfig]]:
        """The chosen model and the settings of each pane, from the pickers and the form. `UserError` for mistakes."""
        chosen = {side: str(value or "") for side, value in zip(SIDES, values, strict=False)}
        if missing := next((side for side in said.shown if not chosen[side].strip()), None):
            raise UserError(t(MISSING[missing]))
        return chosen, said.settings(playground_settings.read(values[len(SIDES) :]))

    def ask(self, said: Dialogue, text: str, to: object, *values: Any) -> Updates:
        side = playground_settings.side_of(to)
        said.ask(text, [side] if side in said.shown and not said.blind else said.shown, *self.given(said, values))
        return {**self.tab.show(said), self.tab.composer: ""}

    def example(self, event: gr.EventData) -> str:
        """The question of an example's button, for the composer."""
        return str(getattr(event, "place", ""))[:LONGEST_EXAMPLE]

    def again(self, said: Dialogue, *values: Any) -> Updates:
        said.again(*self.given(said, values))
        return self.tab.show(said)

    def answer(
        self, side: Side, said: Dialogue, in_turn: object, guards: object = None, key: object = None
    ) -> Iterator[Updates]:
        """Fill the open answers: that of one pane, or for a fair speed all of them by the first."""
        for each in SIDES if in_turn else [side]:
            of = said.panes[each]
            if not of.take():
                continue
            stream = playground_engines.stream_of(of, guards, str(key or ""), self.workspace)
            for _ in pane.answer(of, stream):
                yield self.tab.show_side(said, each)

    def ended(self, said: Dialogue) -> Updates:
        """What is to be shown when no answer is open any more."""
        if said.busy:
            return {self.tab.bar: gr.skip()}
        for done in said.open:
            playground_engines.add_engine(done, self.workspace)
        return {**self.tab.show(said), **self.tab.files.keep(said)}

    def stop(self, said: Dialogue) -> Updates:
        said.stop()
        return self.tab.show(said)

    def clear(self, said: Dialogue) -> Updates:
        said.clear()
        closed = {self.tab.row.box: gr.Column(visible=False), self.tab.detail: ""}
        return {**self.tab.show(said), **self.tab.files.keep(said), **closed}

    def open_third(self, said: Dialogue, wanted: bool) -> Updates:
        if said.busy or (said.blind and said.begun):
            gr.Warning(t("Stop or clear the chat first."))
        else:
            said.shown = SIDES if wanted else SIDES[:2]
            said.form_of = said.form_of if said.form_of in said.shown else None
        return {**self.tab.laid_out(said), **self.tab.show(said)}

    def hide_names(self, said: Dialogue, wanted: bool) -> Updates:
        if said.busy or (wanted and said.begun):
            gr.Warning(t("Clear the chat first: blind mode begins with an empty one."))
        else:
            said.hide(wanted)
        tally = render_votes.tally(votes.tally(self.workspace))
        return {**self.tab.laid_out(said), **self.tab.show(said), self.tab.tally: tally}

    def pressed(self, side: Side, said: Dialogue, event: gr.EventData) -> Updates:
        """One of the buttons in the panes and below them."""
        name, place = getattr(event, "act", None), getattr(event, "place", None)
        number = int(place) if isinstance(place, str) and place.isdecimal() and len(place) < 9 else -1
        acts: Mapping[Any, Callable[[], Updates]] = {
            "edit": lambda: {self.tab.composer: said.edit(side, number)},
            "cancel-edit": lambda: self._cancel(said),
            "continue": lambda: self._continue(said, side, number),
            "branch": lambda: self._branch(said, number),
            "prompt": lambda: {self.tab.detail: self._prompt(said, side, number)},
            "correct": lambda: self.tab.row.opened(said, side, number, self.workspace),
            "vote": lambda: self._vote(said, str(place)),
        }
        if name not in acts:
            raise UserError(t("That cannot be done here."))
        changed = acts[name]()
        return {**self.tab.show(said), **changed}

    def _continue(self, said: Dialogue, side: Side, place: int) -> Updates:
        said.go_on_from(side, place)
        return self.tab.files.keep(said)

    def _branch(self, said: Dialogue, to: int) -> Updates:
        said.switch(to)
        return self.tab.files.keep(said)

    def _cancel(self, said: Dialogue) -> Updates:
        said.editing = None
        return {self.tab.composer: ""}

    def _prompt(self, said: Dialogue, side: Side, place: int) -> str:
        if said.hidden:
            raise UserError(t("The names are hidden until you vote, and a prompt would tell them."))
        return playground_engines.prompt_of(said.panes[side], place, self.workspace)

    def _vote(self, said: Dialogue, choice: str) -> Updates:
        best, names = said.vote(choice), [pane.turns[-1].model for pane in said.open]
        votes.add(names, best, self.workspace, named=not said.blind)
        found = votes.tally(self.workspace)
        comparison, _ = render_chat.parting(said)
        line = ""
        if len(names) == 2:
            line = render_votes.sentence(found, *sorted(names, key=lambda name: (name != best, name)))
        return {
            self.tab.bar: render_chat.between(said, comparison, line),
            self.tab.tally: render_votes.tally(found),
            **self.tab.files.keep(said),
        }
