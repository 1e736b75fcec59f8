"""A run as one file: what is in it, what comes back, and what a hostile archive cannot do."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from phi3tune import archive, jobs, system
from phi3tune.about import edit_about, read_about
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.events import Completed, read_events
from phi3tune.paths import NANO, Workspace, file_hash, manifest_problem, write_json
from tests.ended_runs import curve, ended_run

LOSSES = curve(loss=[2.0, 1.5, 1.2, 1.0])


@pytest.fixture
def run(workspace: Workspace) -> Path:
    folder = ended_run(workspace, "lamp-1", events=LOSSES, lora_rank=4, dataset="lantern-support")
    edit_about(folder, title="The lamp", tags=["a"], note="my note")
    checkpoint = folder / "checkpoints" / "checkpoint-4"
    checkpoint.mkdir(parents=True)
    for name in ("optimizer.pt", "adapter_model.safetensors"):
        (checkpoint / name).write_bytes(b"pickled")
    (folder / jobs.LOG).write_text("words of this machine")
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events.out.tfevents.1").write_bytes(b"curves")
    evaluation = folder / "eval" / "test-eval-1"
    evaluation.mkdir(parents=True)
    (evaluation / jobs.STATUS).write_text(json.dumps({"kind": "evaluate", "state": "completed"}))
    (evaluation / "report.json").write_text(json.dumps({"schema": 2}))
    (evaluation / "report.html").write_text("<script>alert(1)</script>")
    return folder


@pytest.fixture
def exported(run: Path, workspace: Workspace, tmp_path: Path) -> Path:
    return archive.export_run(run.name, workspace, tmp_path / "lamp.zip")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "elsewhere")


def test_an_archive_holds_settings_events_adapter_and_evaluations_and_nothing_else(exported: Path):
    with zipfile.ZipFile(exported) as found:
        assert set(found.namelist()) == {
            "archive.json",
            "about.json",
            "dataset.json",
            "events.jsonl",
            "job.json",
            "run.yaml",
            "status.json",
            "adapter/adapter_config.json",
            "adapter/adapter_model.safetensors",
            "adapter/manifest.json",
            "eval/test-eval-1/report.json",
            "eval/test-eval-1/status.json",
        }


def test_an_imported_run_is_the_run(run: Path, exported: Path, elsewhere: Workspace):
    assert archive.import_run(exported, elsewhere) == "lamp-1"
    folder = elsewhere.run("lamp-1")
    job = jobs.view(folder)
    assert (job.state, job.title, job.tags, job.about.note) == ("completed", "The lamp", ("a",), "my note")
    assert (job.resume_step, jobs.read_status(folder).pid) == (None, None)
    assert jobs.read_config(folder) == jobs.read_config(run)
    events = read_events(folder / jobs.EVENTS)[0]
    assert events[:-1] == LOSSES and isinstance(events[-1], Completed)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (folder / "adapter" / name).read_bytes() == (run / "adapter" / name).read_bytes()
    assert manifest_problem(folder / "adapter") is None
    assert [path.name for path in elsewhere.runs.iterdir()] == ["lamp-1"]


def test_a_name_that_is_taken_gets_a_number(exported: Path, workspace: Workspace):
    assert archive.import_run(exported, workspace) == "lamp-1-2"
    assert archive.import_run(exported, workspace) == "lamp-1-3"
    assert jobs.view(workspace.run("lamp-1-3")).result["run"] == "lamp-1-3"


def test_the_base_can_be_named_anew_when_it_is_the_same(
    run: Path, workspace: Workspace, elsewhere: Workspace, tmp_path: Path
):
    weights = {"bytes": 1, "sha256": file_hash(NANO / "model.safetensors")}
    files = {"model.safetensors": weights, "adapter/adapter_config.json": {"bytes": 1, "sha256": "another run's"}}
    write_json(run / "model.json", {"schema": 1, "model": "gone", "base": "gone", "files": files})
    file = archive.export_run(run.name, workspace, tmp_path / "gone.zip")
    archive.import_run(file, elsewhere)
    with pytest.raises(UserError, match="'gone' does not exist"):
        models.resolve("lamp-1", elsewhere)
    name = archive.import_run(file, elsewhere, model=str(NANO))
    assert models.resolve(name, elsewhere).folder == NANO
    assert "model: " + str(NANO) in (elsewhere.run(name) / "run.yaml").read_text()
    write_json(run / "model.json", {"schema": 1, "files": {"model.safetensors": {"bytes": 1, "sha256": "0"}}})
    other = archive.export_run(run.name, workspace, tmp_path / "other.zip")
    with pytest.raises(UserError, match=r"is not the base of this run: model\.safetensors differ"):
        archive.import_run(other, elsewhere, model=str(NANO))
    assert len(list(elsewhere.runs.iterdir())) == 2


def test_export_is_refused_without_a_result_or_over_a_file(workspace: Workspace, exported: Path, tmp_path: Path):
    ended_run(workspace, "bare", state="failed", adapter=False)
    with pytest.raises(UserError, match="bare is failed and has no result"):
        archive.export_run("bare", workspace, tmp_path / "bare.zip")
    with pytest.raises(UserError, match="exists already"):
        archive.export_run("lamp-1", workspace, exported)
    assert sorted(path.name for path in tmp_path.glob("*.zip")) == ["lamp.zip"]


def test_export_to_a_full_disk_leaves_nothing(
    run: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(system, "disk_free", lambda path: 10)
    with pytest.raises(UserError, match="the archive needs"):
        archive.export_run(run.name, workspace, tmp_path / "out" / "lamp.zip")
    assert list((tmp_path / "out").iterdir()) == []


Entries = dict[str, bytes]


def remade(path: Path, change: Callable[[Entries], None], *, relist: bool = True) -> Path:
    """The archive with other entries; `relist` makes its list of hashes fit them again."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    change(entries)
    if relist:
        index = json.loads(entries["archive.json"])
        listed = {n: d for n, d in entries.items() if n != "archive.json"}
        index["files"] = {n: {"bytes": len(d), "sha256": _sha256(d)} for n, d in listed.items()}
        entries["archive.json"] = json.dumps(index).encode()
    out = path.with_name("changed.zip")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(name, data)
    return out


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def setting(name: str, data: bytes) -> Callable[[Entries], None]:
    return lambda entries: entries.__setitem__(name, data)


REFUSED: dict[str, tuple[Callable[[Entries], None], str]] = {
    "climbs out": (setting("../../evil.json", b"{}"), "no file that a run consists of"),
    "climbs out of the adapter": (setting("adapter/../../x.json", b"{}"), "no file that a run consists of"),
    "absolute": (setting("/tmp/evil.json", b"{}"), "no file that a run consists of"),
    "backslash": (setting("adapter\\..\\evil.json", b"{}"), "no file that a run consists of"),
    "pickle": (setting("checkpoints/checkpoint-4/optimizer.pt", b"x"), "no file that a run consists of"),
    "pickled weights": (setting("adapter/adapter_model.bin", b"x"), "no file that a run consists of"),
    "code": (setting("adapter/modeling_phi3.py", b"x"), "no file that a run consists of"),
    "page": (setting("eval/test-eval-1/report.html", b"<script>"), "no file that a run consists of"),
    "bomb": (setting("adapter/tokenizer.json", b"0" * 30_000_000), "more than 200 times its size"),
    "no settings": (lambda entries: entries.pop("job.json") and None, "job.json is missing"),
    "no result": (
        lambda entries: [entries.pop(name) for name in list(entries) if name.startswith("adapter/")] and None,
        "has no result",
    ),
    "unsound adapter": (setting("adapter/adapter_model.safetensors", b"other"), "adapter is not sound"),
    "unreadable settings": (setting("job.json", b'{"kind": "train", "config": {"epochs": -1}}'), "cannot be read"),
    "another kind": (
        setting("job.json", b'{"kind": "export", "config": {"model": "phi3-nano"}}'),
        "no finished training run",
    ),
    "still running": (setting("status.json", b'{"kind": "train", "state": "running"}'), "no finished training run"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    name: str, exported: Path, elsewhere: Workspace, tmp_path: Path
):
    change, words = REFUSED[name]
    before = sorted(tmp_path.rglob("*"))
    bad = remade(exported, change)
    with pytest.raises(UserError, match=words):
        archive.import_run(bad, elsewhere)
    assert list(elsewhere.runs.iterdir()) == []
    assert {*tmp_path.rglob("*")} == {*before, bad, elsewhere.root, elsewhere.runs}


def test_altered_bytes_and_unlisted_files_are_refused(exported: Path, elsewhere: Workspace):
    for change, words in (
        (setting("dataset.json", b'{"schema": 2}'), "dataset.json was altered"),
        (setting("model.json", b"{}"), "not those that its archive.json lists"),
        (lambda entries: entries.pop("about.json") and None, "not those that its archive.json lists"),
    ):
        with pytest.raises(UserError, match=words):
            archive.import_run(remade(exported, change, relist=False), elsewhere)
    assert list(elsewhere.runs.iterdir()) == []


def test_links_are_refused(exported: Path, elsewhere: Workspace):
    with zipfile.ZipFile(exported) as old, zipfile.ZipFile(exported.with_name("link.zip"), "w") as new:
        for info in old.infolist():
            if info.filename == "dataset.json":
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            new.writestr(info, old.read(info.filename))
    with pytest.raises(UserError, match="no plain file"):
        archive.import_run(exported.with_name("link.zip"), elsewhere)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "empty zip"])
def test_what_is_no_archive_is_told_in_one_line(content: bytes, elsewhere: Workspace, tmp_path: Path):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.zip"):
        archive.import_run(path, elsewhere)
    with pytest.raises(UserError, match="does not exist"):
        archive.import_run(tmp_path / "none.zip", elsewhere)


def test_a_truncated_archive_is_refused(exported: Path, elsewhere: Workspace):
    os.truncate(exported, exported.stat().st_size - 100)
    with pytest.raises(UserError, match="cannot be read as an archive"):
        archive.import_run(exported, elsewhere)


def test_import_needs_the_disk(exported: Path, elsewhere: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(system, "disk_free", lambda path: 10)
    with pytest.raises(UserError, match="make room first"):
        archive.import_run(exported, elsewhere)
    assert list(elsewhere.runs.iterdir()) == []


def test_words_of_a_stranger_are_read_as_words(exported: Path, elsewhere: Workspace):
    spoiled = remade(exported, setting("about.json", b'{"title": 3, "unknown": []}'))
    name = archive.import_run(spoiled, elsewhere)
    assert read_about(elsewhere.run(name)).title == ""
