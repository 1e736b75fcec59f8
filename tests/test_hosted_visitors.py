"""Two visitors of the real app at once, over HTTP: neither sees, opens, takes or deletes what is the other's."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from phi3tune import hosted, jobs, system
from phi3tune.config import TrainConfig, to_yaml
from phi3tune.events import Status
from phi3tune.jobs.folder import LOCK, Job
from phi3tune.paths import Workspace, every_visitor, visitors
from tests.browser.conftest import App
from tests.ended_runs import ended_run
from tests.security.calls import Handler, Stranger

CANARY = "canary-of-a"
RUN = "lamp-of-a"


@dataclass
class Hosted:
    """The app, and two visitors who have opened its page. Visitor a has a run and an uploaded dataset."""

    home: Path
    a: Stranger
    b: Stranger
    of_a: Workspace
    upload: str
    dataset: str


def _going(workspace: Workspace) -> Path:
    """A run of a third visitor, which goes on as long as somebody holds its lock: the app itself trains nothing."""
    folder, config = workspace.runs / "going", TrainConfig()
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(to_yaml(config))
    (folder / jobs.JOB).write_text(Job("train", config).to_json())
    status = Status(kind="train", state="running", pid=os.getpid())
    (folder / jobs.STATUS).write_text(status.model_dump_json())
    return folder


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    home = tmp_path_factory.mktemp("hosted") / "workspace"
    lock = system.FolderLock(_going(Workspace(visitors(home) / "third", home)) / LOCK)
    assert lock.acquire()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        served = App(home, probe.getsockname()[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(hosted.MODE, "hosted")
        patch.setenv(f"{hosted.PREFIX}MAX_UPLOAD", "1")
        patch.setenv("HF_TOKEN", "hf_canary_of_the_owner")
        served.start()
    try:
        yield _with_work(home, Stranger(served.url), Stranger(served.url))
    finally:
        served.stop()
        lock.release()


def _with_work(home: Path, a: Stranger, b: Stranger) -> Hosted:
    chat = [{"role": "user", "content": CANARY}, {"role": "assistant", "content": "It works."}]
    rows = (json.dumps({"messages": chat}) + "\n") * 20
    [upload] = a.http.post("/gradio_api/upload", files={"files": ("mine.jsonl", rows.encode())}).json()
    file = {"path": upload, "orig_name": "mine.jsonl", "meta": {"_type": "gradio.FileData"}}
    assert "mine-" in a.call(handler(a, "store"), [file])
    [of_a] = [each for each in every_visitor(home) if each.root.name != "third"]
    ended_run(of_a, RUN, dataset="lantern-support")
    (of_a.runs / RUN / "note.txt").write_text(CANARY)
    return Hosted(home, a, b, of_a, upload, next(of_a.datasets.iterdir()).name)


def handler(of: Stranger, name: str) -> Handler:
    return next(one for one in of.handlers if one.name == name)


def given(one: Handler, **values: Any) -> list[Any]:
    """What the page would send, with other values in some fields, by their ids."""
    named = {name.replace("_", "-"): value for name, value in values.items()}
    return [named.get(part.elem_id, part.value) for part in one.inputs]


def test_everybody_sees_their_own(app: Hosted) -> None:
    mine = app.a.call(handler(app.a, "open"), handler(app.a, "open").values)
    theirs = app.b.call(handler(app.b, "open"), handler(app.b, "open").values)
    assert RUN in mine and app.dataset in mine
    assert RUN not in theirs and app.dataset not in theirs and "mine.jsonl" not in theirs
    assert "lantern-support" in theirs


def test_no_handler_reaches_another_visitor(app: Hosted) -> None:
    """Not by the names of what a has, nor by the paths, whatever field they are put into."""
    before = {path: path.stat().st_mtime_ns for path in app.of_a.root.rglob("*")}
    path, above = str(app.of_a.runs / RUN), f"../../{app.of_a.root.name}/runs/{RUN}"
    for names in ((RUN, app.dataset), (path, above)):
        for one in app.b.distinct():
            texts = [part.value is None or isinstance(part.value, str) for part in one.inputs]
            if not any(texts):
                continue
            values = [
                names["dataset" in part.elem_id] if text else part.value
                for part, text in zip(one.inputs, texts, strict=True)
            ]
            said = app.b.call(one, values)
            assert CANARY not in said and "hf_canary" not in said, (one.name, names)
            assert str(app.home) not in said.replace(path, ""), (one.name, names)
    assert {path: path.stat().st_mtime_ns for path in app.of_a.root.rglob("*")} == before


def test_sessions_and_files_are_their_owners(app: Hosted) -> None:
    file = f"/gradio_api/file={app.upload}"
    assert CANARY in app.a.http.get(file).text
    refused = [
        app.b.http.get(file),
        app.b.http.get(f"/gradio_api/file={app.of_a.runs / RUN / 'note.txt'}"),
        app.b.http.get("/gradio_api/queue/data", params={"session_hash": app.a.session}),
        app.b.http.get(f"/gradio_api/heartbeat/{app.a.session}"),
        app.b.http.post("/gradio_api/run/predict", json={"session_hash": app.a.session, "fn_index": 0, "data": []}),
        app.b.http.post("/gradio_api/cancel", json={"session_hash": app.a.session, "fn_index": 0, "event_id": "x"}),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    taken = {"path": app.upload, "orig_name": "mine.jsonl", "meta": {"_type": "gradio.FileData"}}
    assert "another visitor" in app.b.call(handler(app.b, "store"), [taken])
    assert not any(CANARY in answer.text for answer in refused)
    assert app.a.http.get(f"/gradio_api/file={app.of_a.runs / RUN / 'note.txt'}").status_code == 403


def test_an_upload_over_the_limit_is_refused_with_the_limit(app: Hosted) -> None:
    for size in (1_000_001, 5_000_000):
        refused = app.b.http.post("/gradio_api/upload", files={"files": ("big.jsonl", bytes(size))})
        assert refused.status_code == 413 and ("1000000 bytes" in refused.text or "1 MB" in refused.text)


def test_a_third_long_run_is_queued_with_its_position_and_a_longer_one_is_refused(app: Hosted) -> None:
    start = handler(app.a, "start")
    for who, name in ((app.a, "first-of-a"), (app.b, "first-of-b")):
        who.call(start, given(start, dataset="lantern-support", train_model="phi3-nano", set_name=name))
    of_b = next(each for each in every_visitor(app.home) if (each.runs / "first-of-b").is_dir())
    [waiting] = jobs.active(of_b)
    assert (waiting.id, waiting.state, waiting.queue_position) == ("first-of-b", "queued", 2)
    told = app.b.call(handler(app.b, "open"), handler(app.b, "open").values)
    assert "first-of-b" in told and "first-of-a" not in told
    said = app.b.call(start, given(start, dataset="lantern-support", train_model="phi3-nano", set_max_steps=1001))
    assert "1,001 steps, and 1,000 are the limit here" in said
