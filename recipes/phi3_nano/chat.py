"""Small talk: greetings, questions about the model, feelings, things told earlier in the chat, system prompts."""

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from .grammar import capitalised, expand, fill, spoken
from .sources import Exchange, exchanges, names, things

Message: TypeAlias = dict[str, str]

_KINDS = {
    "place": lambda rng: rng.choice(names("places")),
    "thing": lambda rng: rng.choice(names("likes")),
    "job": lambda rng: _worker(rng),
    "pet": lambda rng: rng.choice(names("pet kinds")),
    "name": lambda rng: rng.choice(names("people")),
}
_COMMON = ("greeting", "how_are_you", "who", "name", "able", "thanks", "bye", "joke", "unknown", "user_name", "made", "tired", "praise")
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


def _pet_in(name: str, slots: dict[str, str]) -> dict[str, str]:
    return slots | {"name": name}


def exchange(rng: Random, topic: Exchange, *, follow_ups: bool = True) -> list[Message]:
    """One question and answer on a small talk topic, often with what usually follows."""
    slots = _slots(rng)
    messages = [
        user(spoken(expand(rng.choice(topic.users), rng), slots, rng)),
        assistant(fill(rng.choice(topic.answers), slots)),
    ]
    while follow_ups and topic.follow_ups and rng.random() < 0.6 and len(messages) < 6:
        said, answer = rng.choice(topic.follow_ups)
        slots = _pet_in(rng.choice(names("pets")), slots)
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


# What a user may tell, as (wordings, what the model says, later questions, what the model then answers).
Told: TypeAlias = tuple[tuple[str, ...], str, tuple[str, ...], str, Callable[[Random], str]]
_TOLD: tuple[Told, ...] = (
    (("my name is {v}", "[hi|hello|hey], [my name is|I am|I'm] {v}", "[call me|you can call me|please call me] {v}", "I am called {v}", "[hello|hi], you can call me {v}"),
     "Nice to meet you, {v}!",
     ("what is my name", "[do you know|do you remember|tell me|say|can you tell me] my name", "who am I", "what's my name", "what am I called", "do you know who I am", "what did I say my name was"),
     "Your name is {v}.", _KINDS["name"]),
    (("my [dog|cat|rabbit|pet|horse] is called {v}", "the name of my [dog|cat|pet|rabbit] is {v}", "I have a [dog|cat|pet|hamster] called {v}", "my pet's name is {v}", "I have a [dog|cat|pet|rabbit] named {v}"),
     "{v} is a lovely name!",
     ("what is my [dog|cat|rabbit|pet|horse|hamster] called", "what is the name of my [dog|cat|pet|rabbit|hamster]", "[do you remember|tell me] the name of my [pet|dog|cat]", "what's my [dog|cat|pet]'s name"),
     "Your pet is called {v}.", lambda rng: rng.choice(names("pets"))),
    (("my favourite colour is {v}", "I like {v} best of all colours", "the colour I like most is {v}", "I love the colour {v}", "my favorite color is {v}"),
     "{v} is a beautiful colour!",
     ("what is my favourite colour", "[do you remember|tell me] my favourite colour", "which colour do I like [best|most]", "what colour do I like", "what's my favorite color"),
     "Your favourite colour is {v}.", lambda rng: rng.choice(things()["colour"])),
    (("my favourite [food|thing|hobby] is {v}", "I like {v} [most|best|more than anything]", "I [love|really like] {v}"),
     "How nice! {v} is a fine thing to like.",
     ("what is my favourite [food|thing|hobby]", "what do I like [|best|most]", "[do you remember|tell me] what I like"),
     "You like {v}.", lambda rng: rng.choice(names("likes"))),
    (("I live in {v}", "I am from {v}", "I come from {v}", "my home is in {v}"),
     "How nice! I have heard that {v} is a good place to live.",
     ("where do I live", "where am I from", "[do you remember|tell me] where I live", "which place do I come from", "where is my home"),
     "You live in {v}.", lambda rng: rng.choice(names("places"))),
    (("I am {v} years old", "I'm {v} years old", "my age is {v}", "I turned {v} [today|last week|this year]"),
     "{v} is a good age!",
     ("how old am I", "what is my age", "[do you remember|tell me] my age", "do you know how old I am"),
     "You are {v} years old.", lambda rng: str(rng.randint(5, 90))),
    (("I am {v}", "I work as {v}", "my job is being {v}"),
     "How nice! That is an important job.",
     ("what is my job", "what do I do for work", "[do you remember|tell me] my job", "what do I work as"),
     "You are {v}.", _worker),
    (("remember [this number|the number|the code]: {v}", "[my lucky number|my number|the secret number] is {v}", "keep the number {v} in mind"),
     "I will remember {v}.",
     ("what was the number", "what is [my lucky number|my number|the number|the secret number|the code]", "[do you remember|tell me] the number", "which number did I say"),
     "The number is {v}.", lambda rng: str(rng.randint(1, 99))),
    (("remember [this word|the word|the password]: {v}", "[my word|the secret word|the magic word] is {v}", "keep the word {v} in mind"),
     "I will remember {v}.",
     ("what was the word", "what is [my word|the word|the secret word|the magic word]", "[do you remember|tell me] the word", "which word did I say"),
     "The word is {v}.", lambda rng: rng.choice(rng.choice(tuple(things().values())))),
)  # fmt: skip


def _tell(told: Told, value: str, rng: Random) -> list[Message]:
    slots = {"v": value}
    said = spoken(expand(rng.choice(told[0]), rng), slots, rng)
    return [user(said), assistant(capitalised(fill(told[1], slots)))]


def _recall(told: Told, value: str, rng: Random) -> list[Message]:
    asked = spoken(expand(rng.choice(told[2]), rng), {}, rng)
    return [user(asked), assistant(fill(told[3], {"v": value}))]


def memory(rng: Random, between: Callable[[Random], list[Message]]) -> list[Message]:
    """Things told, something else in between, then questions about what was told; or a question nobody can answer."""
    kinds = rng.sample(_TOLD, rng.choice((1, 1, 1, 2)))
    if rng.random() < 0.5:
        kinds[0] = _TOLD[0]
    if len(kinds) == 2 and kinds[0] is kinds[1]:
        kinds = kinds[:1]
    if rng.random() < 0.08:
        asked = spoken(expand(rng.choice(kinds[0][2]), rng), {}, rng)
        return [user(asked), assistant("You have not told me that yet.")]
    facts = [(kind, kind[4](rng)) for kind in kinds]
    messages = [message for kind, value in facts for message in _tell(kind, value, rng)]
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        messages += between(rng)
    rng.shuffle(facts)
    return messages + [message for kind, value in facts for message in _recall(kind, value, rng)]


def _styled(messages: list[Message], change: Callable[[str], str]) -> list[Message]:
    return [message | {"content": change(message["content"])} if message["role"] == "assistant" else message for message in messages]


def _pirate(text: str) -> str:
    return f"Arr! {text}" if text[-1] in ".!?" else f"Arr! {text}, matey!"


def _last_mark(text: str) -> str:
    return text if text[-1] in ".!?" else text + "."


_STYLES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("[You are a pirate|Talk like a pirate|You are an old pirate|Answer like a pirate|Speak like a pirate|You are a pirate captain][.| who helps people.]", _pirate),
    ("[Always end with|End every answer with|Finish each answer with] [\"|]Have a nice day![\"|]", lambda text: f"{_last_mark(text)} Have a nice day!"),
    ("[Always start with|Begin every answer with|Start each answer with] [\"|]Well,[\"|]", lambda text: f"Well, {text}"),
    ("[You are a cowboy|Talk like a cowboy|Speak like a cowboy|Answer like a cowboy][.|]", lambda text: f"Howdy! {_last_mark(text)}"),
    ("[You are a king|Talk like a king|You are a queen|Speak like a king][.|]", lambda text: f"Hear me! {_last_mark(text)}"),
    ("[You are a cat|Talk like a cat|Answer like a cat|You are a small cat][.|]", lambda text: f"Meow! {_last_mark(text)}"),
    ("[You are very polite|Be very polite|Be extremely polite][.|]", lambda text: f"With pleasure! {_last_mark(text)}"),
)  # fmt: skip
_NAMED = "[Your name is|You are called|You are|Your name is now|You are an assistant called|You are a helpful assistant named] {bot}[.|]"
_NAME_ANSWERS = (("name", "My name is {bot}."), ("who", "I am {bot}, a small assistant. How can I help you?"))
_ONE_WORD = ("[Answer|Reply] [in|with] [only|just|] one word[.|]", "[Use|Give|Say] only one word[.|]", "One word answers only[.|]")


def with_system(rng: Random, between: Callable[[Random], list[Message]], one_word: Callable[[Random], list[Message]]) -> list[Message]:
    """A chat under a system prompt: a plain one, a name for the model, a style, or one-word answers."""
    kind = rng.random()
    body = [message for _ in range(rng.randint(1, 3)) for message in between(rng)]
    if kind < 0.4:
        return [{"role": "system", "content": rng.choice(names("system plain"))}, *body]
    if kind < 0.65:
        slots = {"bot": rng.choice(names("bot names"))}
        topic, answer = rng.choice(_NAME_ANSWERS)
        asked = spoken(expand(rng.choice(exchanges()[topic].users), rng), {}, rng)
        turn = [user(asked), assistant(fill(answer, slots))]
        body = [*turn, *body] if rng.random() < 0.6 else [*body[:2], *turn]
        return [{"role": "system", "content": fill(expand(_NAMED, rng), slots)}, *body]
    if kind < 0.72:
        body = [message for _ in range(rng.randint(1, 3)) for message in one_word(rng)]
        return [{"role": "system", "content": expand(rng.choice(_ONE_WORD), rng)}, *body]
    prompt, change = rng.choice(_STYLES)
    return [{"role": "system", "content": expand(prompt, rng)}, *_styled(body, change)]
