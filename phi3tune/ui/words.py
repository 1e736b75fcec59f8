"""Every text of the page, in the language of whoever reads it.

English texts are the keys; `locale/ja.po` holds the Japanese ones. What is built once for everybody (labels, headings,
choices) goes to the browser with both languages in Gradio's own I18n; what a handler says is in the language that its
request asks for; messages that come from below the page, some of them written to disk by workers long ago, are
recognised by their template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from html import escape, unescape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio.i18n import I18nData

from phi3tune import hosted
from phi3tune.ui.language import ENGLISH, JAPANESE, LANGUAGES, of_request

CATALOGUE = Path(__file__).with_name("locale") / "ja.po"
# The context of messages that come from below, in which `{0}`, `{1}`... stand for what they name.
MESSAGE = "message"
LONGEST_MESSAGE = 4000
# Private-use characters around a text while the page is built: what it says in Japanese is in `_Building.japanese`.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARKED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")
# Properties of components in which Gradio's page looks for texts to translate.
_BY_BROWSER = ("label", "info", "placeholder", "description", "title", "value", "choices")
_building: ContextVar[dict[str, str] | None] = ContextVar("texts of the page that is built", default=None)

# What the page is launched with; `localise` fills it.
I18N = gr.I18n(**{language: {} for language in LANGUAGES})


def t(text: str, /, **values: object) -> str:
    """A text of the page in the reader's language; `values` replace its `{names}`.

    While the page is built (`building`), the text is marked for `localise`.
    """
    built = _building.get()
    if built is None:
        return _filled(catalogue().get(text, text) if reader() == JAPANESE else text, values)
    english = _filled(text, {name: _plain(value) for name, value in values.items()})
    built[english] = _filled(
        catalogue().get(text, text), {name: _translated(value, built) for name, value in values.items()}
    )
    return f"{_OPEN}{english}{_CLOSE}"


def N(text: str) -> str:  # noqa: N802  (gettext's name for it)
    """A text that is shown later, through `t`: marks it for the catalogue."""
    return text


def told(message: object) -> str:
    """A message from below the page (an error, a warning, a reason) in the reader's language."""
    text = hosted.without_places(str(message))
    return recognised(text) if reader() == JAPANESE else text


def in_browser(text: str) -> str:
    """A JavaScript expression for a text in the language of the page, for `confirm` and the like."""
    both = {language: json.dumps(say, ensure_ascii=False) for language, say in _both(text).items()}
    return f'(document.documentElement.lang.startsWith("ja") ? {both[JAPANESE]} : {both[ENGLISH]})'


def reader() -> str:
    """The language of whoever asks: English outside of a request."""
    request = LocalContext.request.get(None)
    return of_request(dict(request.headers)) if request is not None else ENGLISH


@contextmanager
def building() -> Iterator[None]:
    """While it lasts, `t` marks texts for all languages at once."""
    token = _building.set({})
    try:
        yield
    finally:
        _building.reset(token)


def localise(demo: gr.Blocks) -> None:
    """Hand the marked texts of a page to Gradio's I18n; called at the end of `building`.

    Properties that Gradio's page does not translate are sent when the page is loaded.
    """
    built = _building.get()
    assert built is not None, "localise belongs into `with building()`"
    late: dict[Any, dict[str, Any]] = {}
    for block in list(demo.blocks.values()):
        for name, value in list(vars(block).items()):
            if not isinstance(value, str | list | tuple | dict) or _OPEN not in _texts(value):
                continue
            if name in _BY_BROWSER:
                setattr(block, name, _each(value, lambda text: _handed(text, built)))
            else:
                setattr(block, name, _each(value, _plain))
                if isinstance(value, str):
                    late.setdefault(block, {})[name] = _translated(value, built)
    if late:

        def load() -> dict[Any, Any]:
            wanted = reader() == JAPANESE
            return {block: gr.update(**texts) if wanted else gr.skip() for block, texts in late.items()}

        demo.load(load, None, list(late), queue=False, api_visibility="private", show_progress="hidden")


@lru_cache(maxsize=1)
def catalogue() -> dict[str, str]:
    """Japanese by English."""
    return {key: text for (context, key), text in _entries().items() if context is None}


@lru_cache(maxsize=1024)
def recognised(message: str) -> str:
    """A message in Japanese when its template is known; itself when it is not, or too long to be one."""
    if len(message) > LONGEST_MESSAGE:
        return message
    for pattern, text in _templates():
        if found := pattern.fullmatch(message):
            return text.format(*map(recognised, found.groups()))
    first, several, rest = message.partition("; ")
    return f"{recognised(first)}; {recognised(rest)}" if several else message


@lru_cache(maxsize=1)
def _templates() -> list[tuple[re.Pattern[str], str]]:
    """Patterns of messages with what they are in Japanese, those with most letters of their own first."""
    found = [(key, text) for (context, key), text in _entries().items() if context == MESSAGE]
    found.sort(key=lambda entry: -len(re.sub(r"\{\d+\}", "", entry[0])))
    return [(re.compile(_pattern(key), re.DOTALL), text) for key, text in found]


def _pattern(template: str) -> str:
    return "(.*?)".join(re.escape(part) for part in re.split(r"\{\d+\}", template))


@lru_cache(maxsize=1)
def _entries() -> dict[tuple[str | None, str], str]:
    from babel.messages.pofile import read_po

    with CATALOGUE.open("rb") as stream:
        read = read_po(stream)
    return {(entry.context, str(entry.id)): str(entry.string) for entry in read if entry.id and entry.string}


def _both(text: str) -> dict[str, str]:
    return {ENGLISH: text, JAPANESE: catalogue().get(text, text)}


def _filled(text: str, values: dict[str, object]) -> str:
    return text.format(**values) if values else text


def _plain(text: Any) -> Any:
    """A marked text in English, without its marks."""
    return text.replace(_OPEN, "").replace(_CLOSE, "") if isinstance(text, str) else text


def _translated(text: Any, built: dict[str, str]) -> Any:
    """A marked text in Japanese."""

    def japanese(found: re.Match[str]) -> str:
        english = found[1]
        # A text that was made HTML after `t`.
        return built[english] if english in built else escape(built[unescape(english)])

    return _MARKED.sub(japanese, text) if isinstance(text, str) else text


def _handed(text: str, built: dict[str, str]) -> str:
    """The key under which Gradio's page finds a marked text in both languages. It holds no brace and no dot, which
    would mean something there."""
    english, japanese = _plain(text), _translated(text, built)
    key = f"text-{len(I18N.translations[ENGLISH])}"
    I18N.translations[ENGLISH][key], I18N.translations[JAPANESE][key] = english, japanese
    return str(I18nData(key))


def _each(value: Any, change: Any) -> Any:
    """`value` with `change` done to every marked text in it."""
    if isinstance(value, str):
        return change(value) if _OPEN in value else value
    if isinstance(value, dict):
        return {key: _each(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each(item, change) for item in value)
    return value


def _texts(value: Any) -> str:
    """All texts in a value, to look for marks in."""
    if isinstance(value, str):
        return value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return "".join(map(_texts, items))
