"""Endpoints over a fake pool: as an app in this thread, or as a server on a free port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from phi3tune.config import ServeConfig
from phi3tune.paths import Workspace
from phi3tune.server import create_app
from phi3tune.server.running import Server
from tests.server.fake_pool import FakePool

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
FREE_PORT = 0


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


def settings(**changes: Any) -> ServeConfig:
    """Settings with a free port, which a person cannot ask for."""
    return ServeConfig(**{"models": ["phi3-nano"], **changes}).model_copy(update={"port": FREE_PORT})


@pytest.fixture
def pool() -> Iterator[FakePool]:
    fake = FakePool()
    yield fake
    fake.close()


@pytest.fixture
def client(pool: FakePool, workspace: Workspace) -> Iterator[Callable[..., TestClient]]:
    """Makes a client of an app with these settings, ready to answer."""
    with ExitStack() as stack:

        def make(*, guards: Any = None, log: Any = None, wait: bool = True, **changes: Any) -> TestClient:
            app = create_app(settings(**changes), workspace, cast(Any, pool), guards=guards, log=log)
            test_client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
            stack.enter_context(test_client)
            if wait:
                wait_for(app.state.server.models.ended.is_set)
            return test_client

        yield make


@contextmanager
def running(pool: Any, workspace: Workspace, **changes: Any) -> Iterator[Server]:
    """A server in a thread, ready to answer, until the block ends."""
    config = settings(**changes)
    server = Server(create_app(config, workspace, pool), config)
    thread = threading.Thread(target=server.serve_until_stopped, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        assert server.app.state.server.models.ended.wait(60)
        yield server
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
