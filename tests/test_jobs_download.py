"""Downloads as jobs: a Hub of our own, a real worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from phi3tune import jobs
from phi3tune.config import DownloadConfig
from phi3tune.errors import UserError
from phi3tune.events import Phase, Progress
from phi3tune.paths import Workspace
from tests.fake_hub import FakeHub, Repo, fake_hub
from tests.fakes import TOKENIZER, kill_workers

TOKEN = "hf_right"
HEADER = b"{}".ljust(8)
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER
FILES = {
    "config.json": json.dumps({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}).encode(),
    "model.safetensors": WEIGHTS + bytes(2000),
    "tokenizer.json": (TOKENIZER / "tokenizer.json").read_bytes(),
    "tokenizer_config.json": (TOKENIZER / "tokenizer_config.json").read_bytes(),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    cache = tmp_path / "cache"
    for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_CACHE": str(cache)}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with fake_hub({"ada/phi": Repo(FILES, "models", access="gated", token=TOKEN)}) as running:
        worker = {
            "HF_ENDPOINT": running.endpoint,
            "HF_HUB_CACHE": str(cache),
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "0",
        }
        for name, value in worker.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running
    kill_workers()


def test_a_gated_model_is_fetched_with_a_token_that_stays_off_the_disk(hub: FakeHub, workspace: Workspace) -> None:
    folder = jobs.submit("download", DownloadConfig(model="ada/phi"), workspace, secrets={"HF_TOKEN": TOKEN})
    assert folder.parent == workspace.downloads and folder in jobs.folders(workspace)
    events = list(jobs.follow(folder, workspace))
    job = jobs.view(folder)
    assert job.state == "completed", job.reason
    assert Path(job.result["path"], "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert "downloading the model" in [event.name for event in events if isinstance(event, Phase)]
    assert [event for event in events if isinstance(event, Progress)][-1].eta_seconds is not None
    written = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)


def test_a_model_that_cannot_be_had_is_refused_before_anything_is_queued(hub: FakeHub, workspace: Workspace) -> None:
    with pytest.raises(UserError, match="ada/phi"):
        jobs.submit("download", DownloadConfig(model="ada/phi"), workspace)
    with pytest.raises(UserError, match="owner/name"):
        jobs.submit("download", DownloadConfig(model="phi"), workspace)
    assert not workspace.downloads.exists()
