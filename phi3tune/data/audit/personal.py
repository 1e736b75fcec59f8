"""Secrets and personal data: e-mail addresses, telephone and payment card numbers, API keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

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
    r"|\bxai-[A-Za-z0-9]{40,}|\br8_[A-Za-z0-9]{35,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
_LONG = re.compile(r"[A-Za-z0-9_\-/+=.]{20}")
# Plugins that match what is no secret in a chat: addresses, and names with a loose rule.
_UNUSED = {"IPPublicDetector", "ArtifactoryDetector", "BasicAuthDetector", "SoftlayerDetector", "NpmDetector"}


def scan(text: str) -> Iterator[str]:
    """The code of each kind of personal data in a text, at most once each."""
    if "@" in text and _EMAIL.search(text):
        yield "email_address"
    if _NUMBER.search(text):
        card = any(map(is_card, _CARD.findall(text)))
        if card:
            yield "card_number"
        if has_phone(_CARD.sub(" ", text) if card else text):
            yield "phone_number"
    if (_LONG.search(text) or "PRIVATE KEY" in text) and has_key(text):
        yield "api_key"


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


def has_key(text: str) -> bool:
    """Whether a text holds a key of a service, by the patterns of detect-secrets and some more."""
    return bool(_KEYS.search(text)) or any(pattern.search(text) for pattern in _plugin_patterns())


def has_phone(text: str) -> bool:
    """Whether a text holds a telephone number that exists: international, written the American way, or called."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    numbers = [match[0] for match in _INTERNATIONAL.finditer(text)] if "+" in text else []
    numbers += [match[0] for match in _AMERICAN.finditer(text)]
    numbers += [match[1] for match in _CALLED.finditer(text)]
    return any(PhoneNumberMatcher(number, "US", leniency=Leniency.VALID).has_next() for number in numbers)


@cache
def _plugin_patterns() -> tuple[re.Pattern[str], ...]:
    """The patterns of detect-secrets that know a service's keys by their form, not by how random they look."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    classes: Iterable[Any] = get_mapping_from_secret_type_to_class().values()
    keyed = [c for c in classes if issubclass(c, RegexBasedDetector) and c.__name__ not in _UNUSED]
    return tuple(pattern for plugin in keyed for pattern in plugin.denylist)
