"""Mixes skills and small talk into the conversations that phi3-nano is trained on."""

from collections.abc import Iterator
from random import Random

from . import chat
from .chat import Message, assistant, user
from .skills import SKILLS, Skill, is_held_out, plain

_BY_WEIGHT = tuple(skill.weight for skill in SKILLS)
_SHORT = tuple(skill for skill in SKILLS if skill.name in {"capital cities", "opposites", "colours", "kinds of things", "days", "months", "young animals"})  # fmt: skip


def _turn(prompt: str, answer: str) -> list[Message]:
    return [user(prompt), assistant(answer)]


def skill_turns(rng: Random, *, follow_ups: float = 0.15) -> list[Message]:
    """A skill's question and answer, now and then with short follow-up questions."""
    skill = rng.choices(SKILLS, _BY_WEIGHT)[0]
    task = rng.choice(skill.tasks)
    messages = _turn(*task.draw(rng))
    while task.follow_ups and rng.random() < follow_ups and len(messages) < 6:
        messages += _turn(*task.draw_follow_up(rng))
    return messages


def _short_turns(rng: Random) -> list[Message]:
    return _turn(*rng.choice(_SHORT).draw(rng))


def _between(rng: Random) -> list[Message]:
    return skill_turns(rng) if rng.random() < 0.5 else chat.small_talk(rng)


def _transcript(rng: Random) -> list[Message]:
    messages = chat.opening(rng) if rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 4)):
        messages += _between(rng)
    return messages + (chat.closing(rng) if rng.random() < 0.3 else [])


def conversation(rng: Random) -> list[Message]:
    """One training conversation."""
    kind = rng.random()
    if kind < 0.62:
        return skill_turns(rng)
    if kind < 0.78:
        return chat.small_talk(rng)
    if kind < 0.85:
        return chat.memory(rng, _between)
    if kind < 0.92:
        return chat.with_system(rng, _between, _short_turns)
    return _transcript(rng)


def training_stream(seed: int) -> Iterator[list[Message]]:
    """Endless training conversations; none holds a prompt of the test side of any skill."""
    rng = Random(f"train {seed}")
    tested = frozenset(plain(row["messages"][0]["content"]) for row in test_rows(seed))
    while True:
        messages = conversation(rng)
        if not any(plain(message["content"]) in tested for message in messages):
            yield messages


def _test_prompts(skill: Skill, count: int, rng: Random) -> list[tuple[str, str]]:
    drawn: dict[str, str] = {}
    for _ in range(count * 50):
        prompt, answer = skill.draw(rng, held_out=True)
        drawn.setdefault(prompt, answer)
        if len(drawn) == count:
            break
    return list(drawn.items())


def test_rows(seed: int, per_skill: int = 16) -> list[dict[str, object]]:
    """The held-out questions of every skill, as rows of a messages JSONL file."""
    rng = Random(f"test {seed}")
    return [
        {"messages": _turn(prompt, answer), "skill": skill.name}
        for skill in SKILLS
        for prompt, answer in _test_prompts(skill, per_skill, rng)
    ]


__all__ = ["conversation", "is_held_out", "skill_turns", "test_rows", "training_stream"]
