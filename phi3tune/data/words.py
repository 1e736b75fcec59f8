"""Text as words without case and punctuation: what is compared when two rows are called the same."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from phi3tune.data.conversation import Conversation

_CACHED = 500_000
_FRAME_SHARE = 0.25
_FRAME_ROWS = 100
# Operators stay: "3 + 5" and "3 - 5" ask different things.
_MARKS = {ord(mark): " " for mark in '.,;:!?"()[]{}…“”„«»—–|`_¿¡、。！？「」・，：；'} | {
    ord(mark): None for mark in "'’"
}


def words(text: str) -> list[str]:
    """Lower-case words in their order; operators and numbers count as words. Never empty for a text that is not.

    Scripts that are written without spaces give one word for each character.
    """
    plain = text.lower().translate(_MARKS)
    if plain.isascii():
        return plain.split() or [text.strip()]
    spaced = "".join(f" {c} " if "\u3040" <= c <= "\u9fff" or "\u0e00" <= c <= "\u0eff" else c for c in plain)
    return spaced.split() or [text.strip()]


def of_row(conversation: Conversation) -> tuple[list[str], list[str]]:
    """Words of the prompt (all messages but the last) and of the answer. Plain text is all prompt."""
    *before, last = conversation.messages
    if not before:
        return words(last["content"]), []
    prompt = before[0]["content"] if len(before) == 1 else "\n".join(message["content"] for message in before)
    return words(prompt), words(last["content"])


class WordIds(dict[str, int]):
    """A 64-bit number for each word, the same in every process and on every system."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHED:
            self.clear()
        number = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        self[word] = number
        return number


def text_hash(text: str) -> int:
    """A 64-bit hash, the same in every process and on every system."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def frame(prompts: Sequence[Sequence[str]]) -> frozenset[str]:
    """Words in more than a quarter of the prompts: a fixed instruction and function words, which say nothing of a row.

    Numbers never belong to it, and fewer than 100 prompts have none.
    """
    if len(prompts) < _FRAME_ROWS:
        return frozenset()
    counts = Counter(word for prompt in prompts for word in set(prompt))
    often = {word for word, count in counts.items() if count > _FRAME_SHARE * len(prompts)}
    return frozenset(word for word in often if not has_digit(word))


def has_digit(word: str) -> bool:
    return any(c.isdigit() for c in word)


def telling(prompt: Sequence[str], frame_words: frozenset[str]) -> list[str]:
    """The words of a prompt that are not of the frame, or all when there are no others."""
    return [word for word in prompt if word not in frame_words] or list(prompt)
