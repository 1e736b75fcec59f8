"""The endpoint inside the app: started and stopped by the page, over the pool that the playground uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phi3tune import hosted, system
from phi3tune.config import ServeConfig
from phi3tune.errors import UserError
from phi3tune.paths import Workspace
from phi3tune.server.examples import snippets

if TYPE_CHECKING:
    from phi3tune.engines.pool import Pool
    from phi3tune.monitor import RequestLog
    from phi3tune.server.running import Server

_STOP_SECONDS = 10.0
_LOOK = 0.02


@dataclass(frozen=True)
class EndpointState:
    """What the page shows.

    url       where it answers, ending in /v1; None when it is off
    ready     all models are loaded
    since     when it was started, in seconds since 1970
    keyed     whoever asks needs a key
    requests  how many were answered or refused
    error     why it is off, or cannot answer
    """

    url: str | None = None
    models: tuple[str, ...] = ()
    ready: bool = False
    since: float | None = None
    keyed: bool = False
    requests: int = 0
    error: str | None = None


class Endpoints:
    """At most one endpoint. Safe to use from any thread; the endpoint ends with the app."""

    def __init__(self, workspace: Workspace, pool: Pool | None = None) -> None:
        self._workspace, self._pool = workspace, pool
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._error: str | None = None

    def start(self, config: ServeConfig) -> str:
        """Start it and return its url; its models are loaded behind that, as `state` tells.

        Raises `UserError` when one runs already, the address is taken, or a model does not exist.
        """
        hosted.refuse_visitor(self._workspace, "an endpoint")
        with self._lock:
            if self._running is not None and self._running.alive():
                raise UserError(f"an endpoint runs already at {self._running.server.url}; stop it first")
            if self._pool is None:
                from phi3tune.engines.pool import shared

                self._pool = shared()
            self._error = None
            self._running = _Running(config, self._workspace, self._pool)
            return self._running.server.url

    def wait(self) -> None:
        """Wait until the models are loaded. Raises `UserError` when one cannot be."""
        running = self._running
        if running is not None:
            models: Any = running.server.app.state.server.models
            models.ended.wait()
            if models.error is not None:
                raise models.error

    def snippets(self, url: str, model: str, asked: Mapping[str, Any] | None = None) -> dict[str, str]:
        """How to ask it, to copy: `curl`, `python` and `javascript`; `asked` as in `examples.snippets`."""
        return snippets(url, model, asked=asked)

    def stop(self) -> None:
        """Let answers end for a few seconds, and end it; nothing happens when none runs."""
        with self._lock:
            if self._running is not None:
                self._running.stop()
                self._error = self._running.error
                self._running = None

    def state(self) -> EndpointState:
        """How it goes."""
        running = self._running
        if running is None:
            return EndpointState(error=self._error)
        if not running.alive():
            return EndpointState(error=running.error or "the endpoint ended unexpectedly; start it again")
        models: Any = running.server.app.state.server.models
        return EndpointState(
            url=running.server.url,
            models=tuple(models.refs),
            ready=models.state == "ready",
            since=running.since,
            keyed=running.server.app.state.needs_key(),
            requests=running.server.server_state.total_requests,
            error=None if models.error is None else str(models.error),
        )


class _Running:
    """One endpoint, from its start to its stop."""

    def __init__(self, config: ServeConfig, workspace: Workspace, pool: Pool) -> None:
        from phi3tune.server.running import Server

        self.since = time.time()
        self.error: str | None = None
        self._log = open_log(config, workspace)
        try:
            self.server: Server = Server(open_app(config, workspace, pool, self._log), config)
        except BaseException:
            self._log.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="endpoint", daemon=True)
        self._thread.start()
        while not self.server.started and self._thread.is_alive():
            self._thread.join(_LOOK)

    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(_STOP_SECONDS)

    def _serve(self) -> None:
        try:
            self.server.serve_until_stopped()
        except BaseException as error:
            self.error = f"the endpoint ended: {error}"
            raise
        finally:
            self._log.close()


def check_address(host: str, port: int) -> None:
    """Raise `UserError` when nothing can listen there; asked before anything is loaded that takes long."""
    problem = system.port_problem(host, port)
    if problem is not None:
        raise UserError(
            f"cannot serve on {host} port {port}: {problem}; stop what uses it, or choose another with --port"
        )


def open_log(config: ServeConfig, workspace: Workspace) -> RequestLog:
    """The request log as an endpoint's settings want it."""
    from phi3tune.monitor import RequestLog

    return RequestLog(workspace, keep_content=config.keep_content, retention_days=config.retention_days)


def open_app(config: ServeConfig, workspace: Workspace, pool: Pool, log: RequestLog) -> Any:
    """The app of an endpoint with its guards. Raises `UserError` when settings, models or guards are wrong."""
    from phi3tune.server import create_app

    guards = None
    if config.guards is not None:
        from phi3tune.guardrails import load

        guards = load(config.guards, workspace, pool=pool)
    return create_app(config, workspace, pool, log=log, guards=guards)
