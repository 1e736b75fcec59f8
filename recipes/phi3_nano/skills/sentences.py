"""Skills on whole sentences: their topic, and questions to a shop about everyday devices."""

from random import Random

from ..grammar import expand, fill, spoken
from ..sources import intents, names, sections
from .base import Skill, Slots, Task

_TOPICS = tuple(sections("topics.txt").items())


def _topic(rng: Random) -> tuple[Slots, str]:
    topic, templates = rng.choice(_TOPICS)
    return {"x": spoken(expand(rng.choice(templates), rng), {}, rng)}, topic


def _request(rng: Random) -> tuple[Slots, str, str, str]:
    """A question about a device, its label, the want in words and the answer."""
    intent = rng.choice(intents())
    device = {"d": rng.choice(names("devices"))}
    asked = spoken(expand(rng.choice(intent.wordings), rng), device, rng)
    return {"x": asked}, intent.label, fill(intent.want, device), fill(intent.answer, device)


def _label(rng: Random) -> tuple[Slots, str]:
    slots, label, _, _ = _request(rng)
    return slots, label


def _want(rng: Random) -> tuple[Slots, str]:
    slots, _, want, _ = _request(rng)
    lead = "" if want.startswith("to ") else "to know "
    return slots, f"The customer wants {lead}{want}."


def _answer(rng: Random) -> tuple[Slots, str]:
    slots, _, _, answer = _request(rng)
    return slots, answer


SKILLS = (
    Skill(
        "topic of a sentence",
        "names the topic of a sentence: " + ", ".join(topic for topic, _ in _TOPICS),
        (Task.worded("topic of a sentence", _topic, verbatim=True),),
        3.0,
        3.0,
    ),
    Skill(
        "shop requests",
        "names in one or two words what a customer of a device shop asks about",
        (Task.worded("shop requests", _label, verbatim=True),),
        3.0,
        3.0,
    ),
    Skill(
        "device help",
        "answers a question about an everyday device with one friendly sentence",
        (Task.worded("device help", _answer, verbatim=True),),
        8.0,
        8.0,
    ),
    Skill(
        "what they want",
        "says in one sentence what a customer wants",
        (Task.worded("what they want", _want, verbatim=True),),
        3.0,
        0,
        False,
    ),
)
