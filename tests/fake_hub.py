"""A Hugging Face Hub on this machine: what huggingface_hub 2.4 asks for datasets and models, and faults on request."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from huggingface_hub.utils.sha import git_hash

from tests.fake_server import running

_API = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
LARGE = 1000  # bytes from which a file is kept as the Hub keeps large ones: known by its sha256


@dataclass
class Repo:
    """One repository. `token`: who does not send it gets 404 (private) or 403 (gated), as on the Hub.

    broken  path -> how many more downloads of it end in the middle of the file
    forged  path -> other bytes of the same length that are sent for it
    """

    files: dict[str, bytes]
    kind: Literal["datasets", "models"] = "datasets"
    card: dict[str, Any] = field(default_factory=dict)
    access: Literal["open", "private", "gated"] = "open"
    token: str = "hf_right"
    branches: tuple[str, ...] = ("main",)
    broken: dict[str, int] = field(default_factory=dict)
    forged: dict[str, bytes] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        """As in git, another content is another commit."""
        content = [(name, hashlib.sha1(data).hexdigest()) for name, data in sorted(self.files.items())]
        return hashlib.sha1(json.dumps([self.card, content]).encode()).hexdigest()


class FakeHub:
    """`repos` by id. `requests` holds (method, path, Range header) in the order they came."""

    def __init__(self, endpoint: str, repos: dict[str, Repo]) -> None:
        self.endpoint = endpoint
        self.repos = repos
        self.requests: list[tuple[str, str, str | None]] = []

    def downloads(self) -> list[str]:
        """Paths of the files that were asked for, without the look-ups before."""
        return [path for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]


@contextmanager
def fake_hub(repos: dict[str, Repo]) -> Iterator[FakeHub]:
    """A running hub; set `HF_ENDPOINT` to its `endpoint`."""
    with running(_Handler) as server:
        hub = FakeHub(f"http://127.0.0.1:{server.server_address[1]}", repos)
        server.hub = hub  # type: ignore[attr-defined]
        yield hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub: FakeHub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path, self.headers.get("Range")))
        quoted = urlsplit(self.path).path  # a revision may hold an encoded slash
        if found := _API.fullmatch(quoted):
            kind, name, what, revision = found.groups()
            if repo := self._repo(hub, kind, name, unquote(revision or "main")):
                self._json(_tree(repo) if what == "tree" else _info(repo, name))
        elif found := _FILE.fullmatch(quoted):
            dataset, name, revision, file = found.groups()
            if repo := self._repo(hub, "datasets" if dataset else "models", name, unquote(revision)):
                self._file(repo, unquote(file))
        else:
            self._error(404, "", "no such page")

    def _repo(self, hub: FakeHub, kind: str, name: str, revision: str) -> Repo | None:
        repo = hub.repos.get(name)
        known = repo is not None and self.headers.get("Authorization") == f"Bearer {repo.token}"
        if repo is None or repo.kind != kind or (repo.access == "private" and not known):
            self._error(404 if self.headers.get("Authorization") else 401, "RepoNotFound", "Repository not found")
        elif revision not in (*repo.branches, repo.commit):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif repo.access == "gated" and not known:
            self._error(401 if not self.headers.get("Authorization") else 403, "GatedRepo", "Access is restricted")
        else:
            return repo
        return None

    def _file(self, repo: Repo, name: str) -> None:
        if name not in repo.files:
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": repo.commit})
            return
        data = repo.forged.get(name, repo.files[name])
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{_etag(repo.files[name])}"', "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = None
        if self.command == "GET" and repo.broken.get(name, 0):
            repo.broken[name] -= 1
            cut = start + (len(data) - start) // 2
        self._send(206 if start else 200, data[start:], "application/octet-stream", headers, until=cut and cut - start)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), "application/json")

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        told = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
        self._send(status, json.dumps({"error": message}).encode(), "application/json", told)

    def _send(
        self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None, *, until: int | None = None
    ) -> None:
        """`until`: send only so many bytes of what was announced, and hang up."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[:until])
        if until is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if len(data) >= LARGE else git_hash(data)


def _info(repo: Repo, name: str) -> dict[str, Any]:
    gated = "manual" if repo.access == "gated" else False
    return {
        "_id": "1",
        "id": name,
        "author": name.split("/")[0],
        "sha": repo.commit,
        "private": repo.access == "private",
        "gated": gated,
        "tags": [],
        "cardData": repo.card,
        "siblings": [{"rfilename": path} for path in repo.files],
    }


def _tree(repo: Repo) -> list[dict[str, Any]]:
    found = []
    for path, data in repo.files.items():
        item: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
        if len(data) >= LARGE:
            item["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        found.append(item)
    return found
