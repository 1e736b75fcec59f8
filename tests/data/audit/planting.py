"""Rows without a fault, and rows in which each kind of fault was planted: from a seeded generator and word lists."""

from __future__ import annotations

import random
import re
from functools import cache

from wordfreq import top_n_list

from phi3tune.data.conversation import Conversation

FRAMES = (
    "The {} of the {} was {} before they had a {} {}.",
    "If you have a {} {}, then the {} will be as {} as the {}.",
    "There is a {} in the {} that has {} {} and a {} for it.",
    "They said that {} of the {} are {} with {} in the {}.",
    "When he was in the {}, his {} had {} a {} from the {}.",
    "It is {} that each {} has {} in its {} or at the {}.",
)


@cache
def vocabulary() -> tuple[str, ...]:
    """Frequent English words, without those that are two frequent words side by side or very short."""
    return tuple(word for word in top_n_list("en", 4000) if word.isascii() and word.isalpha() and len(word) >= 5)


def sentence(rng: random.Random) -> str:
    return rng.choice(FRAMES).format(*rng.sample(vocabulary(), 5))


def text(rng: random.Random, sentences: tuple[int, int]) -> str:
    return " ".join(sentence(rng) for _ in range(rng.randint(*sentences)))


def row(number: int, prompt: str, answer: str, file: str = "rows.jsonl") -> Conversation:
    return Conversation(({"role": "user", "content": prompt}, {"role": "assistant", "content": answer}), number, file)


def clean_rows(count: int, seed: int = 1) -> list[Conversation]:
    rng = random.Random(seed)
    return [row(n, text(rng, (1, 4)), text(rng, (1, 4))) for n in range(count)]


def prompt_and_answer(conversation: Conversation) -> tuple[str, str]:
    prompt, answer = (message["content"] for message in conversation.messages)
    return prompt, answer


def near_copy(content: str, rng: random.Random) -> str:
    """A text with one or two words swapped, dropped, added or re-cased, or other punctuation."""
    words = content.split()
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(words) - 1)
        change = rng.choice(("swap", "drop", "add", "case", "replace", "marks"))
        if change == "swap":
            words[place], words[place + 1] = words[place + 1], words[place]
        elif change == "drop" and len(words) > 6:
            del words[place]
        elif change == "add":
            words.insert(place, rng.choice(vocabulary()))
        elif change == "case":
            words[place] = words[place].upper()
        elif change == "replace":
            words[place] = rng.choice(vocabulary())
        else:
            words[place] = words[place].strip(".,") + rng.choice((",", "!", ";"))
    return " ".join(words)


def cut(content: str, rng: random.Random) -> str:
    """A text that stops within a word, or a word that a stray space cuts in two."""
    places = list(re.finditer(r"\b[a-z]{5,}\b", content))
    word = rng.choice(places[1:])
    at = rng.randrange(word.start() + 2, word.end() - 1)
    return content[:at] if rng.random() < 0.5 else f"{content[:at]} {content[at:]}"


def joined(content: str, rng: random.Random) -> str:
    """A text with a space missing: between two words, or after a sentence."""
    place = rng.choice([m.start() for m in re.finditer(r" (?=[A-Za-z])", content)])
    return content[:place] + content[place + 1 :]


def card(rng: random.Random) -> str:
    """A number with an issuer's prefix and a right check digit, written in one of the usual ways."""
    prefix, length = rng.choice((("4", 16), ("51", 16), ("55", 16), ("37", 15), ("6011", 16), ("2221", 16)))
    digits = prefix + "".join(rng.choice("0123456789") for _ in range(length - len(prefix) - 1))
    total = sum(sum(divmod(int(d) * 2, 10)) if i % 2 == 0 else int(d) for i, d in enumerate(reversed(digits)))
    digits += str(-total % 10)
    groups = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
    separator = rng.choice(("", " ", "-"))
    parts, at = [], 0
    for size in groups:
        parts.append(digits[at : at + size])
        at += size
    return separator.join(parts)
