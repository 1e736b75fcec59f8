"""The endpoint: OpenAI's HTTP interface over the engine pool.

    schema      what a request may hold            gate        who may ask, and how much they may send
    errors      OpenAI's error object              line        who waits, and who is turned away
    answering   a request through the pool         payload     chunks of answers as OpenAI's objects
    app         the routes                         running     uvicorn, in this thread or in one of its own
    recording   metrics and the request log        examples    curl, Python and JavaScript to copy
    models      what is served, and loading it     endpoint    the endpoint inside the app

FastAPI is imported by `app` only, which is imported when an endpoint is started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from phi3tune.server.examples import snippets

if TYPE_CHECKING:
    from fastapi import FastAPI

    from phi3tune.config import ServeConfig
    from phi3tune.engines.pool import Pool
    from phi3tune.guardrails import Guards
    from phi3tune.monitor import RequestLog
    from phi3tune.paths import Workspace

__all__ = ["create_app", "snippets"]


def create_app(
    config: ServeConfig,
    workspace: Workspace,
    pool: Pool,
    *,
    log: RequestLog | None = None,
    guards: Guards | None = None,
) -> FastAPI:
    """The ASGI app of an endpoint that serves `config.models` through `pool`.

    Raises `UserError` when a model does not exist, or when others could ask without a key.
    """
    from phi3tune.server.app import make

    return make(config, workspace, pool, log=log, guards=guards)
