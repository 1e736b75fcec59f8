"""How a model is served to programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import field_validator

from phi3tune.config.base import Config, names_from_text, setting


class ServeConfig(Config):
    """An OpenAI-compatible endpoint."""

    models: list[str] = setting(
        [], "Models to serve, the first one by default; each by the name given here.", unit="names", group="simple"
    )
    host: str = setting(
        "127.0.0.1",
        "Address to listen on; 0.0.0.0 serves other machines, which needs keys.",
        unit="address",
        group="simple",
    )
    port: int = setting(8000, "Port to listen on.", unit="port", group="simple", ge=1, le=65_535)
    api_key_file: Path | None = setting(
        None, "File of plain keys, one a line; accepted beside those of phi3tune keys make.", unit="path"
    )
    require_key: bool | None = setting(
        None,
        "Refuse requests without a key; empty does so as soon as there is a key, or the address is not local.",
        unit="switch",
    )
    allowed_hosts: list[str] = setting(
        [], "Names under which it may be asked, beside its own address and the local ones.", unit="names"
    )
    allowed_origins: list[str] = setting([], "Web pages that may ask from a browser.", unit="addresses")
    queue_size: int = setting(16, "Requests that may wait; more get 429 at once.", unit="requests", ge=0, le=10_000)
    max_body: float = setting(4.0, "Largest request.", unit="MB", gt=0.0, le=256.0)
    max_new_tokens: int = setting(
        4096,
        "Longest answer that a request may ask for, and that one gets which asks for none.",
        unit="tokens",
        ge=1,
        le=131_072,
    )
    request_timeout: float = setting(
        600.0, "Longest time for one answer, waiting included.", unit="seconds", gt=0.0, le=86_400.0
    )
    guards: Path | None = setting(None, "YAML file of checks on questions and answers.", unit="path")
    keep_content: bool = setting(
        False,
        "Keep the texts of questions and answers in the request log, not only their sizes.",
        unit="switch",
        group="simple",
    )
    retention_days: float = setting(30.0, "How long requests stay in the log.", unit="days", gt=0.0, le=3_650.0)

    @field_validator("models", "allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return names_from_text(value)
