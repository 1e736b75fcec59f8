"""Who is who among the visitors of a hosted app: a cookie for each, and with it a workspace of their own.

Every handler is a public endpoint, so nothing here trusts what the page shows. What Gradio knows by a name that the
browser brings (a session, an event, an uploaded file) belongs to the visitor who had it first.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs

from phi3tune import hosted
from phi3tune.paths import Workspace, visitors
from phi3tune.ui.belongings import Belongings
from phi3tune.ui.routes import API, UPLOAD

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "phi3tune_visitor"
_STATE = "visitor"  # of a request: the name of the visitor's folder
_RANDOM = 16  # bytes of a visitor's id; as many sign it
_KEY, _KEY_BYTES = "visitors.key", 32
_HEARTBEAT, _FILE = f"{API}/heartbeat/", f"{API}/file="
_NOT_YOURS = (
    "This belongs to another visitor. Reload the page; if that does not help, let the browser keep this page's cookie, "
    "or open the page in a tab of its own."
)


class VisitorsWorkspace(Workspace):
    """The workspaces of all visitors: `root` is that of the one whose request is being answered."""

    def __init__(self, shared: Path) -> None:
        object.__setattr__(self, "shared", shared)

    @property
    def root(self) -> Path:
        """Raises `RuntimeError` where no request is answered, such as in a thread: that takes `here()` with it."""
        from gradio.context import LocalContext

        asked = LocalContext.request.get(None)
        if asked is None or asked.request is None:
            raise RuntimeError("nobody asks: take workspace.here() where the request is answered")
        return visitors(cast(Path, self.shared)) / str(asked.request.scope["state"][_STATE])

    def here(self) -> Workspace:
        return Workspace(self.root, self.shared)


class Cookies:
    """Ids of visitors: random, and signed, so that nobody chooses their own. The key lies beside the visitors."""

    def __init__(self, shared: Path) -> None:
        shared.mkdir(parents=True, exist_ok=True)
        path = shared / _KEY
        if not path.is_file() or path.stat().st_size != _KEY_BYTES:
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(_KEY_BYTES))
        self._key = path.read_bytes()

    def new(self) -> str:
        """A cookie's value for somebody who was never here."""
        return self._signed(secrets.token_bytes(_RANDOM))

    def folder(self, value: str) -> str | None:
        """The name of the folder that a cookie opens; None when it was not made here. No name leads to a cookie."""
        with suppress(ValueError):
            number = base64.urlsafe_b64decode(value + "=")[:_RANDOM]
            if hmac.compare_digest(self._signed(number).encode(), value.encode()):
                return hashlib.sha256(value.encode()).hexdigest()[:32]
        return None

    def _signed(self, number: bytes) -> str:
        seal = hmac.digest(self._key, number, "sha256")[:_RANDOM]
        return base64.urlsafe_b64encode(number + seal).decode().rstrip("=")


class _RefusedError(Exception):
    """A request that is not answered: a status, and what to do."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Visitors:
    """ASGI middleware, behind `Routes`. `shared` is the folder of all visitors, `cache` Gradio's folder of files."""

    def __init__(self, app: ASGIApp, *, shared: Path, cache: Path) -> None:
        self._app, self._shared = app, shared
        self._cookies, self._belongings = Cookies(shared), Belongings(cache)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        value = _cookie(scope)
        folder = self._cookies.folder(value)
        fresh = folder is None
        if folder is None:
            value = self._cookies.new()
            folder = str(self._cookies.folder(value))
        workspace = Workspace(visitors(self._shared) / folder, self._shared)
        scope["state"] = {**scope.get("state", {}), _STATE: folder}
        hosted.visited(workspace)
        # A page brings its cookie, or gets one. Files of the page may come before the browser has it.
        given = value if scope["path"] == "/" or (fresh and scope["method"] == "POST") else None

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and given is not None:
                named = (b"set-cookie", _set_cookie(given, scope).encode())
                message = {**message, "headers": [*message.get("headers", []), named]}
            elif message["type"] == "http.response.body":
                self._belongings.handed_out(scope["path"], message.get("body", b""), folder)
            await send(message)

        if not scope["path"].startswith(_FILE):
            send = _without_places(send, workspace)

        from starlette.exceptions import HTTPException
        from starlette.responses import PlainTextResponse

        try:
            receive = await self._checked(scope, receive, workspace)
        except _RefusedError as error:
            await PlainTextResponse(error.text, error.status)(scope, receive, answer)
        except HTTPException as error:  # a body over the limit of `Routes`
            await PlainTextResponse(error.detail, error.status_code)(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)

    async def _checked(self, scope: Scope, receive: Receive, workspace: Workspace) -> Receive:
        """What the request may be read from. Raises `_RefusedError` for what is somebody else's or is too much."""
        path, visitor = scope["path"], workspace.root.name
        rules = hosted.limits()
        if hosted.full(workspace):
            text = f"This app keeps the work of at most {rules.max_visitors:,} visitors at a time. Please come later."
            raise _RefusedError(503, text)
        asked = parse_qs(scope["query_string"].decode("latin-1"))
        names = [*asked.get("session_hash", []), *asked.get("upload_id", [])]
        if path.startswith(_HEARTBEAT):
            names.append(path.removeprefix(_HEARTBEAT))
        self._claim(names, visitor)
        if path.startswith(_FILE) and not self._belongings.may_fetch(path.removeprefix(_FILE), visitor):
            raise _RefusedError(403, _NOT_YOURS)
        if scope["method"] != "POST":
            return receive
        if path == UPLOAD:
            return await self._upload(receive, workspace)
        body = await _body(receive)
        try:
            given = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            raise _RefusedError(400, "the body is no JSON") from None
        if not isinstance(given, dict):
            raise _RefusedError(400, "the body is no JSON object")
        self._claim([given.get("session_hash"), given.get("event_id")], visitor)
        if not self._belongings.may_name(json.dumps(given), visitor):
            raise _RefusedError(403, _NOT_YOURS)
        return _again(body, receive)

    def _claim(self, names: list[Any], visitor: str) -> None:
        for name in names:
            if name is not None and not self._belongings.claim(str(name), visitor):
                raise _RefusedError(403, _NOT_YOURS)

    async def _upload(self, receive: Receive, workspace: Workspace) -> Receive:
        """`receive` that ends where the visitor's storage does, what lies in Gradio's cache counted."""
        from anyio import to_thread
        from starlette.formparsers import MultiPartException

        def used() -> int:
            return hosted.used_bytes(workspace) + self._belongings.size(workspace.root.name)

        limit = int(hosted.limits().max_storage * hosted.MB)
        room = limit - await to_thread.run_sync(used)
        # Gradio answers 413 to what says this, and removes what it has of the file.
        told = (
            f"With this file yours would be over the maximum allowed size of {limit / hosted.MB:,g} MB in all: delete "
            f"some of your work. You use {(limit - room) / hosted.MB:,.1f} MB."
        )
        received = 0

        async def read() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > room:
                raise MultiPartException(told)
            return message

        return read


def _cookie(scope: Scope) -> str:
    """What the browser brings under our name; empty when it is nothing."""
    for name, value in scope["headers"]:
        if name == b"cookie":
            with suppress(CookieError):
                found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
                if found is not None:
                    return str(found.value)
    return ""


def _set_cookie(value: str, scope: Scope) -> str:
    """A Space is shown in a frame of another site: its cookie must say that it is meant to."""
    seconds = int(hosted.limits().keep_hours * 3600)
    place = "SameSite=None; Secure; Partitioned" if os.environ.get("SPACE_ID") else "SameSite=Lax"
    secure = "; Secure" if scope.get("scheme") == "https" and "Secure" not in place else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; {place}{secure}"


def _without_places(send: Send, workspace: Workspace) -> Send:
    """A `send` that does not tell where the app keeps its work: messages name files by their place in the workspace."""
    start: Message | None = None
    root, shared = (str(path).encode() for path in (workspace.root, workspace.shared))

    def cleaned(body: bytes) -> bytes:
        for place in (root, shared):
            body = body.replace(place + b"/", b"").replace(place, b"the workspace")
        return body

    async def answer(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            if headers.get(b"content-type", b"").startswith(b"application/json") and b"content-length" in headers:
                start = message  # its length may change
                return
        elif message["type"] == "http.response.body" and shared in message.get("body", b""):
            message = {**message, "body": cleaned(message["body"])}
        if start is not None:
            headers = {**dict(start["headers"]), b"content-length": str(len(message.get("body", b""))).encode()}
            await send({**start, "headers": list(headers.items())})
            start = None
        await send(message)

    return answer


async def _body(receive: Receive) -> bytes:
    """The whole body, whose size `Routes` limits."""
    parts = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RefusedError(400, "the request broke off")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body which was read already, and then what comes after it."""
    given = False

    async def read() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return read
