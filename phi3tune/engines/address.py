"""Addresses of OpenAI-compatible endpoints, as people write them: `http(s)://host/v1` or `http(s)://host/v1#model`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from phi3tune.errors import UserError

_ACCEPTED = "an endpoint is written http://host/v1 or https://host/v1, with #model-name behind it to choose a model"


@dataclass(frozen=True)
class Address:
    """`model` is None where the endpoint's first model is meant."""

    url: str
    model: str | None

    def __str__(self) -> str:
        return self.url if self.model is None else f"{self.url}#{self.model}"

    @property
    def label(self) -> str:
        return self.model or self.url.split("://", 1)[1]


def is_address(text: str) -> bool:
    """Whether a text is meant as an endpoint, and not as the name of a model or a folder."""
    return "://" in text


def parse(text: str) -> Address:
    """The endpoint that a text names. Raises `UserError` for other schemes, for passwords and for queries."""
    text = text.strip()
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"the address {text[:200]!r} is malformed ({error}); {_ACCEPTED}") from None
    if parts.username is not None or parts.password is not None:
        raise UserError("an address must not hold a user or a password; put the key into an environment variable")
    if parts.scheme not in ("http", "https") or not host or not text.isprintable() or " " in text:
        raise UserError(f"{text[:200]!r} is not accepted; {_ACCEPTED}")
    if parts.query:
        raise UserError(f"the address {text[:200]!r} holds a query (?...), which is not accepted; {_ACCEPTED}")
    return Address(f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/"), parts.fragment or None)
