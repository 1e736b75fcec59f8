"""Secrets and personal data: e-mail addresses, telephone and payment card numbers, API keys."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
_NUMBER = re.compile(r"\d(?:[ ().\-\u2010-\u2015\u00a0]{0,3}\d){6}")
_INTERNATIONAL = re.compile(r"\+\d{1,3}[ ().\-\u2010-\u2015\u00a0]{0,2}\d[\d ().\-\u2010-\u2015\u00a0]{5,20}\d(?!\d)")
_AMERICAN = re.compile(r"(?<![\w.,=*/+-])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}([ .-]))\d{3}[ .-]\d{4}(?![\w=*/+-])")
_CALLED = re.compile(
    r"\b(?:call|dial|fax|mobile|cell|phone|tel|telephone|whatsapp|sms|hotline)\b\D{0,30}"
    r"(\(?\d[\d ().\-\u2010-\u2015\u00a0]{5,18}\d)(?!\d)",
    re.IGNORECASE,
)
_CARD = re.compile(r"(?<![\d.,])\d(?:[ \-\u00a0]?\d){11,22}(?!\d|[.,]\d)")
_CARD_PREFIX = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}|62\d{14,17}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
)
# What detect-secrets does not know: keys by their prefix, each long enough to be no word.
_KEYS = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}\b|\bsk-ant-[A-Za-z0-9_-]{20,}|\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{32,}"
    r"|\bAIza[A-Za-z0-9_-]{35}|\bya29\.[A-Za-z0-9_-]{30,}|\bgithub_pat_[A-Za-z0-9_]{40,}|\bgsk_[A-Za-z0-9]{40,}"
    r"|\bxai-[A-Za-z0-9]{40,}|\br8_[A-Za-z0-9]{35,}"
)
_REST = r"(?:[A-Za-z0-9_\-/+=]|\.(?=[A-Za-z0-9_]))*"
# With its lines, up to its end or, where that is missing, the text's.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\Z)", re.DOTALL
)
_LONG = re.compile(r"[A-Za-z0-9_\-/+=.]{20}")
CODES = ("email_address", "card_number", "phone_number", "api_key")
_NUMBERS = {"card_number", "phone_number"}
# Plugins that match what is no secret in a chat: addresses, and names with a loose rule.
_UNUSED = {"IPPublicDetector", "ArtifactoryDetector", "BasicAuthDetector", "SoftlayerDetector", "NpmDetector"}


class Place(NamedTuple):
    """Where a text holds something personal: from character `start` to before `end`.

    `since` is where the words begin that show what it is, such as "call" before a number.
    """

    code: str
    start: int
    end: int
    since: int


def scan(text: str) -> Iterator[str]:
    """The code of each kind of personal data in a text, at most once each."""
    yield from dict.fromkeys(place.code for place in find(text))


def find(text: str, start: int = 0, codes: Collection[str] = CODES) -> Iterator[Place]:
    """Every place with personal data of these kinds from `start` on, kind by kind; places of one kind may overlap."""
    if "email_address" in codes and "@" in text:
        yield from (_place("email_address", match) for match in _EMAIL.finditer(text, start))
    if not _NUMBERS.isdisjoint(codes) and _NUMBER.search(text, start):
        cards = [_place("card_number", match) for match in _CARD.finditer(text, start) if is_card(match[0])]
        if "card_number" in codes:
            yield from cards
        if "phone_number" in codes:
            for phone in _phones(text, start):
                if not any(phone.start < card.end and card.start < phone.end for card in cards):
                    yield phone
    if "api_key" in codes and (_LONG.search(text, start) or "PRIVATE KEY" in text):
        for pattern in _key_patterns():
            yield from (_place("api_key", match) for match in pattern.finditer(text, start))


def candidates(codes: Collection[str] = CODES) -> tuple[re.Pattern[str], ...]:
    """Patterns of which one matches wherever `find` finds something of these kinds, and in more places."""
    found = {
        "email_address": (_EMAIL,),
        "card_number": (_CARD,),
        "phone_number": (_INTERNATIONAL, _AMERICAN, _CALLED),
        "api_key": _key_patterns() if "api_key" in codes else (),
    }
    return tuple(pattern for code in CODES if code in codes for pattern in found[code])


def is_card(number: str) -> bool:
    """Whether digits, or some of their groups in a row, have the length and the prefix of a card issuer, and a right
    check digit (Luhn)."""
    from stdnum import luhn

    groups = re.findall(r"\d+", number)
    for start in range(len(groups)):
        for end in range(start + 1, len(groups) + 1):
            digits = "".join(groups[start:end])
            if _CARD_PREFIX.fullmatch(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
                return True
    return False


def _phones(text: str, start: int) -> Iterator[Place]:
    """Telephone numbers that exist: international, written the American way, or called."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    places = [_place("phone_number", match) for match in _INTERNATIONAL.finditer(text, start)] if "+" in text else []
    places += [_place("phone_number", match) for match in _AMERICAN.finditer(text, start)]
    places += [Place("phone_number", *match.span(1), match.start()) for match in _CALLED.finditer(text, start)]
    for place in places:
        if PhoneNumberMatcher(text[place.start : place.end], "US", leniency=Leniency.VALID).has_next():
            yield place


def _place(code: str, match: re.Match[str]) -> Place:
    return Place(code, match.start(), match.end(), match.start())


@cache
def _key_patterns() -> tuple[re.Pattern[str], ...]:
    """Keys as a service writes them: our own patterns, and those of detect-secrets that know a key by its form and not
    by how random it looks. Each goes on to the end of the word, because some of theirs stop within the key."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    classes: Iterable[Any] = get_mapping_from_secret_type_to_class().values()
    keyed = [c for c in classes if issubclass(c, RegexBasedDetector) and c.__name__ not in _UNUSED]
    theirs = [pattern for plugin in keyed for pattern in plugin.denylist]
    return _PRIVATE_KEY, *(re.compile(f"(?:{p.pattern}){_REST}", p.flags) for p in (_KEYS, *theirs))
