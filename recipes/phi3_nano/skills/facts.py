"""Skills on everyday knowledge: capitals, colours, animals, kinds of things and what they are for."""

from random import Random

from ..sources import pairs, things, uses
from .base import Skill, Slots, Task, from_table, with_article

_NO_ARTICLE = {"drink", "food", "metal", "weather", "colour", "sport", "country"}
_ABOUT = ("and {x}", "what about {x}", "how about {x}", "and for {x}")
_KINDS = tuple((word, kind) for kind, words in things().items() for word in words)
_ANIMATE = ("animal", "bird", "fish", "insect")


def _named(word: str, kind: str) -> str:
    """The word as a question has it: with an article unless it has no plural."""
    return word if kind in _NO_ARTICLE or word.endswith(("trousers", "pliers")) else with_article(word)


def _kind(rng: Random) -> tuple[Slots, str]:
    word, kind = rng.choice(_KINDS)
    return {"x": _named(word, kind), "bare": word}, kind


def _is_a(rng: Random) -> tuple[Slots, str]:
    word, kind = rng.choice(_KINDS)
    asked = kind
    if rng.random() < 0.5:
        unlike = [other for other in things() if other != kind and not (kind in _ANIMATE and other in _ANIMATE)]
        near = {"fruit": "vegetable", "vegetable": "fruit", "tool": "device", "drink": "food", "flower": "tree"}
        asked = near[kind] if kind in near and rng.random() < 0.25 else rng.choice(unlike)
    return {"x": _named(word, kind), "kind": with_article(asked) if asked != "weather" else "a kind of weather"}, (
        "Yes" if asked == kind else "No"
    )


def _purpose(rng: Random) -> tuple[Slots, str]:
    use = rng.choice(uses())
    return {"x": use.subject}, use.purpose


def _meaning(rng: Random) -> tuple[Slots, str]:
    use = rng.choice(uses())
    return {"x": use.subject}, use.sentence


def _tool(rng: Random) -> tuple[Slots, str]:
    use = rng.choice([use for use in uses() if use.purpose not in {"telling the time", "giving light", "cutting"}])
    return {"x": use.purpose}, use.subject


_home = from_table({capital: country for country, capital in pairs("capitals").items()})
_colour_words = {name: colour for name, colour in pairs("colours").items()}

SKILLS = (
    Skill("capital cities", "names the capital of a country, or the country of a capital", (
        Task(("[what is|what's|tell me|name|say|give me|do you know|whats] the capital [city|] of {x}", "capital of {x}", "which city is the capital of {x}",
              "{x}: capital", "the capital of {x} is", "what is the capital city of {x}", "what city is the capital of {x}", "what is {x}'s capital",
              "which city is the capital in {x}", "{x} has which capital", "what capital does {x} have"), from_table(pairs("capitals")), ("and of {x}", *_ABOUT)),
        Task(("[which|what] country has the capital {x}", "{x} is the capital of [which|what] country", "of which country is {x} the capital",
              "in which country is {x}", "what country is {x} in", "{x} is the capital of", "which country does {x} belong to", "where is {x}"), _home, ("and {x}", "what about {x}")),
    ), 1.7),
    Skill("colours", "says what colour a thing usually has", (
        Task(("what colour [is|has] {x}", "what color is {x}", "[which|what] colour does {x} have", "[tell me|name|say|give me] the colour of {x}", "{x} has what colour",
              "what is the colour of {x}", "colour of {x}", "[which|what] color is {x}", "what is the color of {x}", "{x}: what colour"), from_table(_colour_words), _ABOUT),
    ), 1.0),
    Skill("animal sounds", "says what sound an animal makes", (
        Task(("what [sound|noise] does a {x} make", "what does a {x} say", "what does the {x} say", "which sound does a {x} make", "how does a {x} sound",
              "[tell me|name|say|make] the sound of a {x}", "sound of a {x}", "what is the sound of a {x}", "the {x} says", "what noise do you hear from a {x}"),
             from_table(pairs("sounds")), ("and a {x}", "and the {x}", "what about a {x}", "how about a {x}")),
    ), 0.8),
    Skill("young animals", "names the young of an animal", (
        Task(("what is a [baby|young] {x} called", "what do you call a [baby|young|little] {x}", "[tell me|name|give me] the name of a [baby|young] {x}", "[baby|young] {x}",
              "what is the young of a {x}", "what is the name for a [baby|young] {x}", "a [baby|young] {x} is called", "what is the baby of a {x} [called|]", "how do you call a baby {x}"),
             from_table(pairs("young")), ("and a {x}", "and of a {x}", "what about a {x}", "how about a {x}")),
    ), 0.8),
    Skill("kinds of things", "says what kind of thing something is, such as animal, fruit, tool or vehicle", (
        Task(("what kind of thing is {x}", "what [type|sort] of thing is {x}", "what is {x}, an animal, a tool or something else", "[name|tell me|say|give me] the category of {x}",
              "which category does {x} belong to", "what category is {x}", "[which|what] group does {x} belong to", "{x} is what kind of thing", "category of {x}", "category: {bare}",
              "sort this: {bare}", "what kind of thing is this: {bare}", "put {bare} in a category", "to which category belongs {x}"), _kind, ("and {x}", "what about {x}", "how about {x}")),
    ), 2.2),
    Skill("yes or no", "answers whether something is a kind of thing, such as: is a rose a flower?", (
        Task(("is {x} {kind}", "would you call {x} {kind}", "[true or false|yes or no]: {x} is {kind}", "is it true that {x} is {kind}", "can you say that {x} is {kind}",
              "[tell me|say] [if|whether] {x} is {kind}", "do you think [that|] {x} is {kind}", "{x} is {kind}, right", "is {x} {kind}, yes or no"), _is_a),
    ), 2.4),
    Skill("what it is for", "says what a common thing is used for, or which thing is used for something", (
        Task(("what is {x} [used for|for|good for]", "what do [you|we|people] use {x} for", "what can you do with {x}", "[tell me|say] what {x} is [used for|for]", "what do you do with {x}",
              "what is the use of {x}", "why do [people|we] use {x}", "what is the purpose of {x}", "{x} is used for", "what do you need {x} for"), _purpose, _ABOUT),
        Task(("what do you use for {x}", "[which|what] thing is used for {x}", "what is used for {x}", "what do [I|you|we] need for {x}", "what helps with {x}", "name a thing for {x}"), _tool),
    ), 1.5),
    Skill("meanings", "explains in one sentence what a common thing is", (
        Task(("what is {x}", "[explain|describe] what {x} is", "what does the word {x} mean", "[give me|what is] [a definition|the meaning] of {x}", "tell me what {x} is", "can you explain {x}",
              "define {x}", "explain {x} [to me|in one sentence|]", "do you know what {x} is", "what exactly is {x}", "say in one sentence what {x} is"), _meaning, _ABOUT),
    ), 1.5),
)  # fmt: skip

