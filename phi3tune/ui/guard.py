"""What stands before Gradio: who may ask, and what the page may fetch.

A page of another site can make a visitor's browser post to a local app, or rebind a name of its own
to 127.0.0.1. So writes must come from the page itself, and a local app answers only to local names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
# A model's answer is shown as text; were any of it to become HTML, the browser would still fetch nothing elsewhere.
POLICY = (
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'"
)


class Guard:
    """ASGI middleware. `local` is true for an app that listens on this machine only."""

    def __init__(self, app: ASGIApp, *, local: bool) -> None:
        self._app = app
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = refused(scope["method"], headers, local=self._local)
        if refusal is not None:
            from starlette.responses import PlainTextResponse

            status, text = refusal
            await PlainTextResponse(text, status)(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = [(b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", []), *policy]}
            await send(message)

        await self._app(scope, receive, answer)


def refused(method: str, headers: dict[str, str], *, local: bool) -> tuple[int, str] | None:
    """Status and text for a request that is refused; None for one that may pass."""
    host = headers.get("x-forwarded-host") if not local else None
    host = host or headers.get("host", "")
    if local and urlsplit(f"//{host}").hostname not in LOCAL_NAMES:
        return 400, "this app answers only to localhost"
    origin = headers.get("origin")
    if method not in ("GET", "HEAD", "OPTIONS") and origin is not None and urlsplit(origin).netloc != host:
        return 403, "requests from other sites are refused"
    return None
