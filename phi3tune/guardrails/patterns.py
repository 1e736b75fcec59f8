"""Guards that find places by patterns: regular expressions, secrets and personal data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import regex

from phi3tune.data.audit import personal
from phi3tune.guardrails.check import CheckError, Span, SpanCheck

_NEVER = "\U0010ffff"  # a character that Unicode will never assign
_LETTERS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_PERSONAL_SECONDS = 1.0  # far more than they need: these patterns are our own


class Openings:
    """Where a text that is still being written ends in what may become a match of one of some patterns.

    They are asked for with a character behind them that no text has: so they can only match in part, at the text's
    end. Raises `regex.error` for a pattern that cannot be read.
    """

    def __init__(self, patterns: Iterable[tuple[str, int]], *, seconds: float) -> None:
        # All in one: one search costs an eighth of forty.
        either = "|".join(f"(?{_letters(flags)}:{pattern})" for pattern, flags in patterns)
        self._pattern = regex.compile(f"(?:{either}){_NEVER}")
        self._seconds = seconds

    def first(self, text: str, start: int) -> int:
        """The first place from `start` on where a match that reaches the end could begin; else the end."""
        with _in_time(self._seconds):
            match = self._pattern.search(text, start, partial=True, timeout=self._seconds, concurrent=True)
        return len(text) if match is None else match.start()


class PatternCheck(SpanCheck):
    """Places that match a regular expression, in the syntax of the `regex` package, which contains Python's.

    A search that takes longer than `seconds` is given up; until then other threads go on. Raises `ValueError` for a
    pattern that cannot be read or that matches the empty text.
    """

    def __init__(self, pattern: str, what: str, *, ignore_case: bool, seconds: float) -> None:
        flags = regex.IGNORECASE if ignore_case else 0
        try:
            self._pattern = regex.compile(pattern, flags)
            self._openings = Openings([(pattern, flags)], seconds=seconds)
        except (regex.error, RecursionError, OverflowError) as error:
            raise ValueError(f"it cannot be read as a regular expression: {error}") from None
        if self._pattern.search(""):
            raise ValueError("it matches the empty text, so it would be found everywhere; ask for a character or more")
        self._what = what
        self._seconds = seconds

    def spans(self, text: str, start: int = 0) -> Iterator[Span]:
        with _in_time(self._seconds):
            for match in self._pattern.finditer(text, start, timeout=self._seconds, concurrent=True):
                if match.end() > match.start():
                    yield Span(match.start(), match.end(), self._what, match.start())

    def settled(self, text: str, start: int) -> int:
        return self._openings.first(text, start)


class PersonalCheck(SpanCheck):
    """Places with secrets or personal data of some kinds, as the audit of datasets finds them."""

    def __init__(self, codes: Sequence[str]) -> None:
        self._codes = tuple(codes)
        found = personal.candidates(codes)
        self._openings = Openings(((p.pattern, p.flags) for p in found), seconds=_PERSONAL_SECONDS)

    def spans(self, text: str, start: int = 0) -> Iterator[Span]:
        found = personal.find(text, start, self._codes)
        return iter(sorted(Span(place.start, place.end, place.code, place.since) for place in found))

    def settled(self, text: str, start: int) -> int:
        return self._openings.first(text, start)


def _letters(flags: int) -> str:
    """Flags as they are written within a pattern."""
    return "".join(letter for letter, flag in _LETTERS.items() if flags & flag)


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise CheckError(f"it took longer than {seconds:g} seconds") from None
