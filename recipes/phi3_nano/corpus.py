"""Mixes skills and small talk into the conversations that phi3-nano is trained on."""

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

from . import chat
from .chat import Message, assistant, user
from .skills import SKILLS, Skill, plain

BROAD_CONVERSATIONS = 65_000
"""After so many conversations the text narrows to the skills that are tested."""

TESTED = tuple(skill for skill in SKILLS if skill.tested)

_ONE_WORD_NAMES = {"capital cities", "opposites", "colours", "kinds of things", "days", "months", "young animals"}
_SHORT = tuple(skill for skill in SKILLS if skill.name in _ONE_WORD_NAMES)


def _turn(prompt: str, answer: str) -> list[Message]:
    return [user(prompt), assistant(answer)]


def _short_turns(rng: Random) -> list[Message]:
    return _turn(*rng.choice(_SHORT).draw(rng))


class Mix:
    """Draws conversations in which each skill has its share: the broad shares at first, the late ones afterwards."""

    def __init__(self, *, late: bool) -> None:
        self.weights = [skill.late_weight if late else skill.weight for skill in SKILLS]

    def skill_turns(self, rng: Random, *, follow_ups: float = 0.15) -> list[Message]:
        """A skill's question and answer, now and then with short follow-up questions."""
        skill = rng.choices(SKILLS, self.weights)[0]
        task = rng.choice(skill.tasks)
        messages = _turn(*task.draw(rng))
        while task.follow_ups and rng.random() < follow_ups and len(messages) < 6:
            messages += _turn(*task.draw_follow_up(rng))
        return messages

    def between(self, rng: Random) -> list[Message]:
        """A piece of a longer chat: a skill or small talk."""
        return self.skill_turns(rng) if rng.random() < 0.5 else chat.small_talk(rng)

    def transcript(self, rng: Random) -> list[Message]:
        """A chat of several pieces."""
        messages = chat.opening(rng) if rng.random() < 0.5 else []
        for _ in range(rng.randint(1, 4)):
            messages += self.between(rng)
        return messages + (chat.closing(rng) if rng.random() < 0.3 else [])

    def conversation(self, rng: Random) -> list[Message]:
        """One training conversation."""
        kind = rng.random()
        if kind < 0.58:
            return self.skill_turns(rng)
        if kind < 0.73:
            return chat.small_talk(rng)
        if kind < 0.86:
            return chat.memory(rng, self.between)
        if kind < 0.92:
            return chat.with_system(rng, self.between, _short_turns)
        return self.transcript(rng)


def training_stream(seed: int, start: int = 0) -> Iterator[list[Message]]:
    """Endless training conversations from number `start` on; none holds a prompt of the test side of any skill."""
    rng = Random(f"train {seed}" if start == 0 else f"train {seed} {start}")
    tested = frozenset(plain(row["messages"][0]["content"]) for row in test_rows(seed))
    broad, late = Mix(late=False), Mix(late=True)
    for number in count(start):
        messages = (broad if number < BROAD_CONVERSATIONS else late).conversation(rng)
        if not any(plain(message["content"]) in tested for message in messages):
            yield messages


def _test_prompts(skill: Skill, wanted: int, rng: Random) -> list[tuple[str, str]]:
    drawn: dict[str, str] = {}
    for _ in range(wanted * 50):
        prompt, answer = skill.draw(rng, held_out=True)
        drawn.setdefault(prompt, answer)
        if len(drawn) == wanted:
            break
    return list(drawn.items())


def test_rows(seed: int, per_skill: int = 25) -> list[dict[str, Any]]:
    """The held-out questions of every tested skill, as rows of a messages JSONL file."""
    rng = Random(f"test {seed}")
    return [
        {"messages": _turn(prompt, answer), "skill": skill.name}
        for skill in TESTED
        for prompt, answer in _test_prompts(skill, per_skill, rng)
    ]
