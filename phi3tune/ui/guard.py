"""What stands before Gradio: who may ask, and what the page may fetch.

A page of another site can make a visitor's browser post to a local app, or rebind a name of its own
to 127.0.0.1. So writes must come from the page itself, and a local app answers only to local names.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
# Names under which an app that others can reach may be asked, separated by commas.
HOSTS = "PHI3TUNE_HOSTS"
# Gradio's page is made of scripts inside of it, and its charts compile theirs: those must be allowed; none comes from
# elsewhere. A model's answer is shown as text; were any of it to become HTML, the browser would still fetch nothing.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_READING = ("GET", "HEAD", "OPTIONS")
_SPACES = " https://huggingface.co"


class Guard:
    """ASGI middleware. `local` is true for an app that listens on this machine only."""

    def __init__(self, app: ASGIApp, *, local: bool) -> None:
        self._app = app
        self._local = local
        policy = POLICY + (_SPACES if _in_a_space() else "")
        told = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
        }
        self._headers = [(name.encode(), value.encode()) for name, value in told.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the page uses none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            # A second one of a name must not hide the first: joined, they match nothing.
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        refusal = refused(scope["method"], headers, local=self._local)
        if refusal is not None:
            from starlette.responses import PlainTextResponse

            status, text = refusal
            await PlainTextResponse(text, status)(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._headers]}
            await send(message)

        await self._app(scope, receive, answer)


def refused(method: str, headers: dict[str, str], *, local: bool) -> tuple[int, str] | None:
    """Status and text for a request that is refused; None for one that may pass.

    A Space answers to any name: its platform routes by them, and tells in x-forwarded-host which it was.
    """
    host = headers.get("host", "").lower()
    if _in_a_space():
        host = headers.get("x-forwarded-host", host).lower()
    elif not _is_ours(_name(host), local=local):
        own = "only to localhost" if local else f"to its number and to the names that its owner puts into {HOSTS}"
        return 400, f"this app answers {own}"
    origin = headers.get("origin")
    # Gradio would let any site read the answers of an app that is not on this machine: so no method is free.
    foreign = origin is not None and method != "OPTIONS" and _authority(origin) != host
    # Where there is no Origin, a browser may still tell whose page asked.
    unnamed = method not in _READING and headers.get("sec-fetch-site", "").lower() in ("cross-site", "same-site")
    return (403, "requests from other sites are refused") if foreign or unnamed else None


def _in_a_space() -> bool:
    return bool(os.environ.get("SPACE_ID"))


def _is_ours(name: str, *, local: bool) -> bool:
    """Names can be rebound, numbers cannot: an app for other machines answers under any of its numbers."""
    if local:
        return name in LOCAL_NAMES
    named = {socket.gethostname().lower(), *(own.strip().lower() for own in os.environ.get(HOSTS, "").split(","))}
    return name in LOCAL_NAMES or bool(name and name in named) or _is_number(name)


def _is_number(name: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


def _name(host: str) -> str:
    """The name in a Host header, without its port; empty for what is none."""
    with suppress(ValueError):
        parts = urlsplit(f"//{host}")
        return (parts.hostname or "") if parts.netloc == host and "@" not in host else ""
    return ""


def _authority(origin: str) -> str:
    """Name and port of an Origin header; empty for what is none."""
    with suppress(ValueError):
        return urlsplit(origin).netloc.lower()
    return ""
