"""What visitors of a hosted app may do, and what they may not: refused below the page, whoever asks."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phi3tune import archive, data, guardrails, hosted, jobs, keys, sweeps
from phi3tune.admission import admit
from phi3tune.config import Config, DownloadConfig, EvalConfig, ExportConfig, PromptsConfig, ServeConfig, TrainConfig
from phi3tune.engines import models
from phi3tune.errors import UserError
from phi3tune.paths import NANO, Workspace, visitors
from tests.fake_runs import chats

LAMPS: dict[str, Any] = {"dataset": "lantern-support"}


@pytest.fixture
def visitor(workspace: Workspace) -> Workspace:
    return Workspace(visitors(workspace.root) / "a", workspace.root)


@pytest.fixture
def other(workspace: Workspace) -> Workspace:
    return Workspace(visitors(workspace.root) / "b", workspace.root)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, object], None]:
    return lambda name, value: monkeypatch.setenv(f"{hosted.PREFIX}{name.upper()}", str(value))


def test_the_mode_is_that_of_the_place_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hosted.is_hosted()
    monkeypatch.setenv("SPACE_ID", "me/phi3tune")
    assert hosted.is_hosted()
    monkeypatch.setenv(hosted.MODE, "local")
    assert not hosted.is_hosted()
    monkeypatch.setenv(hosted.MODE, "public")
    with pytest.raises(UserError, match="hosted and local"):
        hosted.is_hosted()


def test_the_person_at_the_machine_has_no_limits(workspace: Workspace) -> None:
    assert hosted.rules(workspace) is None and hosted.usage(workspace) is None
    hosted.check_storage(workspace, 10**15)
    hosted.check_hub_model("owner/model", workspace)
    hosted.check_file("/etc/passwd", workspace)


def test_limits_come_from_the_environment(visitor: Workspace, limit: Callable[[str, object], None]) -> None:
    limit("max_steps", 7)
    limit("models", "owner/a, owner/b")
    rules = hosted.rules(visitor)
    assert rules is not None and (rules.max_steps, rules.models, rules.max_jobs) == (7, ["owner/a", "owner/b"], 2)
    limit("max_jobs", "many")
    with pytest.raises(UserError, match="max-jobs"):
        hosted.rules(visitor)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (TrainConfig(**LAMPS, trackers=["wandb"]), "--trackers is for the owner"),
        (TrainConfig(**LAMPS, processes=2), "--processes is for the owner"),
        (TrainConfig(**LAMPS, main_address="10.0.0.1:1"), "--main-address is for the owner"),
        (TrainConfig(**LAMPS, batch_size=4096), "--batch-size 4096 is too much"),
        (TrainConfig(**LAMPS, model="https://10.0.0.1/v1"), "an endpoint elsewhere is for the owner"),
        (TrainConfig(**LAMPS, model="owner/private"), "cannot be used here"),
        (TrainConfig(**LAMPS, model="owner/private", revision="main"), "cannot be used here"),
        (TrainConfig(dataset="/etc/passwd"), "does not exist"),
        (TrainConfig(dataset="owner/private"), "cannot be used here"),
        (TrainConfig(**LAMPS, test_file="/etc/passwd"), "does not exist"),
        (TrainConfig(**LAMPS, max_steps=1001), "1,001 steps, and 1,000 are the limit here; lower --max-steps"),
        (TrainConfig(**LAMPS, epochs=1000, batch_size=1), "limit here; lower --epochs"),
        (EvalConfig(**LAMPS, json_schema="/etc/passwd"), "that file cannot be used here"),
        (EvalConfig(**LAMPS, safety="/etc/passwd"), "that file cannot be used here"),
        (EvalConfig(**LAMPS, json_schema="a\0b"), "that file cannot be used here"),
        (EvalConfig(**LAMPS, judge="http://10.0.0.1/v1#x"), "--judge is for the owner"),
        (EvalConfig(**LAMPS, key_variable="HF_TOKEN"), "--key-variable is for the owner"),
        (EvalConfig(**LAMPS, benchmarks=["arc_easy"]), "--benchmarks is for the owner"),
        (EvalConfig(**LAMPS, benchmark_tasks="/tmp"), "--benchmark-tasks is for the owner"),
        (EvalConfig(**LAMPS, models=["http://169.254.169.254/v1"]), "an endpoint elsewhere is for the owner"),
        (PromptsConfig(prompts="/etc/passwd"), "that file cannot be used here"),
        (DownloadConfig(model="owner/private"), "cannot be used here"),
        (ExportConfig(model="phi3-nano", parity_rows=10_000), "--parity-rows 10000 is too much"),
        (ExportConfig(model="../b/runs/lamp"), "cannot be used here|does not exist"),
    ],
)
def test_what_a_visitor_may_not_ask_for(config: Config, told: str, visitor: Workspace) -> None:
    with pytest.raises(UserError, match=told):
        admit(config, visitor)
    assert not visitor.root.exists()


def test_a_visitor_names_no_folders(
    visitor: Workspace, other: Workspace, tmp_path: Path, tiny_model: Path, limit: Callable[[str, object], None]
) -> None:
    """Neither one that is there nor one that is not, with one answer for both; links lead nowhere."""
    build = other.exports / "models" / "tiny"
    build.parent.mkdir(parents=True)
    build.symlink_to(tiny_model)
    own = visitor.exports / "models"
    own.mkdir(parents=True)
    (own / "link").symlink_to(tiny_model)
    refs = [str(tiny_model), str(build), str(own / "link"), "../b/exports/models/tiny", str(NANO), "~", "a\0b"]
    for ref in [*refs, str(tmp_path / "nothing")]:
        with pytest.raises(UserError, match=r"does not exist|cannot be used here"):
            models.resolve(ref, visitor)
    assert models.resolve("phi3-nano", visitor).folder == NANO
    (own / "link").unlink()
    shutil.copytree(tiny_model, own / "mine" / "onnx" / "int4")
    assert "exports/models/mine/onnx/int4" in [ref.ref for ref in models.list_models(visitor)]
    assert models.resolve("exports/models/mine/onnx/int4", visitor).folder == own / "mine" / "onnx" / "int4"
    limit("models", "owner/open")
    assert models.hub_model("owner/open", None, visitor) is not None


def test_datasets_of_a_visitor_are_their_own_and_the_bundled(
    visitor: Workspace, other: Workspace, tmp_path: Path
) -> None:
    mine = data.store_upload(chats(tmp_path / "mine.jsonl", 12), "mine.jsonl", visitor)
    theirs = data.store_upload(chats(tmp_path / "theirs.jsonl", 12), "theirs.jsonl", other)
    assert data.resolve(mine, visitor)[0] == mine and data.resolve("lantern-support", visitor)[0] == "lantern-support"
    for given in (theirs, f"../../b/datasets/{theirs}", str(other.datasets / theirs), str(tmp_path / "mine.jsonl")):
        with pytest.raises(UserError, match="does not exist"):
            data.resolve(given, visitor)
    with pytest.raises(UserError, match="cannot be used here"):
        data.fetch("owner/private", visitor)
    assert data.resolve(str(NANO / "skills" / "test.jsonl"), visitor)[0] == "test", "which builds of it are checked on"


def test_files_are_refused_beyond_the_limits(
    visitor: Workspace, tmp_path: Path, limit: Callable[[str, object], None]
) -> None:
    file = chats(tmp_path / "chats.jsonl", 40)
    limit("max_upload", file.stat().st_size / 1e6 / 2)
    with pytest.raises(UserError, match=rf"at most {file.stat().st_size // 2:,} are accepted"):
        data.store_upload(file, "chats.jsonl", visitor)
    limit("max_upload", 25)
    limit("max_storage", 1.5 * file.stat().st_size / 1e6)
    data.store_upload(file, "chats.jsonl", visitor)
    with pytest.raises(UserError, match=r"are the limit here: delete some of your work"):
        data.store_upload(file, "chats.jsonl", visitor)
    limit("max_storage", file.stat().st_size / 2e6)
    with pytest.raises(UserError, match=r"your files take .* MB are the limit here"):
        jobs.submit("train", TrainConfig(**LAMPS), visitor)


def test_only_so_many_visitors_have_work_here(
    visitor: Workspace, other: Workspace, tmp_path: Path, limit: Callable[[str, object], None]
) -> None:
    limit("max_visitors", 1)
    file = chats(tmp_path / "chats.jsonl", 12)
    data.store_upload(file, "chats.jsonl", visitor)
    assert hosted.full(other) and not hosted.full(visitor)
    with pytest.raises(UserError, match="at most 1 visitors"):
        data.store_upload(file, "chats.jsonl", other)
    data.store_upload(file, "chats.jsonl", visitor)


def test_what_a_visitor_uses(visitor: Workspace, tmp_path: Path, limit: Callable[[str, object], None]) -> None:
    limit("keep_hours", 2)
    limit("max_storage", 3)
    before = hosted.usage(visitor)
    assert before is not None and (before.bytes, before.limit, before.jobs) == (0, 3_000_000, 0)
    data.store_upload(chats(tmp_path / "chats.jsonl", 12), "chats.jsonl", visitor)
    hosted.visited(visitor)
    now = hosted.usage(visitor)
    assert now is not None and now.bytes > (tmp_path / "chats.jsonl").stat().st_size
    assert now.expires == pytest.approx(time.time() + 7200, abs=10)


def _endpoint(visitor: Workspace) -> Any:
    from phi3tune.server.endpoint import Endpoints

    return Endpoints(visitor).start(ServeConfig(models=["phi3-nano"]))


@pytest.mark.parametrize(
    "act",
    [
        lambda visitor: keys.make(None, visitor),
        lambda visitor: archive.import_run(Path("run.zip"), visitor),
        lambda visitor: guardrails.load(Path("guards.yaml"), visitor),
        lambda visitor: jobs.reorder(visitor.runs / "x", visitor, 1),
        lambda visitor: jobs.submit("train", TrainConfig(**LAMPS), visitor, secrets={"HF_TOKEN": "x"}),
        _endpoint,
    ],
)
def test_what_needs_an_owner_is_refused(act: Callable[[Workspace], Any], visitor: Workspace) -> None:
    with pytest.raises(UserError, match="is for the owner of this app"):
        act(visitor)


def test_nothing_is_published_for_a_visitor(visitor: Workspace) -> None:
    from phi3tune.export.push import push
    from tests.fakes import RecordingReporter

    with pytest.raises(UserError, match="is for the owner of this app"):
        push(models.resolve("phi3-nano", visitor), "owner/name", visitor, RecordingReporter())


def test_a_sweep_is_as_many_runs_as_a_visitor_may_have(visitor: Workspace) -> None:
    with pytest.raises(UserError, match="3 trials are too many here: 2 runs"):
        sweeps.start(LAMPS, ["lora_rank=4,8,16"], visitor)
    assert not visitor.root.exists()
