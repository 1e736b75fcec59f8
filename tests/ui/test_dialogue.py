"""Conversations side by side: asking, going back, branches, blind votes, and files."""

from __future__ import annotations

import pytest

from phi3tune import votes
from phi3tune.config import SamplingConfig
from phi3tune.conversations import MAX_BRANCHES, from_json, to_json
from phi3tune.errors import UserError
from phi3tune.ui.dialogue import SIDES, Dialogue, Side
from phi3tune.ui.pane import Turn

MODELS: dict[Side, str] = {"left": "base", "right": "lamp", "third": "build"}
CONFIGS = dict.fromkeys(SIDES, SamplingConfig(system="Be brief."))


def ask(said: Dialogue, text: str, to: tuple[Side, ...] | None = None, answers: dict[Side, str] | None = None) -> None:
    """A question with its answers, which say which model gave them."""
    said.ask(text, to or said.shown, MODELS, CONFIGS)
    for side, pane in said.panes.items():
        if pane.take():
            turn = pane.turns[-1]
            turn.text, turn.finish = (answers or {}).get(side, f"{text} by {turn.model}"), "stop"
            pane.stop()


def texts(said: Dialogue, side: Side = "left") -> list[str]:
    return [turn.text for turn in said.panes[side].turns]


def test_one_message_goes_to_every_open_pane() -> None:
    said = Dialogue()
    ask(said, "one")
    assert texts(said) == ["one", "one by base"] and texts(said, "right") == ["one", "one by lamp"]
    assert texts(said, "third") == []
    said.shown = SIDES
    ask(said, "two")
    assert texts(said, "third") == ["two", "two by build"]
    assert said.panes["left"].turns[-1].asked == CONFIGS["left"]


def test_panes_can_be_asked_different_things() -> None:
    said = Dialogue()
    ask(said, "one", ("left",))
    ask(said, "other", ("right",))
    assert texts(said) == ["one", "one by base"] and texts(said, "right") == ["other", "other by lamp"]


def test_only_panes_that_are_free_can_be_asked() -> None:
    said = Dialogue()
    said.ask("one", ["left"], MODELS, CONFIGS)
    with pytest.raises(UserError, match="Wait"):
        said.ask("two", said.shown, MODELS, CONFIGS)
    said.ask("two", ["right"], MODELS, CONFIGS)
    assert said.busy and not said.branches[0]
    with pytest.raises(UserError, match="Write a message"):
        said.ask(" ", ["right"], MODELS, CONFIGS)


def test_an_answer_is_filled_by_one_only() -> None:
    said = Dialogue()
    said.ask("one", ["left"], MODELS, CONFIGS)
    assert said.panes["left"].take()
    assert not said.panes["left"].take() and not said.panes["right"].take()


def test_regenerate_keeps_the_answer_before_as_a_branch() -> None:
    said = Dialogue()
    with pytest.raises(UserError, match="no answer"):
        said.again(MODELS, CONFIGS)
    ask(said, "one")
    said.again({**MODELS, "right": "other"}, CONFIGS)
    assert said.busy and texts(said, "right") == ["one", ""]
    assert said.panes["right"].turns[-1].model == "other"
    said.stop()
    said.switch(0)
    assert texts(said, "right") == ["one", "one by lamp"]
    said.switch(1)
    assert texts(said, "right") == ["one", ""]


def test_an_edited_question_is_asked_again_in_its_place() -> None:
    said = Dialogue()
    ask(said, "one")
    ask(said, "two")
    assert said.edit("right", 0) == "one"
    ask(said, "uno")
    assert texts(said) == ["uno", "uno by base"] and texts(said, "right") == ["uno", "uno by lamp"]
    said.switch(0)
    assert texts(said) == ["one", "one by base", "two", "two by base"]
    assert said.editing is None


def test_an_edit_leaves_alone_a_pane_that_was_asked_something_else() -> None:
    said = Dialogue()
    ask(said, "one", ("left",))
    ask(said, "other", ("right",))
    said.edit("left", 0)
    ask(said, "uno")
    assert texts(said) == ["uno", "uno by base"] and texts(said, "right") == ["other", "other by lamp"]


def test_continue_from_an_earlier_answer() -> None:
    said = Dialogue()
    for text in ("one", "two", "three"):
        ask(said, text)
    said.go_on_from("left", 1)
    assert texts(said) == ["one", "one by base"] and texts(said, "right") == ["one", "one by lamp"]
    ask(said, "deux")
    said.switch(0)
    assert len(texts(said)) == 6
    for side, place in (("left", 0), ("left", 9), ("third", 1)):
        with pytest.raises(UserError):
            said.go_on_from(side, place)  # type: ignore[arg-type]
    with pytest.raises(UserError):
        said.edit("left", 1)


def test_branches_are_bounded() -> None:
    said = Dialogue()
    ask(said, "one")
    for number in range(MAX_BRANCHES + 5):
        said.edit("left", 0)
        ask(said, str(number))
    assert len(said.branches) == MAX_BRANCHES and said.at == MAX_BRANCHES - 1
    with pytest.raises(UserError):
        said.switch(MAX_BRANCHES)
    said.switch(0)
    assert texts(said) == ["5", "5 by base"]


@pytest.fixture
def blind() -> Dialogue:
    said = Dialogue(blind=True)
    ask(said, "one")
    return said


def test_blind_sides_are_drawn_by_lot() -> None:
    seen = set()
    for _ in range(64):
        said = Dialogue(blind=True)
        ask(said, "one")
        assert sorted(said.drawn.values()) == ["base", "lamp"]
        assert [said.panes[side].turns[-1].model for side in said.shown] == list(said.drawn.values())
        seen.add(said.drawn["left"])
    assert seen == {"base", "lamp"}


def test_blind_sides_stay_for_the_round_whatever_is_chosen_meanwhile(blind: Dialogue) -> None:
    drawn = dict(blind.drawn)
    blind.ask("two", blind.shown, {**MODELS, "left": "spy"}, CONFIGS)
    assert {side: blind.panes[side].turns[-1].model for side in blind.shown} == drawn


def test_a_vote_shows_the_names_and_ends_the_round(blind: Dialogue) -> None:
    assert blind.hidden and blind.votable
    assert blind.vote("B") == blind.drawn["right"]
    assert not blind.hidden and not blind.votable
    with pytest.raises(UserError):
        blind.vote("A")
    with pytest.raises(UserError, match="round is over"):
        blind.again(MODELS, CONFIGS)
    ask(blind, "two")
    assert blind.hidden and texts(blind)[0] == "two" and len(texts(blind)) == 2


def test_no_vote_without_whole_answers(blind: Dialogue) -> None:
    blind.panes["left"].turns[-1].finish = "cancelled"
    assert not blind.votable
    blind.panes["left"].turns[-1].finish = "stop"
    blind.panes["right"].turns.clear()
    assert not blind.votable
    assert not Dialogue(blind=True).votable


def test_answers_with_names_in_sight_are_voted_on_once() -> None:
    said = Dialogue()
    ask(said, "one")
    assert said.votable and not said.hidden
    with pytest.raises(UserError, match="one of the buttons"):
        said.vote("C")
    assert said.vote("B") == said.voted == "lamp" and not said.votable
    ask(said, "two")
    assert said.votable, "another question is another vote"
    said.go_on_from("left", 1)
    assert said.voted == "lamp" and not said.votable


def test_a_vote_is_between_different_models_over_one_question() -> None:
    same = Dialogue()
    same.ask("one", same.shown, dict.fromkeys(SIDES, "base"), CONFIGS)
    for pane in same.open:
        pane.turns[-1].finish = "stop"
        pane.stop()
    assert not same.votable
    other = Dialogue()
    ask(other, "one", ("left",))
    ask(other, "other", ("right",))
    assert not other.votable


def test_a_tie_is_a_vote(blind: Dialogue) -> None:
    assert blind.vote(votes.TIE) == votes.TIE


def test_a_blind_round_between_equals_is_refused() -> None:
    said = Dialogue(blind=True)
    with pytest.raises(UserError, match="different model"):
        said.ask("one", said.shown, dict.fromkeys(SIDES, "base"), CONFIGS)
    assert not said.begun and not said.busy


def test_settings_of_all_or_of_each() -> None:
    cold, warm, hot = (SamplingConfig(temperature=value) for value in (0.0, 0.5, 1.0))
    said = Dialogue()
    assert set(map(id, said.settings(cold).values())) == {id(cold)}
    assert said.settings_for("left", cold) == cold
    assert said.settings_for("right", warm) == cold, "the left pane's were changed, not the right one's"
    assert said.settings(hot) == {"left": warm, "right": hot, "third": cold}
    assert said.settings_for("left", hot) == warm
    assert said.settings_for(None, warm) == warm
    assert said.settings(warm)["right"] == warm


def test_a_dialogue_comes_back_from_its_file() -> None:
    said = Dialogue(shown=SIDES)
    ask(said, "one")
    ask(said, "two", ("left",))
    said.ask("three", ["right"], MODELS, CONFIGS)  # not answered
    file = to_json(said.saved())
    other = Dialogue()
    ask(other, "before")
    other.restore(from_json(file))
    assert [texts(other, side) for side in SIDES] == [texts(said, side) for side in SIDES]
    assert other.shown == SIDES and not other.busy
    assert other.panes["left"].turns[1] == Turn("assistant", "one by base", "base", "stop", asked=CONFIGS["left"])
    other.switch(0)
    assert texts(other) == ["before", "before by base"]


def test_branches_and_votes_come_back_with_the_chat() -> None:
    said = Dialogue()
    ask(said, "one")
    said.vote("A")
    said.edit("left", 0)
    ask(said, "uno")
    said.edit("left", 0)
    ask(said, "ichi")
    said.switch(1)
    other = Dialogue()
    other.restore(from_json(to_json(said.saved())))
    assert (other.at, len(other.branches)) == (1, 3) and texts(other)[0] == "uno"
    other.switch(2)
    assert texts(other) == ["ichi", "ichi by base"]
    other.switch(0)
    assert other.voted == "base" and not other.votable
    ask(other, "two")
    other.restore(said.saved())
    assert (other.at, len(other.branches)) == (4, 6), "what was there before comes first"


def test_a_chat_without_room_for_its_branches_leaves_out_the_oldest() -> None:
    said = Dialogue()
    for text in ("one", "two", "three"):
        ask(said, text * 100)
        said.fork()
    whole = said.saved()
    fewer = from_json(to_json(whole, len(to_json(whole)) - 1))
    assert fewer.branches == whole.branches[1:] and fewer.chats == whole.chats and fewer.at == whole.at - 1
    assert from_json(to_json(whole, 1)).branches == []


def test_many_branches_of_a_file_join_those_that_are_there() -> None:
    said = Dialogue()
    ask(said, "one")
    for _ in range(MAX_BRANCHES - 1):
        said.fork()
    saved = said.saved()
    other = Dialogue()
    ask(other, "before")
    other.restore(saved)
    assert len(other.branches) == MAX_BRANCHES and other.at == saved.at
