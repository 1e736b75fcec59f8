from __future__ import annotations

import json
import mmap
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from phi3tune import builds, jobs, system
from phi3tune.config import EvalConfig
from phi3tune.engines.models import ModelRef, list_models, resolve
from phi3tune.errors import UserError
from phi3tune.jobs.folder import Job
from phi3tune.paths import Workspace, manifest_problem, new_folder, write_json
from phi3tune.store import queue
from tests.fake_builds import fake_build


@dataclass
class FakePool:
    idle: bool

    def unload(self, ref: ModelRef) -> bool:
        return self.idle


def only(workspace: Workspace) -> builds.Build:
    (found,) = builds.list_builds(workspace)
    return found


def test_list_tells_what_there_is(workspace: Workspace) -> None:
    path = fake_build(workspace, "lamp")
    os.utime(path / "manifest.json", (1000, 1000))
    fake_build(workspace, "lamp", "int8", passed=False)
    with new_folder(workspace.runs / "lamp" / "merged") as folder:
        (folder / "model.safetensors").write_bytes(b"m" * 100)
    (workspace.runs / "lamp" / "onnx" / "half-written").mkdir()
    found = {build.name: build for build in builds.list_builds(workspace)}
    assert set(found) == {"int4", "int8", "merged"}
    assert builds.list_builds(workspace)[-1].name == "int4"  # the oldest
    good = found["int4"]
    assert (good.ref, good.label, good.model, good.form) == ("lamp/onnx/int4", "lamp/onnx/int4", "lamp", "onnx")
    assert good.size_bytes == sum(file.stat().st_size for file in path.iterdir())
    assert (good.verdict, found["int8"].verdict, found["merged"].verdict) == ("passed", "failed", "not compared")
    assert good.measured["decode_tokens_per_second"] == 810.5
    assert found["merged"].form == "merged"
    assert json.loads(json.dumps(builds.as_json(good)))["path"] == str(path)


def test_failing_build_says_so_wherever_models_are_chosen(workspace: Workspace) -> None:
    fake_build(workspace, "lamp", "int4", passed=False)
    fake_build(workspace, "lamp", "int8")
    labels = {ref.ref: ref.label for ref in list_models(workspace)}
    assert labels["lamp/onnx/int4"] == "lamp/onnx/int4 (fails parity)"
    assert labels["lamp/onnx/int8"] == "lamp/onnx/int8"
    assert resolve("lamp/onnx/int4", workspace).failing is True


def test_run_of_whole_weights_is_no_build(workspace: Workspace) -> None:
    home = fake_build(workspace, "full").parent.parent
    with new_folder(home / "merged") as folder:
        (folder / "model.safetensors").write_bytes(b"the run's only result")
    (home / "adapter").rename(home / "gone")
    assert [build.name for build in builds.list_builds(workspace)] == ["int4"]


def test_find(workspace: Workspace) -> None:
    path = fake_build(workspace, "lamp")
    assert builds.find("lamp/onnx/int4", workspace).path == path
    assert builds.find(str(path), workspace).path == path
    with pytest.raises(UserError, match="no build 'lamp/onnx/int8'; builds: lamp/onnx/int4"):
        builds.find("lamp/onnx/int8", workspace)


def test_delete_moves_to_the_trash(workspace: Workspace) -> None:
    path = fake_build(workspace, "lamp")
    place = builds.delete(only(workspace), workspace)
    assert not path.exists()
    assert place.parent == workspace.trash
    assert manifest_problem(place) is None
    assert builds.list_builds(workspace) == []


def test_delete_is_refused_while_loaded(workspace: Workspace) -> None:
    path = fake_build(workspace, "lamp")
    with pytest.raises(UserError, match="answering just now"):
        builds.delete(only(workspace), workspace, pool=FakePool(idle=False))  # type: ignore[arg-type]
    with (path / "model.onnx.data").open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ):
        stream.close()  # as onnxruntime: mapped, and not open any more
        assert system.processes_reading(path) == [os.getpid()]
        with pytest.raises(UserError, match=f"loaded by process {os.getpid()}"):
            builds.delete(only(workspace), workspace)
    builds.delete(only(workspace), workspace, pool=FakePool(idle=True))  # type: ignore[arg-type]
    assert not path.exists()


def test_delete_is_refused_while_a_job_needs_it(workspace: Workspace) -> None:
    fake_build(workspace, "lamp")
    job = workspace.evals / "eval-1"
    config = EvalConfig(models=["lamp/onnx/int4"], dataset="lantern-support")
    job.mkdir(parents=True)
    (job / jobs.JOB).write_text(Job("evaluate", config).to_json())
    (job / jobs.STATUS).write_text(jobs.read_status(workspace.runs / "lamp").model_copy(
        update={"kind": "evaluate", "state": "queued", "pid": None}
    ).model_dump_json())  # fmt: skip
    with queue(workspace) as line:
        line.add(job, "tools")
    with pytest.raises(UserError, match="in use by eval-1"):
        builds.delete(only(workspace), workspace)


def test_archive_is_whole_checked_and_private(workspace: Workspace, tmp_path: Path) -> None:
    fake_build(workspace, "lamp")
    out = builds.archive(only(workspace), workspace, tmp_path / "lamp.zip")
    with zipfile.ZipFile(out) as pack:
        assert pack.testzip() is None
        pack.extractall(tmp_path / "out")
    folder = tmp_path / "out" / "lamp-int4"
    assert manifest_problem(folder) is None
    assert resolve(str(folder), workspace).kind == "onnxruntime-genai"
    assert not (folder / "notes.txt").exists()
    for file in folder.rglob("*"):
        assert str(workspace.root).encode() not in file.read_bytes(), file
        assert b"/home/ada" not in file.read_bytes(), file
    with pytest.raises(UserError, match="exists already"):
        builds.archive(only(workspace), workspace, out)


def test_archive_of_an_altered_build_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    path = fake_build(workspace, "lamp")
    (path / "model.onnx.data").write_bytes(b"w" * 4999 + b"x")
    with pytest.raises(UserError, match=r"model\.onnx\.data was altered"):
        builds.archive(only(workspace), workspace, tmp_path / "lamp.zip")
    assert list(tmp_path.glob("*.zip*")) == []


def test_archive_on_a_full_disk_leaves_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_build(workspace, "lamp")
    monkeypatch.setattr(system, "disk_free", lambda path: 10)
    with pytest.raises(UserError, match="free"):
        builds.archive(only(workspace), workspace, tmp_path / "lamp.zip")
    assert not (tmp_path / "lamp.zip").exists()


def test_path_in_a_foreign_record_is_not_packed(workspace: Workspace, tmp_path: Path) -> None:
    path = fake_build(workspace, "lamp")
    config = json.loads((path / "tokenizer_config.json").read_text())
    with new_folder(path) as folder:
        for file in path.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        write_json(folder / "tokenizer_config.json", {**config, "remark": f"from {workspace.root}/x"})
    with pytest.raises(UserError, match=r"tokenizer_config\.json tells the path"):
        builds.archive(only(workspace), workspace, tmp_path / "lamp.zip")
