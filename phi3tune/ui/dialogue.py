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
from phi3tune.conversations import MAX_BRANCHES, Chat, Conversation
from phi3tune.conversations import Turn as SavedTurn
from phi3tune.errors import UserError
from phi3tune.ui.pane import Pane, Turn
from phi3tune.ui.words import N, t
from phi3tune.votes import BAD, TIE

Side = Literal["left", "right", "third"]
SIDES: tuple[Side, ...] = ("left", "right", "third")
LETTERS: dict[Side, str] = {"left": "A", "right": "B", "third": "C"}
WAIT = N("Wait for the answers, or press Stop.")


Turns = dict[Side, list[Turn]]


@dataclass
class Dialogue:
    """All panes of one browser page.

    shown     panes that are open
    branches  other courses that the conversation took; the one at `at` is this one
    editing   the question that the next message replaces: its pane and place
    blind     names are hidden until a vote, which makes them `revealed`
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
    revealed: bool = False
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
    def voted(self) -> str:
        """What was voted on the last answers: a model, or another choice; nothing before."""
        return next((turn.vote for turn in self._last if turn.vote), "")

    @property
    def hidden(self) -> bool:
        """Whether nobody is to know yet which model is which."""
        return self.blind and not self.revealed

    @property
    def open(self) -> list[Pane]:
        """Panes that are shown, in order."""
        return [self.panes[side] for side in self.shown]

    @property
    def _last(self) -> list[Turn]:
        """The last answer of every open pane that has one."""
        return [pane.turns[-1] for pane in self.open if pane.turns]

    @property
    def begun(self) -> bool:
        return any(pane.turns for pane in self.panes.values())

    def ask(
        self, text: str, to: Sequence[Side], models: Mapping[Side, str], configs: Mapping[Side, SamplingConfig]
    ) -> None:
        """Put a question to the models of some panes. It replaces the one that is edited, and all that followed."""
        if not text.strip():
            raise UserError(t("Write a message first."))
        cut = self._edited()
        if any(self.panes[side].busy for side in (*to, *cut)):
            raise UserError(t(WAIT))
        if self.blind and (self.revealed or not self.drawn):
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
            raise UserError(t("Choose a different model in each pane: a vote between equals says nothing."))
        self.clear()
        random.shuffle(chosen)
        self.drawn = dict(zip(self.shown, chosen, strict=True))

    def again(self, models: Mapping[Side, str], configs: Mapping[Side, SamplingConfig]) -> None:
        """Another answer to the last question of every pane that has one."""
        if self.busy or not any(pane.turns for pane in self.open):
            raise UserError(t("There is no answer to give again yet."))
        if self.blind and self.revealed:
            raise UserError(t("This round is over: the next message begins a new one."))
        self.fork()
        for side in self.shown:
            if self.panes[side].turns:
                self.panes[side].again(self.drawn.get(side, models[side]), configs[side])

    def go_on_from(self, side: Side, place: int) -> None:
        """Take back what followed the answer at `place`, in every pane that was asked the same there."""
        if self.busy or not self.panes[side].answers(place):
            raise UserError(t(WAIT))
        question = self.panes[side].turns[place - 1].text
        self.fork()
        for each in self._same(place - 1, question):
            self.panes[each].turns = self.panes[each].turns[: place + 1]

    def edit(self, side: Side, place: int) -> str:
        """Have the next message replace the question at `place`; its text."""
        turns = self.panes[side].turns
        if self.busy or not 0 <= place < len(turns) or turns[place].role != "user":
            raise UserError(t(WAIT))
        self.editing = (side, place)
        return turns[place].text

    def fork(self) -> None:
        """Keep what was said as a branch, and go on in a new one. The oldest of too many are forgotten."""
        self._keep()
        self.branches.append({})
        del self.branches[: max(0, len(self.branches) - MAX_BRANCHES)]
        self.at = len(self.branches) - 1

    def switch(self, to: int) -> None:
        """Show another branch."""
        if self.busy or not 0 <= to < len(self.branches):
            raise UserError(t(WAIT))
        self._keep()
        self._show(to)

    def _show(self, at: int) -> None:
        self.at, self.editing = at, None
        for side, turns in self.branches[at].items():
            self.panes[side].turns = list(turns)

    def _keep(self) -> None:
        self.branches[self.at] = {side: list(pane.turns) for side, pane in self.panes.items()}

    def clear(self) -> None:
        """An empty chat in every pane."""
        for pane in self.panes.values():
            pane.clear()
        self.branches, self.at, self.editing, self.revealed, self.drawn = [{}], 0, None, False, {}

    def stop(self) -> None:
        for pane in self.panes.values():
            pane.stop()

    def hide(self, wanted: bool) -> None:
        """Begin or end blind mode."""
        self.blind, self.revealed, self.drawn = wanted, False, {}

    def vote(self, choice: str) -> str:
        """Note a vote, by the letter of a pane or another choice, and show the names; the chosen model, or `choice`."""
        if not self.votable:
            raise UserError(t("A vote needs a finished answer of a different model in every pane."))
        by_letter = {LETTERS[side]: turn.model for side, turn in zip(self.shown, self._last, strict=True)}
        if choice not in (*by_letter, TIE, BAD):
            raise UserError(t("Choose one of the buttons below the answers."))
        for turn in self._last:
            turn.vote = by_letter.get(choice, choice)
        self.revealed = self.blind
        return self.voted

    @property
    def alike(self) -> bool:
        """Whether one model gave the last answers of several panes."""
        return 1 == len({turn.model for turn in self._last if turn.model}) < len(self._last)

    @property
    def votable(self) -> bool:
        """Whether every pane has a whole answer to one question, by different models, and no vote was given yet."""
        if self.busy or self.voted or len(self._last) < len(self.shown) or (self.blind and self.revealed):
            return False
        whole = all(turn.finish in ("stop", "length") and turn.model and not turn.error for turn in self._last)
        questions, models = {pane.turns[-2].text for pane in self.open}, {turn.model for turn in self._last}
        return whole and len(questions) == 1 and len(models) == len(self.shown)

    def saved(self) -> Conversation:
        """The chats of the open panes and the other courses they took, as files hold them."""
        self._keep()
        courses = [[_saved(turns.get(side, [])) for side in self.shown] for turns in self.branches]
        return Conversation(chats=courses.pop(self.at), branches=courses, at=self.at)

    def restore(self, saved: Conversation) -> None:
        """Show a file's chats, and have its branches, in place of what is there, which is kept as a branch."""
        before = []
        if self.begun:
            self._keep()
            before = self.branches
        courses = [*saved.branches[: saved.at], saved.chats, *saved.branches[saved.at :]]
        branches = [*before, *map(_turns, courses)]
        after = len(branches) - len(before) - min(saved.at, len(saved.branches))
        self.clear()
        self.branches = branches[-MAX_BRANCHES:]
        self._show(len(self.branches) - after)
        if len(saved.chats) > len(self.shown):
            self.shown = SIDES[: len(saved.chats)]
        self.hide(False)


def _saved(turns: Sequence[Turn]) -> Chat:
    last = turns[-1] if turns else Turn("assistant", "")
    said = [SavedTurn(role=t.role, text=t.text, model=t.model, finish=t.finish, vote=t.vote) for t in turns]
    return Chat(model=last.model, settings=last.asked or SamplingConfig(), turns=said)


def _turns(chats: Sequence[Chat]) -> Turns:
    """Whole exchanges only, and none in panes that a file says nothing of."""
    found: Turns = {side: [] for side in SIDES}
    for side, chat in zip(SIDES, chats, strict=False):
        found[side] = [
            Turn(turn.role, turn.text, turn.model, turn.finish or "stop", asked=chat.settings, vote=turn.vote)
            for turn in chat.turns[: len(chat.turns) // 2 * 2]
        ]
    return found
