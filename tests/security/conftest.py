"""The real app, `python app.py`, with a witness inside: what it opens, whom it asks, what it starts."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from phi3tune import system
from phi3tune.jobs.folder import LOCK
from phi3tune.paths import Workspace
from tests.browser.conftest import App
from tests.security import hostile
from tests.security.calls import Stranger

WITNESS = Path(__file__).parent / "witness"
# The name of a file that nobody may read, and what stands in it alone.
CANARY, SECRET = "canary-7c1e94ab", "secret-0d55ef31"
ASKING = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")


@dataclass(frozen=True)
class Watched:
    """A running app.

    cache     where Gradio keeps what was uploaded and what is to be downloaded
    canary    a readable file outside of the workspace
    log       what the witness wrote
    """

    app: App
    workspace: Workspace
    cache: Path
    canary: Path
    log: Path

    @property
    def url(self) -> str:
        return self.app.url

    @property
    def port(self) -> int:
        return self.app.port

    def saw(self, *events: str) -> list[Any]:
        """What the witness wrote down of these events."""
        told = (json.loads(line) for line in self.log.read_text().splitlines())
        return [what for event, what in told if event in events]

    def outside(self) -> list[Any]:
        """Whom it and its children asked beside this machine: nobody, with all that was done to it."""
        asked = [host[0] if isinstance(host, list) else host for host in self.saw(*ASKING)]
        return [host for host in asked if str(host) not in ("127.0.0.1", "localhost", "::1") and "/" not in str(host)]

    def leaked(self, secret: str = SECRET) -> list[Path]:
        """Files in the workspace and in Gradio's cache that hold the secret."""
        every = [path for home in (self.workspace.root, self.cache) for path in home.rglob("*")]
        files = [path for path in every if path.is_file() and not path.is_symlink()]
        return [path for path in files if secret.encode() in path.read_bytes()]

    def memory(self) -> int:
        """Bytes of memory that the app's process holds."""
        import psutil

        assert self.app.process is not None
        return int(psutil.Process(self.app.process.pid).memory_info().rss)


def canary(folder: Path) -> Path:
    """A file outside of the workspace which every reader of the app could take for its own: chats, prompts, a run."""
    folder.mkdir()
    path = folder / f"{CANARY}.jsonl"
    chat = [{"role": "user", "content": SECRET}, {"role": "assistant", "content": SECRET}]
    path.write_text((json.dumps({"messages": chat, "prompt": SECRET}) + "\n") * 30)
    return path


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The app over a workspace full of hostile names. Its queue is held up: nothing that is asked of it ever trains."""
    home = tmp_path_factory.mktemp("security")
    workspace = Workspace(home / "workspace")
    hostile.fill(workspace)
    locks = [system.FolderLock(folder / LOCK) for folder in hostile.busy(workspace)]
    assert all(lock.acquire() for lock in locks)
    with start(home, workspace) as watched:
        yield watched
    for lock in locks:
        lock.release()


@contextmanager
def start(home: Path, workspace: Workspace, **environment: str) -> Iterator[Watched]:
    """The app over a workspace, with the witness inside."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        app = App(workspace.root, probe.getsockname()[1])
    watched = Watched(app, workspace, home / "cache", canary(home / "outside"), home / "witness.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(WITNESS))
        patch.setenv("WITNESS_LOG", str(watched.log))
        patch.setenv("WITNESS_CANARIES", os.pathsep.join([CANARY, "/etc/passwd"]))
        patch.setenv("GRADIO_TEMP_DIR", str(watched.cache))
        for name, value in environment.items():
            patch.setenv(name, value)
        app.start()
    try:
        yield watched
    finally:
        app.stop()
    assert watched.outside() == []


@pytest.fixture(scope="session")
def strangers(watched: Watched) -> list[Stranger]:
    """A few, who may call at the same time."""
    return [Stranger(watched.url) for _ in range(4)]
