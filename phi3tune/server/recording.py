"""What is told of requests: Prometheus' figures, and the request log."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from time import time as now
from typing import TYPE_CHECKING, Any, Literal, cast

from phi3tune.chat import Message
from phi3tune.server.line import Line

if TYPE_CHECKING:
    from phi3tune.guardrails import Hit
    from phi3tune.monitor import RequestLog

KINDS: dict[str, Literal["chat", "completion", "classify"]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/classify": "classify",
}
_PREFIX = {"chat": "chatcmpl", "completion": "cmpl", "classify": "classify"}
_PATHS = {*KINDS, "/v1/models", "/v1/feedback", "/health", "/metrics"}
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass
class Entry:
    """One request while it is answered; the handlers fill in what they learn. `id` is the answer's, too."""

    path: str
    id: str
    time: float = field(default_factory=now)
    began: float = field(default_factory=monotonic)
    status: int = 0
    model: str = ""
    error_code: str | None = None
    stream: bool = False
    usage: dict[str, Any] = field(default_factory=dict)
    queue_seconds: float | None = None
    first_token_seconds: float | None = None
    finish_reason: str | None = None
    key_name: str | None = None
    hits: list[Hit] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    answer: str = ""

    @classmethod
    def begin(cls, path: str, random: str) -> Entry:
        kind = KINDS.get(path)
        return cls(path, f"{_PREFIX[kind] if kind else 'req'}-{random}")

    def said(self) -> None:
        """The first piece of an answer is there."""
        if self.first_token_seconds is None:
            self.first_token_seconds = monotonic() - self.began


class Recorder:
    """Counts requests in a registry of its own, and hands those that ask a model to the log.

    Labels are models that are served and paths that exist, so that no request can make new series.
    """

    def __init__(self, line: Line, log: RequestLog | None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._log = log
        self.registry = registry = CollectorRegistry()
        where: dict[str, Any] = {"registry": registry, "namespace": "phi3tune"}
        self._requests = Counter("requests", "Requests, by what came of them.", ["path", "model", "status"], **where)
        self._seconds = Histogram("request_seconds", "Whole requests.", ["path"], buckets=_SECONDS, **where)
        self._first = Histogram(
            "first_token_seconds", "Until the first token, waiting included.", ["model"], buckets=_SECONDS, **where
        )
        self._queue = Histogram("queue_seconds", "Waiting in line.", ["model"], buckets=_SECONDS, **where)
        self._tokens = Counter("tokens", "Tokens.", ["model", "kind"], **where)
        self._hits = Counter("guard_hits", "What guards found.", ["guard", "action"], **where)
        Gauge("requests_inside", "Requests that are answered or wait.", **where).set_function(lambda: line.inside)
        Gauge("requests_running", "Requests that the engines have.", **where).set_function(lambda: line.running)
        self.ready = Gauge("ready", "1 when all models can answer.", **where)

    def add(self, entry: Entry) -> None:
        """A request has ended."""
        seconds = monotonic() - entry.began
        path = entry.path if entry.path in _PATHS else "other"
        self._requests.labels(path, entry.model, str(entry.status)).inc()
        self._seconds.labels(path).observe(seconds)
        if entry.first_token_seconds is not None:
            self._first.labels(entry.model).observe(entry.first_token_seconds)
        if entry.queue_seconds is not None:
            self._queue.labels(entry.model).observe(entry.queue_seconds)
        for kind in ("prompt", "completion") if entry.usage else ():
            self._tokens.labels(entry.model, kind).inc(entry.usage[f"{kind}_tokens"])
        for hit in entry.hits:
            self._hits.labels(hit.guard, hit.action).inc()
        if self._log is not None and entry.path in KINDS and entry.model:
            self._log.add(self._record(entry, seconds))

    def _record(self, entry: Entry, seconds: float) -> Any:
        from phi3tune.monitor import RequestRecord

        details = cast("dict[str, Any]", entry.usage.get("prompt_tokens_details", {}))
        return RequestRecord(
            id=entry.id,
            time=entry.time,
            model=entry.model,
            kind=KINDS[entry.path],
            status=entry.status,
            seconds=seconds,
            error_code=entry.error_code,
            stream=entry.stream,
            prompt_tokens=entry.usage.get("prompt_tokens"),
            completion_tokens=entry.usage.get("completion_tokens"),
            cached_tokens=details.get("cached_tokens"),
            queue_seconds=entry.queue_seconds,
            first_token_seconds=entry.first_token_seconds,
            finish_reason=entry.finish_reason,
            key_name=entry.key_name,
            guard_hits=tuple(entry.hits),
            messages=tuple(entry.messages),
            answer=entry.answer,
        )
