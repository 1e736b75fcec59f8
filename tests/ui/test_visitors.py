"""Cookies of visitors, and what of Gradio's is whose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from phi3tune import hosted
from phi3tune.paths import Workspace, visitors
from phi3tune.ui import belongings
from phi3tune.ui.belongings import Belongings
from phi3tune.ui.visitors import COOKIE, Cookies, Visitors, VisitorsWorkspace

SECRET = "f" * 64  # the name of a file's folder in Gradio's cache


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache" / SECRET).mkdir(parents=True)
    (tmp_path / "cache" / SECRET / "chats.jsonl").write_text("x" * 1000)
    return tmp_path / "cache"


@pytest.fixture
def app(workspace: Workspace, cache: Path) -> Starlette:
    """Gradio's routes, as far as they matter here."""

    async def visitor(request: Request) -> Response:
        return PlainTextResponse(str(request.scope["state"]["visitor"]))

    async def joined(request: Request) -> Response:
        return JSONResponse({"event_id": f"event of {(await request.json())['session_hash']}"})

    async def uploaded(request: Request) -> Response:
        await request.body()
        return JSONResponse([str(cache / SECRET / "chats.jsonl")])

    async def made(request: Request) -> Response:
        file = {"path": str(cache / SECRET / "chats.jsonl"), "meta": {"_type": "gradio.FileData"}}
        return PlainTextResponse(f"data: {json.dumps({'output': {'data': [None, [file]]}})}\n\n")

    return Starlette(
        routes=[
            Route("/", visitor),
            Route("/gradio_api/queue/join", joined, methods=["POST"]),
            Route("/gradio_api/queue/data", made),
            Route("/gradio_api/upload", uploaded, methods=["POST"]),
            Route("/gradio_api/run/predict", visitor, methods=["POST"]),
            Route("/{any:path}", visitor, methods=["GET", "POST"]),
        ],
        middleware=[Middleware(Visitors, shared=workspace.root, cache=cache)],
    )


@pytest.fixture
def two(app: Starlette) -> Iterator[tuple[TestClient, TestClient]]:
    """Two browsers that have opened the page."""
    first, second = TestClient(app), TestClient(app)
    assert first.get("/").text != second.get("/").text
    yield first, second


def test_a_visitor_is_the_same_at_every_request_and_no_name_tells_the_cookie(
    app: Starlette, workspace: Workspace
) -> None:
    browser = TestClient(app)
    page = browser.get("/")
    [told] = page.headers.get_list("set-cookie")
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax", told)
    again = browser.get("/anything")
    assert again.text == page.text and "set-cookie" not in again.headers
    value = browser.cookies[COOKIE]
    assert page.text not in told and value not in page.text
    assert Cookies(workspace.root).folder(value) == page.text, "it is the same after a restart"
    assert (workspace.root / "visitors.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("value", ["", "a", "a" * 43, "é" * 43, "../../a", '"', "a" * 10_000, f"{COOKIE}={COOKIE}"])
def test_nobody_chooses_who_they_are(app: Starlette, value: str) -> None:
    brought = {b"cookie": f"{COOKIE}={value}".encode()}
    answers = [TestClient(app).get("/", headers=brought) for _ in range(2)]
    assert answers[0].text != answers[1].text
    assert all(re.fullmatch(r"[0-9a-f]{32}", answer.text) and "set-cookie" in answer.headers for answer in answers)


def test_a_cookie_with_another_seal_is_no_cookie(workspace: Workspace, tmp_path: Path) -> None:
    value = Cookies(workspace.root).new()
    changed = ("B" if value[0] == "A" else "A") + value[1:]
    assert Cookies(workspace.root).folder(changed) is None
    assert Cookies(tmp_path / "elsewhere").folder(value) is None


def test_in_a_space_the_cookie_is_for_the_frame(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "me/phi3tune")
    assert TestClient(app).get("/").headers["set-cookie"].endswith("HttpOnly; SameSite=None; Secure; Partitioned")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/gradio_api/queue/data?session_hash=mine", None),
        ("GET", "/gradio_api/queue/data?session_hash=x&session_hash=mine", None),
        ("GET", "/gradio_api/queue/data?session_hash=event%20of%20mine", None),
        ("GET", "/gradio_api/heartbeat/mine", None),
        ("GET", "/gradio_api/upload_progress?upload_id=mine", None),
        ("POST", "/gradio_api/upload?upload_id=mine", {}),
        ("POST", "/gradio_api/run/predict", {"session_hash": "mine", "data": []}),
        ("POST", "/gradio_api/queue/join", {"session_hash": "mine", "data": []}),
        ("POST", "/gradio_api/cancel", {"session_hash": "theirs", "event_id": "event of mine"}),
        ("GET", "/gradio_api/file={cache}/{secret}/chats.jsonl", None),
        ("GET", "/gradio_api/file={cache}/../{name}/{secret}/chats.jsonl", None),
        ("POST", "/gradio_api/run/predict", {"data": [{"path": "{cache}/{secret}/chats.jsonl"}]}),
        ("POST", "/gradio_api/run/predict", {"data": ["{cache}/x/../{secret}/chats.jsonl"]}),
    ],
)
def test_what_is_mine_is_not_theirs(
    two: tuple[TestClient, TestClient], cache: Path, method: str, path: str, body: dict[str, Any] | None
) -> None:
    mine, theirs = two
    mine.post("/gradio_api/queue/join", json={"session_hash": "mine", "data": []})
    mine.post("/gradio_api/upload?upload_id=mine", content=b"a file")

    def filled(text: str) -> str:
        return text.replace("{cache}", str(cache)).replace("{name}", cache.name).replace("{secret}", SECRET)

    content = None if body is None else filled(json.dumps(body))
    refused = theirs.request(method, filled(path), content=content)
    assert refused.status_code == 403 and "another visitor" in refused.text
    given = content and content.replace("theirs", "mine")
    if "session_hash=x" not in path:
        assert mine.request(method, filled(path), content=given).status_code == 200


def test_files_that_were_made_for_a_visitor_are_theirs(two: tuple[TestClient, TestClient], cache: Path) -> None:
    mine, theirs = two
    file = f"/gradio_api/file={cache}/{SECRET}/chats.jsonl"
    assert mine.get(file).status_code == 403
    mine.get("/gradio_api/queue/data?session_hash=mine")
    assert (mine.get(file).status_code, theirs.get(file).status_code) == (200, 403)
    assert mine.get("/gradio_api/file=/etc/passwd").status_code == 403
    theirs.post("/gradio_api/upload", content=b"the same file")
    assert theirs.get(file).status_code == 200


@pytest.mark.parametrize("body", [b"[]", b"42", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_cannot_be_checked_is_refused(two: tuple[TestClient, TestClient], body: bytes) -> None:
    assert two[0].post("/gradio_api/run/predict", content=body).status_code == 400


def test_an_upload_ends_where_the_storage_does(
    two: tuple[TestClient, TestClient], monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    from starlette.formparsers import MultiPartException

    mine, theirs = two
    monkeypatch.setenv(f"{hosted.PREFIX}MAX_STORAGE", "0.003")
    folder = visitors(workspace.root) / mine.get("/").text
    folder.mkdir(parents=True)
    (folder / "run").write_bytes(bytes(1000))
    mine.post("/gradio_api/upload", content=bytes(1500))  # a copy of 1,000 bytes lies in the cache now
    for browser, size, fits in ((mine, 900, True), (mine, 1100, False), (theirs, 2900, True), (theirs, 3100, False)):
        if fits:
            assert browser.post("/gradio_api/upload", content=bytes(size)).status_code == 200
            continue
        with pytest.raises(MultiPartException, match=r"maximum allowed size of 0.003 MB in all"):
            browser.post("/gradio_api/upload", content=bytes(size))


def test_when_there_is_no_place_left_nobody_new_is_let_in(
    app: Starlette, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    known = TestClient(app)
    (visitors(workspace.root) / known.get("/").text).mkdir(parents=True)
    monkeypatch.setenv(f"{hosted.PREFIX}MAX_VISITORS", "1")
    assert known.get("/").status_code == 200
    refused = TestClient(app).get("/")
    assert refused.status_code == 503 and "at most 1 visitors" in refused.text


def test_only_so_many_names_are_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(belongings, "_MOST", 2)
    own = Belongings(cache)
    assert own.claim("1", "a") and own.claim("2", "a") and own.claim("1", "a") and not own.claim("1", "b")
    assert own.claim("3", "a")
    assert not own.claim("1", "b") and own.claim("2", "b"), "what was used last is remembered"
    assert not own.claim("x" * 1000, "a")


def test_a_workspace_is_that_of_whoever_asks(workspace: Workspace) -> None:
    from gradio.context import LocalContext

    everybody = VisitorsWorkspace(workspace.root)
    assert hosted.rules(everybody) is not None
    with pytest.raises(RuntimeError, match="nobody asks"):
        _ = everybody.runs
    for name in ("a", "b"):
        asked = SimpleNamespace(request=SimpleNamespace(scope={"state": {"visitor": name}}))
        token = LocalContext.request.set(asked)  # type: ignore[arg-type]
        try:
            assert everybody.runs == visitors(workspace.root) / name / "runs"
            here = everybody.here()
        finally:
            LocalContext.request.reset(token)
        assert here == Workspace(visitors(workspace.root) / name, workspace.root)
