"""Block lists: thousands of phrases looked for at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from phi3tune.guardrails.check import Span, SpanCheck


class PhraseCheck(SpanCheck):
    """Places with one of some phrases, the longest where several begin; white space stands for any other.

    A text is read on from each place for as long as what was read begins a phrase, so that many phrases cost as much
    as a few, and no text takes long.
    """

    def __init__(self, phrases: Collection[str], *, ignore_case: bool, whole_words: bool) -> None:
        self._ignore_case, self._whole_words = ignore_case, whole_words
        self._phrases = {"".join(map(self._folded, " ".join(phrase.split()))) for phrase in phrases}
        self._beginnings = {phrase[:length] for phrase in self._phrases for length in range(1, len(phrase) + 1)}

    def spans(self, text: str, start: int = 0) -> Iterator[Span]:
        place = start
        while place < len(text):
            end, _ = self._read(text, place)
            if end is not None:
                yield Span(place, end, "phrase", place)
            place = end or place + 1

    def settled(self, text: str, start: int) -> int:
        return next((place for place in range(start, len(text)) if self._read(text, place)[1]), len(text))

    def _read(self, text: str, start: int) -> tuple[int | None, bool]:
        """Where the longest phrase from `start` ends, and whether the text's continuation may change that."""
        if self._whole_words and start > 0 and _in_word(text[start - 1]):
            return None, False
        read, place = "", start
        found: int | None = None
        while place < len(text):
            read += self._folded(text[place])
            place += 1
            if read not in self._beginnings:
                return found, False
            if read[-1] == " ":
                while place < len(text) and text[place].isspace():
                    place += 1
            if read in self._phrases and not (self._whole_words and place < len(text) and _in_word(text[place])):
                found = place
        return found, True

    def _folded(self, character: str) -> str:
        if character.isspace():
            return " "
        lower = character.lower()
        # A few letters have a lower case of two characters, which would shift every place behind them.
        return lower if self._ignore_case and len(lower) == 1 else character


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"
