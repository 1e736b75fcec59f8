"""Which of Gradio's routes are open, and how much they take.

Gradio brings more than eighty routes. Some fetch what another host has (`file=https://...`, `proxy=`), start ffmpeg
or keep copies of a session. The page needs some twenty, none of these; all others are not there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/gradio_api"
UPLOAD = f"{API}/upload"
# What a page sends with one press: its fields, and the chats that its browser kept.
MAX_BODY = 16 * 10**6
# Beside the file itself, an upload has its boundaries and its name.
_HEADS = 10**6
_OPEN = {
    "GET": re.compile(
        r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/(assets|static)/.+"
        rf"|{API}/(info/?|app_id|startup-events|theme\.css|upload_progress|queue/data|heartbeat/[^/]+)"
        # A file by its whole path, here or on a Windows drive: no address, no path from where the app stands.
        rf"|{API}/file=(/|[A-Za-z]:[/\\]).+"
    ),
    "POST": re.compile(rf"{API}/(queue/join|run/predict|upload|cancel|reset)"),
}
_OPEN["HEAD"] = _OPEN["GET"]
_OPEN["OPTIONS"] = re.compile(r"(?!)")


def is_open(method: str, path: str) -> bool:
    """Whether the page needs it; `path` is as the server has decoded it."""
    known = _OPEN.get(method)
    return known is not None and known.fullmatch(path) is not None


class Routes:
    """ASGI middleware. `max_upload` is the size of the largest file, in bytes."""

    def __init__(self, app: ASGIApp, *, max_upload: int) -> None:
        self._app, self._max_upload = app, max_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from starlette.responses import PlainTextResponse

        if not is_open(scope["method"], scope["path"]):
            await PlainTextResponse("not found", 404)(scope, receive, send)
            return
        is_upload = scope["path"] == UPLOAD
        limit = self._max_upload + _HEADS if is_upload else MAX_BODY
        # Gradio answers 413 to what says this, and removes what it has of the file.
        told = f"The body is over the maximum allowed size of {(limit - _HEADS * is_upload) / 1e6:,.0f} MB."
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            await PlainTextResponse(told, 413)(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit, told, is_upload=is_upload), send)


def _counted(receive: Receive, limit: int, told: str, *, is_upload: bool) -> Receive:
    """`receive` that ends a body over the limit, and an upload that breaks off, with an error which Gradio knows."""
    from starlette.exceptions import HTTPException
    from starlette.formparsers import MultiPartException

    received, whole = 0, False

    async def read() -> Message:
        nonlocal received, whole
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise MultiPartException(told) if is_upload else HTTPException(413, told)
        if is_upload and not whole and message["type"] == "http.disconnect":
            # Left to itself, Gradio would keep what has come for ever.
            raise MultiPartException("The upload broke off.")
        whole = whole or not message.get("more_body", False)
        return message

    return read
