"""Small talk: greetings, questions about the model, feelings, things told earlier in the chat, system prompts."""

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from .grammar import capitalised, expand, fill, spoken
from .sources import Exchange, Style, Told, exchanges, names, styles, things, told

Message: TypeAlias = dict[str, str]

_ONSETS = ("b", "br", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "r", "s", "st", "t", "th", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ee", "ia", "o")
_CODAS = ("", "", "", "l", "n", "r", "s", "ra", "la", "na", "ck", "th")


def _person(rng: Random) -> str:
    """A first name; half of them are made up, so that the only way to say one is to copy it."""
    if rng.random() < 0.5:
        return rng.choice(names("people"))
    syllables = (rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((1, 2, 2, 3))))
    return ("".join(syllables) + rng.choice(_CODAS)).capitalize()


_KINDS: dict[str, Callable[[Random], str]] = {
    "place": lambda rng: rng.choice(names("places")),
    "thing": lambda rng: rng.choice(names("likes")),
    "job": lambda rng: _worker(rng),
    "pet": lambda rng: rng.choice(names("pet kinds")),
    "name": _person,
}
_COMMON = ("greeting", "how_are_you", "who", "name", "able", "thanks", "bye", "joke", "unknown", "user_name", "made",
           "tired", "praise")  # fmt: skip
_FIRST = ("greeting", "greeting", "morning", "evening")
_LAST = ("thanks", "thanks", "bye", "bye", "night")


def user(text: str) -> Message:
    """A message of the user."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """A message of the model."""
    return {"role": "assistant", "content": text}


def _worker(rng: Random) -> str:
    job = rng.choice(things()["job"])
    return ("an " if job[0] in "aeiou" else "a ") + job


def _slots(rng: Random) -> dict[str, str]:
    slots = {kind: pick(rng) for kind, pick in _KINDS.items()}
    return slots | {"thing_cap": capitalised(slots["thing"])}


def exchange(rng: Random, topic: Exchange, *, follow_ups: bool = True) -> list[Message]:
    """One question and answer on a small talk topic, often with what usually follows."""
    slots = _slots(rng)
    messages = [
        user(spoken(expand(rng.choice(topic.users), rng), slots, rng)),
        assistant(fill(rng.choice(topic.answers), slots)),
    ]
    while follow_ups and topic.follow_ups and rng.random() < 0.6 and len(messages) < 6:
        said, answer = rng.choice(topic.follow_ups)
        slots = slots | {"name": rng.choice(names("pets"))}
        messages += [user(spoken(expand(said, rng), slots, rng)), assistant(fill(answer, slots))]
    return messages


def small_talk(rng: Random) -> list[Message]:
    """One exchange on any topic, the commonest ones more often."""
    known = exchanges()
    name = rng.choice(_COMMON) if rng.random() < 0.35 else rng.choice(tuple(known))
    return exchange(rng, known[name])


def opening(rng: Random) -> list[Message]:
    """A greeting and its answer."""
    return exchange(rng, exchanges()[rng.choice(_FIRST)])


def closing(rng: Random) -> list[Message]:
    """Thanks or a goodbye and its answer."""
    return exchange(rng, exchanges()[rng.choice(_LAST)], follow_ups=False)


_TOLD_VALUES: dict[str, Callable[[Random], str]] = {
    "name": _person,
    "pet": lambda rng: rng.choice(names("pets")) if rng.random() < 0.6 else _person(rng),
    "colour": lambda rng: rng.choice(things()["colour"]),
    "like": lambda rng: rng.choice(names("likes")),
    "place": lambda rng: rng.choice(names("places")),
    "age": lambda rng: str(rng.randint(5, 90)),
    "job": _worker,
    "number": lambda rng: str(rng.randint(1, 99)),
    "word": lambda rng: rng.choice(rng.choice(tuple(things().values()))),
}


def _tell(topic: Told, value: str, rng: Random) -> list[Message]:
    slots = {"v": value}
    said = spoken(expand(rng.choice(topic.wordings), rng), slots, rng)
    return [user(said), assistant(capitalised(fill(topic.reply, slots)))]


def _recall(topic: Told, value: str, rng: Random) -> list[Message]:
    asked = spoken(expand(rng.choice(topic.questions), rng), {}, rng)
    return [user(asked), assistant(fill(topic.answer, {"v": value}))]


def memory(rng: Random, between: Callable[[Random], list[Message]]) -> list[Message]:
    """Things told, something else in between, then questions about what was told; or a question nobody can answer."""
    topics = rng.sample(told(), rng.choice((1, 1, 1, 2)))
    if rng.random() < 0.5:
        topics[0] = told()[0]
    if len(topics) == 2 and topics[0] is topics[1]:
        topics = topics[:1]
    if rng.random() < 0.08:
        asked = spoken(expand(rng.choice(topics[0].questions), rng), {}, rng)
        return [user(asked), assistant("You have not told me that yet.")]
    facts = [(topic, _TOLD_VALUES[topic.name](rng)) for topic in topics]
    messages = [message for topic, value in facts for message in _tell(topic, value, rng)]
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        messages += between(rng)
    rng.shuffle(facts)
    return messages + [message for topic, value in facts for message in _recall(topic, value, rng)]


def _styled(messages: list[Message], style: Style) -> list[Message]:
    def said(text: str) -> str:
        return fill(style.sentence if text[-1] in ".!?" else style.phrase, {"text": text})

    return [
        message | {"content": said(message["content"])} if message["role"] == "assistant" else message
        for message in messages
    ]


_NAMED = (
    "[Your name is|You are called|You are|Your name is now|You are an assistant called|"
    "You are a helpful assistant named] {bot}[.|]"
)
_NAME_ANSWERS = (("name", "My name is {bot}."), ("who", "I am {bot}, a small assistant. How can I help you?"))
_ONE_WORD = (
    "[Answer|Reply] [in|with] [only|just|] one word[.|]",
    "[Use|Give|Say] only one word[.|]",
    "One word answers only[.|]",
)


def with_system(
    rng: Random, between: Callable[[Random], list[Message]], one_word: Callable[[Random], list[Message]]
) -> list[Message]:
    """A chat under a system prompt: a plain one, a name for the model, a style, or one-word answers."""
    kind = rng.random()
    body = [message for _ in range(rng.randint(1, 3)) for message in between(rng)]
    if kind < 0.4:
        return [{"role": "system", "content": rng.choice(names("system plain"))}, *body]
    if kind < 0.65:
        slots = {"bot": rng.choice(names("bot names")) if rng.random() < 0.6 else _person(rng)}
        topic, answer = rng.choice(_NAME_ANSWERS)
        asked = spoken(expand(rng.choice(exchanges()[topic].users), rng), {}, rng)
        turn = [user(asked), assistant(fill(answer, slots))]
        body = [*turn, *body] if rng.random() < 0.6 else [*body[:2], *turn]
        return [{"role": "system", "content": fill(expand(_NAMED, rng), slots)}, *body]
    if kind < 0.72:
        body = [message for _ in range(rng.randint(1, 3)) for message in one_word(rng)]
        return [{"role": "system", "content": expand(rng.choice(_ONE_WORD), rng)}, *body]
    style = rng.choice(styles())
    return [{"role": "system", "content": expand(style.prompt, rng)}, *_styled(body, style)]
