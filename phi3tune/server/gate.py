"""Who may ask, and how much they may send: what stands before the routes.

A page of another site can make a browser post to a local endpoint, or rebind a name of its own to 127.0.0.1; so hosts
and origins are looked at even where no key is needed. All but /health is refused without a key when keys are on.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from phi3tune.config import ServeConfig
from phi3tune.engines.base import EngineError
from phi3tune.errors import UserError
from phi3tune.server.errors import ApiError, from_validation
from phi3tune.server.recording import Entry, Recorder

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
OPEN_PATH = "/health"
_BODY_SECONDS = 60.0  # for a body to arrive
# A body that was refused is still read for so long, or its sender might not see the answer.
_DRAIN_SECONDS, _DRAIN_BYTES = 2.0, 16e6
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
CheckKey = Callable[[str], "str | None"]


class Gate:
    """ASGI middleware, the outermost: it also records every request when it has ended."""

    def __init__(
        self, app: ASGIApp, *, config: ServeConfig, recorder: Recorder, needs_key: Callable[[], bool], check: CheckKey
    ) -> None:
        self._app, self._config, self._recorder = app, config, recorder
        self._needs_key, self._check = needs_key, check
        self._max_body = int(config.max_body * 1e6)
        self._names = {*LOCAL_NAMES, *config.allowed_hosts}
        # Names can be rebound, numbers cannot: an endpoint for other machines answers under any of its numbers.
        self._numbers = not is_local(config.host)
        if self._numbers:
            self._names |= {config.host, socket.gethostname()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry = Entry.begin(scope["path"], uuid.uuid4().hex)
        scope["state"] = {**scope.get("state", {}), "entry": entry}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                named = [*_HEADERS, (b"x-request-id", entry.id.encode())]
                message = {**message, "headers": [*message.get("headers", []), *named]}
            await send(message)

        try:
            body = await self._admitted(scope, receive, entry)
            await self._app(scope, _replayed(body, receive), answer)
        except Exception as error:
            refusal = refusal_of(error, entry)
            if entry.status:  # the answer has begun: all that is left is to break it off
                raise
            await refuse(refusal, receive, answer)
        finally:
            self._recorder.add(entry)

    async def _admitted(self, scope: Scope, receive: Receive, entry: Entry) -> bytes:
        """The body of a request that may pass. Raises `ApiError` for the others."""
        if scope["path"] == OPEN_PATH:
            return b""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._check_host(headers.get("host", ""))
        self._check_origin(scope["method"], headers)
        if self._needs_key():
            entry.key_name = self._key_name(headers.get("authorization", ""))
        if "transfer-encoding" in headers and "content-length" in headers:
            raise ApiError(400, "Content-Length and Transfer-Encoding exclude each other", code="bad_request")
        if scope["method"] == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json" or "content-encoding" in headers:
                raise ApiError(415, "the body must be plain application/json", code="unsupported_media_type")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_body:
            raise self._too_large()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                return await self._body(receive)
        except TimeoutError:
            raise ApiError(408, f"the body did not arrive within {_BODY_SECONDS:g} s", code="timeout") from None

    def _check_host(self, host: str) -> None:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if name not in self._names and not (self._numbers and _is_number(name)):
            raise ApiError(
                400,
                "this endpoint does not answer to that Host; its owner can add it to allowed_hosts",
                code="bad_host",
            )

    def _check_origin(self, method: str, headers: dict[str, str]) -> None:
        origin = headers.get("origin")
        if method in ("GET", "HEAD", "OPTIONS") or origin is None or origin in self._config.allowed_origins:
            return
        if origin.partition("://")[2] != headers.get("host", ""):
            raise ApiError(
                403,
                "requests from other sites are refused; the endpoint's owner can add them to allowed_origins",
                code="bad_origin",
            )

    def _key_name(self, authorization: str) -> str:
        scheme, _, key = authorization.partition(" ")
        headers = {"WWW-Authenticate": "Bearer"}
        if scheme.lower() != "bearer" or not key.strip():
            message = "a key is needed, in the header Authorization: Bearer KEY"
            raise ApiError(401, message, code="missing_api_key", headers=headers)
        name = self._check(key.strip())
        if name is None:
            raise ApiError(401, "the key is wrong or was revoked", code="invalid_api_key", headers=headers)
        return name

    async def _body(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b""
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(body)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._config.max_body:g} MB", code="body_too_large")


def is_local(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    return host in LOCAL_NAMES or (_is_number(host) and ipaddress.ip_address(host).is_loopback)


def refusal_of(error: Exception, entry: Entry) -> ApiError:
    """What is told of an error, noted in the request's entry. Unforeseen ones are logged and not told."""
    refusal = _refusal(error)
    entry.error_code = refusal.code
    entry.hits += refusal.hits
    return refusal


def _refusal(error: Exception) -> ApiError:
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        return from_validation(error.errors(), error.body)
    if isinstance(error, HTTPException):  # of the router and of FastAPI's reading of the body
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        return ApiError(error.status_code, error.detail, code=code, headers=error.headers)
    if isinstance(error, EngineError):
        return ApiError(503, str(error), code="engine_error", headers={"Retry-After": "1"})
    if isinstance(error, UserError):
        return ApiError(400, str(error), code="invalid_request")
    _log.error("a request met a fault", exc_info=error)
    return ApiError(500, "the endpoint met a fault, which its log tells", code="internal_error")


async def refuse(error: ApiError, receive: Receive, send: Send) -> None:
    """Send an error at once, and close; what is still being sent is thrown away for a moment."""
    import orjson

    content = orjson.dumps(error.body())
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    if error.status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    if error.status == 413:
        await send({"type": "http.response.body", "body": content, "more_body": True})
        with suppress(TimeoutError):
            await asyncio.wait_for(_drain(receive), _DRAIN_SECONDS)
        content = b""
    await send({"type": "http.response.body", "body": content})


async def _drain(receive: Receive) -> None:
    drained = 0
    while drained < _DRAIN_BYTES:
        message = await receive()
        drained += len(message.get("body", b""))
        if not message.get("more_body"):
            return


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body was read already; afterwards it tells when the client has gone."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
