"""A Hugging Face Hub on this machine: what huggingface_hub 2.4 asks for and sends, and faults on request."""

from __future__ import annotations

import base64
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
    """`repos` by id; `large` the files that were pushed, by sha256. `requests` holds (method, path, Range header)."""

    def __init__(self, endpoint: str, repos: dict[str, Repo]) -> None:
        self.endpoint = endpoint
        self.repos = repos
        self.requests: list[tuple[str, str, str | None]] = []
        self.large: dict[str, bytes] = {}

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

    def do_POST(self) -> None:
        self._write()

    def do_PUT(self) -> None:
        self._write()

    def _write(self) -> None:
        """What a push sends: the repository is made, large files go to their store, and one commit names them all."""
        hub: FakeHub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path, None))
        length = int(self.headers.get("Content-Length", 0))
        try:
            body = self.rfile.read(length)
        except ConnectionError:
            body = b""
        if len(body) < length:  # the other side hung up
            self.close_connection = True
            return
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(hub, json.loads(body))
        elif found := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            hub.large[found[1]] = body
            self._send(200 if hashlib.sha256(body).hexdigest() == found[1] else 422, b"", "text/plain")
        elif found := re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+?)(?:\.git)?/(preupload|info|commit)/.*", path):
            name, what = found.groups()
            repo = self._repo(hub, "models", name, "main")
            if repo is not None and self.headers.get("Authorization") != f"Bearer {repo.token}":
                self._error(403, "", "You have no right to write here")
            elif repo is not None:
                answer = {"preupload": _modes, "info": _batch, "commit": _committed}[what]
                self._json(answer(hub, repo, body))
        else:
            self._error(404, "", "no such page")

    def _create(self, hub: FakeHub, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if self.headers.get("Authorization") != "Bearer hf_right":
            self._error(401, "", "Invalid credentials")
        elif name in hub.repos:
            told = {"error": "You already created this model repo", "url": f"{hub.endpoint}/{name}"}
            self._send(409, json.dumps(told).encode(), "application/json")
        else:
            private = wanted.get("visibility") == "private"
            hub.repos[name] = Repo({}, "models", access="private" if private else "open")
            self._json({"url": f"{hub.endpoint}/{name}"})

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
        if self.command != "HEAD":
            self.wfile.write(data[:until])
        if until is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _modes(hub: FakeHub, repo: Repo, body: bytes) -> dict[str, Any]:
    """Which files are large."""
    files = json.loads(body)["files"]
    modes = [(file["path"], "lfs" if file["size"] >= LARGE else "regular") for file in files]
    return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]}


def _batch(hub: FakeHub, repo: Repo, body: bytes) -> dict[str, Any]:
    """Where each large file goes; none for what is there already."""
    found = []
    for wanted in json.loads(body)["objects"]:
        place = {} if wanted["oid"] in hub.large else {"upload": {"href": f"{hub.endpoint}/lfs/{wanted['oid']}"}}
        found.append({**wanted, **({"actions": place} if place else {})})
    return {"transfer": "basic", "objects": found}


def _committed(hub: FakeHub, repo: Repo, body: bytes) -> dict[str, Any]:
    """All files of a commit at once."""
    for line in body.decode().splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "file":
            repo.files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            repo.files[value["path"]] = hub.large[value["oid"]]
        elif entry["key"] == "deletedFile":
            del repo.files[value["path"]]
    name = next(name for name, known in hub.repos.items() if known is repo)
    url = f"{hub.endpoint}/{name}/commit/{repo.commit}"
    return {"commitUrl": url, "commitOid": repo.commit, "success": True}


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
