from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from phi3tune import api
from phi3tune.cli import main
from phi3tune.engines.models import resolve
from phi3tune.errors import UserError
from phi3tune.events import Progress
from phi3tune.export.push import push
from phi3tune.paths import Workspace, manifest_problem, write_manifest
from tests.fake_builds import fake_build
from tests.fake_hub import FakeHub, Repo, fake_hub
from tests.fakes import RecordingReporter


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", "hf_right")


@pytest.fixture
def hub(online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub({}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def test_a_build_arrives_whole(hub: FakeHub, workspace: Workspace, tmp_path: Path) -> None:
    path = fake_build(workspace, "lamp", weights=bytes(range(256)) * 1000)
    reporter = RecordingReporter()
    found = push(resolve("lamp/onnx/int4", workspace), "ada/lamp-int4", workspace, reporter)
    assert found is not None
    repo = hub.repos["ada/lamp-int4"]
    assert repo.access == "open"
    assert found["commit"] == repo.commit
    assert found["files"] == sorted(repo.files)
    assert found["bytes"] == sum(map(len, repo.files.values()))
    assert repo.files["model.onnx.data"] == (path / "model.onnx.data").read_bytes()
    for name, content in repo.files.items():
        (tmp_path / "copy").mkdir(exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    assert manifest_problem(tmp_path / "copy") is None
    assert resolve(str(tmp_path / "copy"), workspace).kind == "onnxruntime-genai"
    sent = reporter.of(Progress)[-1]
    assert (sent.done, sent.total, sent.unit) == (256_010, 256_010, "bytes")


def test_nothing_private_leaves(hub: FakeHub, workspace: Workspace) -> None:
    fake_build(workspace, "lamp")
    push(resolve("lamp/onnx/int4", workspace), "ada/lamp", workspace, RecordingReporter())
    files = hub.repos["ada/lamp"].files
    assert "notes.txt" not in files
    for name, content in files.items():
        for secret in (str(workspace.root), "/home/ada", "hf_right"):
            assert secret.encode() not in content, (name, secret)
    assert json.loads(files["build.json"])["made_from"] == "lamp"
    card = files["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "apache-2.0"
    assert "5e" * 32 in card  # the data's hash, and its name
    assert "chats.jsonl" not in card


def test_an_adapter_names_its_public_base(hub: FakeHub, workspace: Workspace) -> None:
    fake_build(workspace, "lamp")
    adapter = workspace.runs / "lamp" / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    push(resolve("lamp", workspace), "ada/lamp", workspace, RecordingReporter(), private=True)
    repo = hub.repos["ada/lamp"]
    assert repo.access == "private"
    assert "adapter_model.safetensors" in repo.files
    assert json.loads(repo.files["adapter_config.json"])["base_model_name_or_path"] == "phi3-nano"


def test_from_python_and_the_terminal(hub: FakeHub, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    fake_build(workspace, "lamp")
    assert [build.ref for build in api.builds()] == ["lamp/onnx/int4"]
    found = api.push("lamp/onnx/int4", "ada/one")
    assert main(["push", "lamp/onnx/int4", "ada/two", "--private", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["files"] == found["files"]
    assert "sending to ada/two" in said.err
    assert hub.repos["ada/two"].access == "private"


def test_pushing_again_sends_no_large_file_twice(hub: FakeHub, workspace: Workspace) -> None:
    fake_build(workspace, "lamp")
    ref = resolve("lamp/onnx/int4", workspace)
    push(ref, "ada/lamp", workspace, RecordingReporter())
    before = sum(method == "PUT" for method, _, _ in hub.requests)
    push(ref, "ada/lamp", workspace, RecordingReporter())
    assert sum(method == "PUT" for method, _, _ in hub.requests) == before > 0


def test_files_of_an_earlier_push_go_and_other_peoples_stay(hub: FakeHub, workspace: Workspace) -> None:
    path = fake_build(workspace, "lamp")
    ref = resolve("lamp/onnx/int4", workspace)
    (path / "base.json").write_text("{}")
    write_manifest(path)
    push(ref, "ada/lamp", workspace, RecordingReporter())
    repo = hub.repos["ada/lamp"]
    repo.files["notes.md"] = b"my own"
    assert "base.json" in repo.files
    (path / "base.json").unlink()
    write_manifest(path)
    found = push(ref, "ada/lamp", workspace, RecordingReporter())
    assert found is not None
    assert found["deleted"] == ["base.json"]
    assert set(repo.files) == {*found["files"], "notes.md"}


@pytest.mark.parametrize("manifest", [b"no json", b"[]", b'{"schema": 9, "files": {"notes.md": {}}}', b'{"files": 1}'])
def test_a_manifest_of_somebody_else_deletes_nothing(hub: FakeHub, workspace: Workspace, manifest: bytes) -> None:
    fake_build(workspace, "lamp")
    hub.repos["ada/lamp"] = Repo({"manifest.json": manifest, "notes.md": b"my own"}, "models")
    found = push(resolve("lamp/onnx/int4", workspace), "ada/lamp", workspace, RecordingReporter())
    assert found is not None and found["deleted"] == []
    assert "notes.md" in hub.repos["ada/lamp"].files


def test_failing_build_needs_force(hub: FakeHub, workspace: Workspace) -> None:
    fake_build(workspace, "lamp", passed=False)
    ref = resolve("lamp/onnx/int4", workspace)
    with pytest.raises(UserError, match="--force"):
        push(ref, "ada/lamp", workspace, RecordingReporter())
    assert hub.requests == []
    push(ref, "ada/lamp", workspace, RecordingReporter(), force=True)
    assert b"FAILS parity" in hub.repos["ada/lamp"].files["README.md"]


def test_altered_build_is_refused(hub: FakeHub, workspace: Workspace) -> None:
    path = fake_build(workspace, "lamp")
    (path / "model.onnx.data").write_bytes(b"w" * 4999 + b"x")
    with pytest.raises(UserError, match="altered"):
        push(resolve("lamp/onnx/int4", workspace), "ada/lamp", workspace, RecordingReporter())
    assert hub.requests == []


def test_private_is_never_sent_to_a_public_place(hub: FakeHub, workspace: Workspace) -> None:
    fake_build(workspace, "lamp")
    hub.repos["ada/lamp"] = Repo({}, "models")
    with pytest.raises(UserError, match="is public"):
        push(resolve("lamp/onnx/int4", workspace), "ada/lamp", workspace, RecordingReporter(), private=True)
    assert hub.repos["ada/lamp"].files == {}


def test_stop_publishes_nothing(hub: FakeHub, workspace: Workspace) -> None:
    fake_build(workspace, "lamp", weights=b"w" * 1_000_000)
    reporter = RecordingReporter(stop_when=lambda event: getattr(event, "name", "").startswith("sending"))
    assert push(resolve("lamp/onnx/int4", workspace), "ada/lamp", workspace, reporter) is None
    assert hub.repos["ada/lamp"].files == {}


@pytest.mark.parametrize(
    ("token", "repo", "said"),
    [
        ("hf_wrong", "ada/lamp", "hf auth login"),
        ("hf_right", "bob/lamp", "hf auth login"),
        ("hf_right", "lamp", "owner/name"),
        ("hf_right", "../../lamp", "owner/name"),
    ],
)
def test_refusals_are_one_line(
    hub: FakeHub, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, token: str, repo: str, said: str
) -> None:
    fake_build(workspace, "lamp")
    hub.repos["bob/lamp"] = Repo({}, "models", token="hf_bob")
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=said) as caught:
        push(resolve("lamp/onnx/int4", workspace), repo, workspace, RecordingReporter())
    assert "\n" not in str(caught.value)
    assert token not in str(caught.value)
    assert hub.repos["bob/lamp"].files == {}


def test_other_peoples_models_are_not_pushed(hub: FakeHub, workspace: Workspace) -> None:
    with pytest.raises(UserError, match="was not made here"):
        push(resolve("phi3-nano", workspace), "ada/nano", workspace, RecordingReporter())


def test_offline_is_said(workspace: Workspace) -> None:
    fake_build(workspace, "lamp")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        push(resolve("lamp/onnx/int4", workspace), "ada/lamp", workspace, RecordingReporter())


def test_hub_that_is_not_there(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, online: None) -> None:
    fake_build(workspace, "lamp")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be reached"):
        push(resolve("lamp/onnx/int4", workspace), "ada/lamp", workspace, RecordingReporter())
