"""Words run together and words cut, in English text: by how frequent words are, in general and in the dataset.

A joint is a rare word that two or three frequent words make up ("thequick"), or a sentence that starts without a
space ("end.Next"). A cut is a frequent word with a stray space ("rem ember"), or a text that stops within a word.
Frequencies are wordfreq's, on the Zipf scale: log10 of the occurrences in a billion words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from phi3tune.data.audit.leftovers import has_code, prose

_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "the a an of to and in is it you that he was for on are as with his they i at be this have from or had by but "
        "not what all were we when your can there she how if will up her him its my has do so than their which would",
    )
)
# The mark comes first, so that the search leaps from mark to mark.
_SENTENCE_JOINT = re.compile(r"[.!?,](?:(?<=[a-z]{2}[.!?])(?=[A-Z][a-z])|(?<=[a-z]{2},)(?=[a-z]{2}))")
_COMMA_JOINT = re.compile(r"(?<![\w./@,-])[A-Za-z]?[a-z]+,[a-z]{2,}(?![\w.(/,])")
_JOINED_SENTENCES = re.compile(r"(?<![\w./@-])([A-Za-z]?[a-z]+)[.!?]([A-Z][a-z]+)(?![\w.(/])")
_LAST_WORD = re.compile(r"(?:^|[\s-])[\"'(“‘]?([A-Za-z]+)$")
_LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)]|#|\||>|[\w ]{1,30}:)")
_PART_ZIPF = {1: 7.0, 2: 5.9, 3: 4.6}
_LONG_PART_ZIPF = 3.0
_UNKNOWN_JOINT, _KNOWN_JOINT = -2.2, 2.2
_SELDOM_WORD, _SELDOM_JOINT = 2.0, 1.8  # what few write is rather a slip than a word
_SPLIT_SURE, _SPLIT, _SPLIT_ODD = 4.6, 3.8, 3.3
_RARE = 3.6
_WHOLE, _WHOLE_LENGTH = 2.3, 5
_SHORTEST_JOINT, _LONGEST_JOINT = 4, 24
_SHORT_WORD = 5.5
_CACHED = 500_000
_KNOWN_WORD, _ENGLISH_DATASET = 3.0, 0.8
_LETTER, _NAMED_LETTER = 4.0, 6.0
_COMMON, _FREQUENT = 4.3, 4.8
_PROSE_WORDS = 8
_SELDOM, _FRAGMENTS = 0.01, 0.3
_FRAGMENT_ZIPF = {1: 7.0, 2: 5.8, 3: 4.3}
_LONG_FRAGMENT_ZIPF = 3.0
_Line = Literal["long", "short", "item"]
Code = Literal["joined_words", "cut_words"]
Place = tuple[str, int]


@dataclass(frozen=True)
class _Suspect:
    code: Code
    place: Place
    word: str  # as it stands, or as it would be without the stray space
    parts: tuple[str, ...]
    name: str


class Speller:
    """Looks at row after row; says at the end what is wrong, when the dataset's own vocabulary is known."""

    def __init__(self) -> None:
        from wordfreq import get_frequency_dict

        self._zipf = {word: math.log10(share) + 9 for word, share in get_frequency_dict("en").items()}
        self._longest = _continued(self._zipf)
        self._rows: Counter[str] = Counter()
        self._plain: set[str] = set()
        self._odd: dict[str, tuple[str, ...]] = {}
        self._compounds = self._split_words()
        self._suspects: list[_Suspect] = []
        self._endings: dict[_Line, list[_Suspect]] = {"long": [], "short": [], "item": []}
        self._answers: Counter[_Line] = Counter()
        self._looked_at = self._english = 0

    def zipf(self, word: str) -> float:
        """The frequency of a word; of letters as parts of words, and not as what is left of "it's"."""
        if len(word) == 1 and word not in "ai":
            return _NAMED_LETTER if word in "bcmnxy" else _LETTER
        return self._zipf.get(word, 0.0)

    def look(self, place: Place, contents: Sequence[str], words: Sequence[str], distinct: set[str]) -> None:
        """A row: its messages' contents, and all their words as `words.words` gives them."""
        self._rows.update(distinct)
        if len(self._rows) > 2 * _CACHED:  # what occurred once in a million words is forgotten
            self._rows = Counter({word: rows for word, rows in self._rows.items() if rows > 1})
        odd = self._odd_among(distinct)
        joints = {word: parts for word, parts in odd.items() if parts}
        pairs = set(pairwise(words))
        suspicious = pairs & self._compounds
        if odd:
            suspicious.update(pair for pair in pairs if pair[0] in odd or pair[1] in odd)
        splits = [pair for pair in suspicious if self._may_be_split(*pair)]
        sentence = any(_SENTENCE_JOINT.search(text) for text in contents)
        answer = contents[-1].rstrip()
        ending = answer[-1:].isalpha()
        line = _last_line(answer)
        self._answers[line] += 1
        if not (joints or splits or sentence or ending):
            return
        english = _is_english(distinct)
        self._looked_at += 1
        self._english += english
        if not (english or self._is_english_here(distinct)):
            return
        if ending:
            self._look_at_end(place, answer, line)
        text = prose("\n".join(contents))
        if (joints or splits or sentence) and not has_code(text):
            self._suspect(place, text, joints, splits)

    def found(self) -> list[tuple[Code, Place, str]]:
        """(code, row, the words in question) of what is wrong, in the order of the rows."""
        found = [(s.code, s.place, s.name) for s in self._suspects if self._confirmed(s)]
        for line, endings in self._endings.items():
            # Where texts hardly ever end without a mark, and where such ends mostly are no words, all are cut.
            fragments = [ending for ending in endings if self._is_fragment(ending.word)]
            odd = len(endings) <= _SELDOM * self._answers[line] or len(fragments) >= _FRAGMENTS * len(endings)
            # A list or a heading may end with a word; a whole sentence may not.
            cut = [e for e in endings if line == "long" or not self._is_whole(e.word)] if odd else fragments
            found += [(s.code, s.place, s.name) for s in cut]
        return sorted(found, key=lambda each: (each[1], each[0]))

    def parts(self, word: str) -> tuple[str, ...]:
        """The words that a joint consists of; empty where it is a word of its own."""
        best, score = self._best_parts(word)
        own = max(self.zipf(word), self.zipf(word[:-1]) if word.endswith("s") else 0.0)
        more = _SELDOM_JOINT if own < _SELDOM_WORD else _KNOWN_JOINT
        needed = _UNKNOWN_JOINT if own == 0 else max(own + more, 0.5)
        return best if best and score >= needed else ()

    def _best_parts(self, word: str) -> tuple[tuple[str, ...], float]:
        """The likeliest parts and their expected frequency, as if words were independent."""
        best: tuple[str, ...] = ()
        score = -math.inf
        for at in range(1, len(word)):
            one, two = word[:at], word[at:]
            if not self._is_part(one):
                continue
            tail: tuple[str, ...] = (two,) if self._is_part(two) else ()
            frequency = self.zipf(two)
            if not tail and len(two) >= 6 and at >= 3:
                tail, frequency = self._best_parts(two)
            if tail and self.zipf(one) + frequency - 9 > score:
                best, score = (one, *tail), self.zipf(one) + frequency - 9
        return best, score

    def _is_part(self, word: str) -> bool:
        return self.zipf(word) >= _PART_ZIPF.get(len(word), _LONG_PART_ZIPF)

    def _odd_among(self, words: set[str]) -> dict[str, tuple[str, ...]]:
        """The odd ones with their `oddity`. Answers are remembered: most words come again and again."""
        found = {}
        for word in words - self._plain:
            parts = self._odd.get(word)
            if parts is None:
                parts = self.oddity(word)
                if parts is None:
                    self._plain.add(word)
                    continue
                self._odd[word] = parts
            found[word] = parts
        for memory in (self._plain, self._odd):
            if len(memory) > _CACHED:
                memory.clear()
        return found

    def oddity(self, word: str) -> tuple[str, ...] | None:
        """None for a word that is part of no mistake; the parts of a joint; () for one that is rare, or short without
        being frequent, and so may be a piece of a word."""
        if not (word.isascii() and word.isalpha()) or len(word) > _LONGEST_JOINT:
            return None
        zipf = self.zipf(word)
        parts = self.parts(word) if len(word) >= _SHORTEST_JOINT else ()
        return parts if parts or zipf < _RARE or (len(word) <= 3 and zipf < _SHORT_WORD) else None

    def _may_be_split(self, one: str, two: str) -> bool:
        whole = one + two
        if len(whole) < 4 or not (whole.isascii() and whole.isalpha()) or self.zipf(whole) < _WHOLE:
            return False
        return self._gain(one, two) >= _SPLIT_ODD

    def _suspect(
        self, place: Place, text: str, joints: Mapping[str, tuple[str, ...]], splits: Sequence[tuple[str, str]]
    ) -> None:
        """Keep what stands in the text as prose, and not as an address or a name."""
        for match in _JOINED_SENTENCES.finditer(text):
            one, two = match[1].lower(), match[2].lower()
            if len(one) > 1 and min(self.zipf(one), self.zipf(two)) >= _LONG_PART_ZIPF:
                self._suspects.append(_Suspect("joined_words", place, "", (), match[0]))
        commas = _COMMA_JOINT.findall(text)
        if len(commas) == 1 and ", " in text:  # several are a list that is written so
            self._suspects.append(_Suspect("joined_words", place, "", (), commas[0]))
        for word, parts in joints.items():
            if written := _written(word, text):
                self._suspects.append(_Suspect("joined_words", place, word, parts, written))
        for one, two in splits:
            split = re.search(rf"\b{re.escape(one)} {re.escape(two)}\b", text, re.IGNORECASE)
            if split and split[0][len(one) + 1 :].islower():
                self._suspects.append(_Suspect("cut_words", place, one + two, (one, two), split[0]))

    def _split_words(self) -> frozenset[tuple[str, str]]:
        """Frequent words that a space makes two frequent words of, such as "under stand"."""
        pairs = set()
        for word, zipf in self._zipf.items():
            if zipf < 3.8 or len(word) < 5 or not (word.isascii() and word.isalpha()):
                continue
            for at in range(2, len(word) - 1):
                one, two = word[:at], word[at:]
                if (
                    min(self.zipf(one), self.zipf(two)) >= _RARE
                    and zipf - (self.zipf(one) + self.zipf(two) - 9) >= _SPLIT
                ):
                    pairs.add((one, two))
        return frozenset(pairs)

    def _look_at_end(self, place: Place, answer: str, line: _Line) -> None:
        last = _LAST_WORD.search(answer.rsplit("\n", 1)[-1])
        if last and " " in answer and last[1].lower() in self._longest and not has_code(answer):
            name = " ".join(answer.split()[-3:])
            self._endings[line].append(_Suspect("cut_words", place, last[1].lower(), (), name))

    def _is_english_here(self, words: set[str]) -> bool:
        """A row that is too short to tell, in a dataset that is English: most of its words are known."""
        known = sum(self.zipf(word) >= _KNOWN_WORD for word in words)
        return self._english >= _ENGLISH_DATASET * self._looked_at and 2 * known >= len(words)

    def _is_fragment(self, word: str) -> bool:
        """Whether the last word of a text is none, but the beginning of one."""
        often = 0.005 * self._answers.total() if len(word) in _FRAGMENT_ZIPF else 0
        return self.zipf(word) < _FRAGMENT_ZIPF.get(len(word), _LONG_FRAGMENT_ZIPF) and self._rows[word] <= max(
            2, often
        )

    def _is_whole(self, word: str) -> bool:
        return len(word) >= _WHOLE_LENGTH and self.zipf(word) >= _RARE

    def _confirmed(self, suspect: _Suspect) -> bool:
        """A joint is no word of the dataset's own: rare against its parts. Nor is a split pair of words."""
        rows, parts = self._rows, suspect.parts
        if not parts:
            return True
        if suspect.code == "joined_words":
            used = all(rows[part] or self.zipf(part) >= _COMMON for part in parts)
            frequent = max(map(self.zipf, parts)) >= _FREQUENT
            # A capital makes a name likely, and names are put together from rarer words.
            likely = (used and frequent) if suspect.name[0].isupper() else (used or frequent)
            return likely and rows[suspect.word] <= max(2, 0.02 * min(rows[part] for part in parts))
        odd = min(rows[part] for part in parts) <= max(2, 0.02 * rows[suspect.word])
        gain = self._gain(*parts)
        return gain >= _SPLIT_SURE or (odd and (gain >= _SPLIT or rows[suspect.word] > 1))

    def _gain(self, one: str, two: str) -> float:
        """How much more frequent a word is than its parts would be side by side by chance."""
        return self.zipf(one + two) - (self.zipf(one) + self.zipf(two) - 9)


def _continued(zipf: dict[str, float]) -> dict[str, float]:
    """For each beginning of a word, how frequent the most frequent longer word is."""
    longest: dict[str, float] = {}
    for word, frequency in zipf.items():
        if frequency >= 3.0 and word.isascii():
            for length in range(1, len(word)):
                beginning = word[:length]
                if frequency > longest.get(beginning, 0.0):
                    longest[beginning] = frequency
    return longest


def _written(word: str, text: str) -> str | None:
    """A word as it stands in a text; None in addresses and names of files, and for names with an inner capital."""
    found = re.findall(rf"(?<![\w@/.#-]){word}(?![\w@/#-]|\.\w)", text, re.IGNORECASE)
    camel = any(each[0].isupper() and not each[1:].islower() for each in found)
    return None if camel or not found else found[0]


def _is_english(words: set[str]) -> bool:
    hits = len(words & _FUNCTION_WORDS)
    return hits >= 2 and hits >= 0.1 * sum(map(str.isalpha, words))


def _last_line(answer: str) -> _Line:
    last = answer.rsplit("\n", 1)[-1]
    if _LIST_ITEM.match(last):
        return "item"
    return "long" if last.count(" ") >= _PROSE_WORDS - 1 else "short"
