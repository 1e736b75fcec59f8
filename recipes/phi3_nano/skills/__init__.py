"""The base skills of phi3-nano, each with its wordings and a rule for what is only tested on."""

from . import facts, lists, numbers, sentences, words
from .base import HELD_OUT_SHARE, Skill, Task, is_held_out, plain

SKILLS: tuple[Skill, ...] = (
    *numbers.SKILLS,
    *words.SKILLS,
    *facts.SKILLS,
    *lists.SKILLS,
    *sentences.SKILLS,
)

__all__ = ["HELD_OUT_SHARE", "SKILLS", "Skill", "Task", "is_held_out", "plain"]
