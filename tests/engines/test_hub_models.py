"""Models of the Hub, against a hub on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from phi3tune import system
from phi3tune.admission import admit
from phi3tune.cli import main
from phi3tune.config import TrainConfig
from phi3tune.engines import models
from phi3tune.engines.hub_models import HubModel, cached_folder, cached_models, examine, fetch
from phi3tune.errors import UserError
from phi3tune.events import Phase, Progress
from phi3tune.paths import Workspace
from tests.fake_hub import FakeHub, Repo, fake_hub
from tests.fake_runs import chats
from tests.fakes import TOKENIZER, RecordingReporter

Serve = Callable[..., FakeHub]
ID = "ada/phi"
SHAPE = {"num_hidden_layers": 2, "hidden_size": 64, "max_position_embeddings": 512}
CONFIG = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], **SHAPE}
WEIGHTS = bytes(range(256)) * 20_000  # more than one of the client's chunks of 10 MB would be slow; this is 5 MB
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": WEIGHTS,
    "tokenizer.json": (TOKENIZER / "tokenizer.json").read_bytes(),
    "tokenizer_config.json": (TOKENIZER / "tokenizer_config.json").read_bytes(),
    "README.md": b"# Phi" * 400,
    "onnx/model.json": b"{}",
}


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """`serve(files, **facts)` runs a hub that has them as `ada/phi`."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with fake_hub({}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)

        def add(files: dict[str, bytes] | None = None, **facts: Any) -> FakeHub:
            running.repos[ID] = Repo({**FILES, **(files or {})}, "models", **facts)
            return running

        yield add


def loaded(hub: FakeHub) -> list[str]:
    return [path.rsplit("/", 1)[1] for path in hub.downloads()]


def test_examine_tells_all_and_fetches_only_the_config(serve: Serve) -> None:
    hub = serve(card={"license": "mit"})
    found = examine(ID)
    assert (found.problems, found.license, found.architecture) == ((), "mit", "Phi3ForCausalLM")
    assert (found.commit, found.pinned) == (hub.repos[ID].commit, f"{ID}@{hub.repos[ID].commit}")
    assert {file.path for file in found.files} == set(FILES) - {"README.md", "onnx/model.json"}
    assert found.bytes_total == sum(file.size for file in found.files) > len(WEIGHTS)
    assert found.bytes_to_download == found.bytes_total - len(FILES["config.json"])
    assert loaded(hub) == ["config.json"]
    assert not found.cached


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"config.json": b'{"model_type": "phimoe", "architectures": ["PhiMoEForCausalLM"]}'}, "MoE"),
        ({"config.json": b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'}, "not a Phi-3 model"),
    ],
)
def test_other_architectures_are_refused_by_name(serve: Serve, files: dict[str, bytes], problem: str) -> None:
    hub = serve(files)
    found = examine(ID)
    assert any(problem in told and ID in told and "/cache/" not in told for told in found.problems)
    with pytest.raises(UserError, match=problem):
        fetch(ID, None, RecordingReporter())
    assert set(loaded(hub)) == {"config.json"}


def test_missing_weights_and_tokenizer_are_named_together(serve: Serve) -> None:
    hub = serve()
    for name in ("model.safetensors", "tokenizer.json"):
        del hub.repos[ID].files[name]
    first, second = examine(ID).problems
    assert "safetensors" in first
    assert "tokenizer.json" in second


@pytest.mark.parametrize(("access", "words"), [("private", "not found"), ("gated", "gated: accept its terms")])
def test_closed_models_need_a_token(serve: Serve, access: str, words: str) -> None:
    serve(access=access)
    found = examine(ID)
    assert found.needs_token
    assert words in found.problems[0]
    assert examine(ID, token="hf_right").problems == ()
    assert examine(ID, token="hf_wrong").problems


def test_faults_of_the_way_are_told(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    serve()
    assert "no such revision" in examine(ID, "never").problems[0]
    assert "not found" in examine("ada/nothing").problems[0]
    with pytest.raises(UserError, match="owner/name"):
        examine("not an id")
    monkeypatch.setattr(system, "disk_free", lambda path: 10)
    assert "GB of disk" in examine(ID).problems[0]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in examine(ID).problems[0]


def test_fetch_tells_its_progress_and_the_cache_answers_afterwards(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    hub = serve()
    reporter = RecordingReporter()
    folder = fetch(ID, None, reporter)
    assert folder is not None
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [event.name for event in reporter.of(Phase)] == ["downloading the model"]
    last = reporter.of(Progress)[-1]
    assert last.done == last.total
    assert last.unit == "bytes"
    before = len(hub.downloads())
    assert fetch(ID, None, reporter) == folder == cached_folder(HubModel(ID))
    assert len(hub.downloads()) == before
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert models.resolve(ID, workspace).base == folder
    assert models.resolve(f"{ID}@{folder.name}", workspace).base == folder
    assert examine(ID).cached
    assert cached_models() == [(HubModel(ID, folder.name), folder)]


def test_a_stopped_download_goes_on_where_it_ended(serve: Serve) -> None:
    hub = serve()
    blobs = Path(constants.HF_HUB_CACHE) / "models--ada--phi" / "blobs"
    blobs.mkdir(parents=True)
    weights = next(file for file in examine(ID).files if file.path == "model.safetensors")
    (blobs / f"{weights.sha256}.part").write_bytes(WEIGHTS[:3_000_000])
    folder = fetch(ID, None, RecordingReporter())
    assert folder is not None
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert ("GET", f"/{ID}/resolve/{folder.name}/model.safetensors", "bytes=3000000-") in hub.requests
    assert not list(blobs.glob("*.part"))


def test_a_download_that_is_asked_to_stop_returns_nothing(serve: Serve) -> None:
    serve()
    reporter = RecordingReporter(stop_when=lambda event: isinstance(event, Progress | Phase))
    assert fetch(ID, None, reporter) is None
    assert cached_folder(HubModel(ID)) is None


def test_bytes_that_are_not_the_hubs_never_enter_the_cache(serve: Serve) -> None:
    hub = serve(forged={"model.safetensors": bytes(len(WEIGHTS))})
    with pytest.raises(UserError, match="arrived damaged"):
        fetch(ID, None, RecordingReporter())
    hub.repos[ID].forged.clear()
    folder = fetch(ID, None, RecordingReporter())
    assert folder is not None
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_run_is_admitted_before_its_model_is_downloaded(serve: Serve, tmp_path: Path, workspace: Workspace) -> None:
    hub = serve(branches=("main", "v2"))
    chats(tmp_path / "chats.jsonl", 20)
    config = TrainConfig(model=ID, revision="v2", dataset=str(tmp_path / "chats.jsonl"))
    admitted = admit(config, workspace).config
    assert isinstance(admitted, TrainConfig)
    assert (admitted.model, admitted.revision) == (f"{ID}@{hub.repos[ID].commit}", None)
    assert "model.safetensors" not in loaded(hub)
    hub.repos[ID].access = "gated"
    with pytest.raises(UserError, match="gated"):
        admit(config.model_copy(update={"revision": "main"}), workspace)


def test_a_revision_belongs_to_the_hub(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="--revision"):
        models.hub_model("phi3-nano", "v2", workspace)
    assert models.hub_model("phi3-nano", None, workspace) is None
    assert models.hub_model("a/b@x", "y", workspace) == HubModel("a/b", "y")


def test_the_command_line_checks_and_lists(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve(card={"license": "mit"})
    assert main(["models", "check", ID, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["license"], told["architecture"], told["cached"]) == ("mit", "Phi3ForCausalLM", False)
    assert main(["models", "check", "ada/nothing"]) == 1
    assert "not found" in capsys.readouterr().err
    folder = fetch(ID, None, RecordingReporter())
    assert folder is not None
    assert main(["models", "list", "--json"]) == 0
    names = [found["model"] for found in json.loads(capsys.readouterr().out)["models"]]
    assert names == ["phi3-nano", f"{ID}@{folder.name}"]
