"""Conversations side by side: who is asked what, from which place on, and which answer is preferred.

A pane's error or slowness leaves the others alone. What an edit, a new answer or a continuation from an earlier
place would lose is kept as a branch.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from phi3tune.config import SamplingConfig
from phi3tune.conversations import Chat
from phi3tune.conversations import Turn as SavedTurn
from phi3tune.errors import UserError
from phi3tune.ui.pane import Pane, Turn

MOST_BRANCHES = 20
Side = Literal["left", "right", "third"]
SIDES: tuple[Side, ...] = ("left", "right", "third")
LETTERS: dict[Side, str] = {"left": "A", "right": "B", "third": "C"}


Turns = dict[Side, list[Turn]]


@dataclass
class Dialogue:
    """All panes of one browser page.

    shown     panes that are open
    branches  other courses that the conversation took; the one at `at` is this one
    editing   the question that the next message replaces: its pane and place
    blind     names are hidden until a vote; `voted` is the choice once it was made
    drawn     in blind mode, which model answers in which pane
    form_of   the pane whose settings the form holds; None where one form is for all
    own       the settings of each pane, where they are not for all
    """

    panes: dict[Side, Pane] = field(default_factory=lambda: {side: Pane() for side in SIDES})
    shown: tuple[Side, ...] = SIDES[:2]
    branches: list[Turns] = field(default_factory=lambda: [{}])
    at: int = 0
    editing: tuple[Side, int] | None = None
    blind: bool = False
    voted: str | None = None
    drawn: dict[Side, str] = field(default_factory=dict)
    form_of: Side | None = None
    own: dict[Side, SamplingConfig] = field(default_factory=dict)

    def settings(self, form: SamplingConfig) -> dict[Side, SamplingConfig]:
        """What each pane is asked with, while the form holds `form`."""
        if self.form_of is None:
            return dict.fromkeys(SIDES, form)
        return {side: self.own.get(side, form) for side in SIDES} | {self.form_of: form}

    def settings_for(self, side: Side | None, form: SamplingConfig) -> SamplingConfig:
        """Turn the form to the settings of one pane, or of all (None); what it is to hold."""
        self.own = self.settings(form)
        self.form_of = side
        return form if side is None else self.own[side]

    @property
    def busy(self) -> bool:
        return any(pane.busy for pane in self.panes.values())

    @property
    def hidden(self) -> bool:
        """Whether nobody is to know yet which model is which."""
        return self.blind and self.voted is None

    @property
    def open(self) -> list[Pane]:
        """Panes that are shown, in order."""
        return [self.panes[side] for side in self.shown]

    @property
    def begun(self) -> bool:
        return any(pane.turns for pane in self.panes.values())

    def ask(
        self, text: str, to: Sequence[Side], models: Mapping[Side, str], configs: Mapping[Side, SamplingConfig]
    ) -> None:
        """Put a question to the models of some panes. It replaces the one that is edited, and all that followed."""
        if not text.strip():
            raise UserError("Write a message first.")
        cut = self._edited()
        if any(self.panes[side].busy for side in (*to, *cut)):
            raise UserError("Wait for the answers, or press Stop.")
        if self.blind and (self.voted is not None or not self.drawn):
            self._draw(models)
            cut = {}
        if cut:
            self.fork()
        for side, place in cut.items():
            self.panes[side].turns = self.panes[side].turns[:place]
        for side in cut or to:
            self.panes[side].ask(text, self.drawn.get(side, models[side]), configs[side])
        self.editing = None

    def _edited(self) -> dict[Side, int]:
        """Where the question that is edited stands, in every pane that was asked it."""
        if self.editing is None:
            return {}
        side, place = self.editing
        return self._same(place, self.panes[side].turns[place].text)

    def _same(self, place: int, text: str) -> dict[Side, int]:
        found = {side: self.panes[side].turns for side in self.shown}
        return {side: place for side, turns in found.items() if place < len(turns) and turns[place].text == text}

    def _draw(self, models: Mapping[Side, str]) -> None:
        """A new blind round: an empty chat, and the chosen models in panes by lot."""
        chosen = [models[side] for side in self.shown]
        if len(set(chosen)) < len(chosen):
            raise UserError("Choose a different model in each pane: a vote between equals says nothing.")
        self.clear()
        random.shuffle(chosen)
        self.drawn = dict(zip(self.shown, chosen, strict=True))

    def again(self, models: Mapping[Side, str], configs: Mapping[Side, SamplingConfig]) -> None:
        """Another answer to the last question of every pane that has one."""
        if self.busy or not any(pane.turns for pane in self.open):
            raise UserError("There is no answer to give again yet.")
        if self.blind and self.voted is not None:
            raise UserError("This round is over: the next message begins a new one.")
        self.fork()
        for side in self.shown:
            if self.panes[side].turns:
                self.panes[side].again(self.drawn.get(side, models[side]), configs[side])

    def go_on_from(self, side: Side, place: int) -> None:
        """Take back what followed the answer at `place`, in every pane that was asked the same there."""
        if self.busy or not self.panes[side].answers(place):
            raise UserError("Wait for the answer, or press Stop.")
        question = self.panes[side].turns[place - 1].text
        self.fork()
        for each in self._same(place - 1, question):
            self.panes[each].turns = self.panes[each].turns[: place + 1]

    def edit(self, side: Side, place: int) -> str:
        """Have the next message replace the question at `place`; its text."""
        turns = self.panes[side].turns
        if self.busy or not 0 <= place < len(turns) or turns[place].role != "user":
            raise UserError("Wait for the answers, or press Stop.")
        self.editing = (side, place)
        return turns[place].text

    def fork(self) -> None:
        """Keep what was said as a branch, and go on in a new one. The oldest of too many are forgotten."""
        self._keep()
        self.branches.append({})
        del self.branches[: max(0, len(self.branches) - MOST_BRANCHES)]
        self.at = len(self.branches) - 1

    def switch(self, to: int) -> None:
        """Show another branch."""
        if self.busy or not 0 <= to < len(self.branches):
            raise UserError("Wait for the answers, or press Stop.")
        self._keep()
        self.at, self.editing = to, None
        for side, turns in self.branches[to].items():
            self.panes[side].turns = list(turns)

    def _keep(self) -> None:
        self.branches[self.at] = {side: list(pane.turns) for side, pane in self.panes.items()}

    def clear(self) -> None:
        """An empty chat in every pane."""
        for pane in self.panes.values():
            pane.clear()
        self.branches, self.at, self.editing, self.voted, self.drawn = [{}], 0, None, None, {}

    def stop(self) -> None:
        for pane in self.panes.values():
            pane.stop()

    def vote(self, choice: str) -> str:
        """Note a vote, by the letter of a pane or another choice, and show the names; the chosen model, or `choice`."""
        if not self.votable:
            raise UserError("A vote needs a finished answer in every pane, in blind mode.")
        by_letter = {LETTERS[side]: model for side, model in self.drawn.items()}
        self.voted = by_letter.get(choice, choice)
        return self.voted

    @property
    def votable(self) -> bool:
        """Whether every pane has a whole answer and no vote was given yet."""
        last = [pane.turns[-1] for pane in self.open if pane.turns]
        whole = all(turn.finish in ("stop", "length") and not turn.error for turn in last)
        return self.hidden and not self.busy and len(last) == len(self.shown) and whole

    def saved(self) -> list[Chat]:
        """The chats of the open panes, as files hold them."""
        return [_saved(pane) for pane in self.open]

    def restore(self, chats: Sequence[Chat]) -> None:
        """Show the chats of a file in place of what is there, which is kept as a branch."""
        if self.begun:
            self.fork()
        for side, pane in self.panes.items():
            place = SIDES.index(side)
            pane.clear()
            pane.turns = [
                Turn(turn.role, turn.text, turn.model, turn.finish or "stop", asked=chats[place].settings)
                for turn in (chats[place].turns if place < len(chats) else [])
            ]
            pane.turns = pane.turns[: len(pane.turns) // 2 * 2]
        if len(chats) > len(self.shown):
            self.shown = SIDES[: len(chats)]
        self.editing, self.blind, self.voted, self.drawn = None, False, None, {}


def _saved(pane: Pane) -> Chat:
    last = pane.turns[-1] if pane.turns else None
    turns = [SavedTurn(role=t.role, text=t.text, model=t.model, finish=t.finish) for t in pane.turns]
    settings = last.asked if last is not None and last.asked is not None else SamplingConfig()
    return Chat(model=last.model if last is not None else "", settings=settings, turns=turns)
