"""The page's HTML before Gradio's part of it runs: the reader's language, our script, and something to look at.

Gradio mounts what it is launched with (`head`, `js`) after it has chosen a language and drawn everything, which is too
late for these three. So they are put into the HTML that it answers with.
"""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from phi3tune.ui.language import JAPANESE, LANGUAGES, of_request
from phi3tune.ui.words import N, catalogue

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SCRIPT = Path(__file__).with_name("page.js")
LANGUAGE_OF_PAGE = b'lang="en"'
TEXTS = {
    "commands": N("Commands"),
    "find": N("Go to a tab or a button…"),
    "nothing": N("Nothing on this page is called that."),
    "tab": N("tab"),
    "keys": N("Enter goes there. Ctrl+Enter presses the main button of a tab, Esc stops an answer."),
}
SKIP = N("Skip to the tabs")
WAIT = N("Opening phi3tune…")
NO_SCRIPT = N("phi3tune needs JavaScript.")
# Covers Gradio's own waiting sign until the tabs are there. No script has to take it away.
_STYLE = """<style>
#pt-opening { position: fixed; inset: 0; z-index: 3000; padding: 24px max(20px, calc(50vw - 680px));
  background: var(--bg); color: var(--col);
  font: 15px/1.6 system-ui, sans-serif; }
#pt-opening b { display: block; font-size: 24px; }
body:has(#tabs) #pt-opening { display: none; }
@media (prefers-color-scheme: dark) { #pt-opening { background: var(--bg-dark); color: var(--col-dark); } }
</style>"""


class Opening:
    """ASGI middleware: completes the page's HTML, and sends it compressed to browsers that take that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        start: Message = {}
        body = bytearray()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            content, kept = bytes(body), [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            if dict(kept).get(b"content-type", b"").startswith(b"text/html"):
                content = completed(content, of_request(headers))
                kept.append((b"vary", b"accept-encoding, accept-language, cookie"))
                if "gzip" in headers.get("accept-encoding", ""):
                    content = gzip.compress(content, 5)
                    kept.append((b"content-encoding", b"gzip"))
            await send({**start, "headers": [*kept, (b"content-length", str(len(content)).encode())]})
            await send({"type": "http.response.body", "body": content})

        await self._app(scope, receive, answer)


def completed(html: bytes, language: str) -> bytes:
    """Gradio's HTML with the language, the script and the first picture; what has no place in it is left out."""
    head, cover = _parts(language)
    html = html.replace(LANGUAGE_OF_PAGE, b'lang="' + language.encode() + b'"', 1)
    html = html.replace(b"<head>", b"<head>" + head, 1)
    return html.replace(b"<gradio-app", cover + b"<gradio-app", 1)


@lru_cache(maxsize=len(LANGUAGES))
def _parts(language: str) -> tuple[bytes, bytes]:
    """What goes into the head, and what goes before the app."""

    def said(text: str) -> str:
        return catalogue().get(text, text) if language == JAPANESE else text

    texts = json.dumps({name: said(text) for name, text in TEXTS.items()})
    script = SCRIPT.read_text(encoding="utf-8").replace("__TEXTS__", texts, 1)
    head = f"<title>phi3tune</title>{_STYLE}<script>{script}</script>"
    cover = (
        f'<a class="pt-skip" href="#tabs">{escape(said(SKIP))}</a>'
        f'<div id="pt-opening" role="status"><b>phi3tune</b>{escape(said(WAIT))}</div>'
        f"<noscript>{escape(said(NO_SCRIPT))}</noscript>"
    )
    return head.encode(), cover.encode()
