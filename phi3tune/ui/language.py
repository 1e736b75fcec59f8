"""Which language a request asks for."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

ENGLISH, JAPANESE = "en", "ja"
LANGUAGES = {ENGLISH: "English", JAPANESE: "日本語"}
COOKIE = "phi3tune_language"


def chosen(headers: Mapping[str, str]) -> str | None:
    """The language that a visitor chose on the page; None when they did not. Names of headers are in small letters."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return cookie.value if cookie is not None and cookie.value in LANGUAGES else None


def of_request(headers: Mapping[str, str]) -> str:
    """What the visitor chose, else their browser's first language when it is one of ours, else English.

    Only the first one counts: Gradio's own texts go by it.
    """
    if language := chosen(headers):
        return language
    first = headers.get("accept-language", "").split(",")[0].split(";")[0].strip().lower().partition("-")[0]
    return first if first in LANGUAGES else ENGLISH
