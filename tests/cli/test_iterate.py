"""`runs continue`, `clone`, `compare`, `export`, `import`, and sweeps, on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from phi3tune import jobs, system
from phi3tune.cli import main
from phi3tune.paths import Workspace
from tests import fakes
from tests.ended_runs import curve, ended_run
from tests.fake_runs import chats

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def counting_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(system, "start_process", fakes.start_fake_worker)
    yield
    fakes.kill_workers()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return chats(tmp_path / "chats.jsonl", 30)


def said(capsys: Output) -> dict:
    return json.loads(capsys.readouterr().out)


def test_a_clone_runs_with_its_changes(workspace: Workspace, rows: Path, capsys: Output):
    ended_run(workspace, "lamp-1", dataset=str(rows), lora_rank=4, max_steps=2)
    assert main(["runs", "clone", "lamp-1", "--lora-rank", "8", "--name", "lamp-2", "--json"]) == 0
    assert (said(capsys)["run"], jobs.view(workspace.run("lamp-2")).state) == ("lamp-2", "completed")
    config = jobs.read_config(workspace.run("lamp-2"))
    assert (config.lora_rank, config.max_steps) == (8, 2)
    assert main(["runs", "clone", "lamp-1", "--lora-rank", "0"]) == 2
    assert "--lora-rank 0 is not accepted" in capsys.readouterr().err


def test_what_cannot_be_continued_is_the_users_mistake(workspace: Workspace, capsys: Output):
    ended_run(workspace, "lamp-1", state="stopped", adapter=False)
    assert main(["runs", "continue", "lamp-1"]) == 2
    assert "resume it instead" in capsys.readouterr().err


def test_comparing_prints_what_differs(workspace: Workspace, capsys: Output):
    ended_run(workspace, "lamp-1", lora_rank=4, events=curve(loss=[2.0, 1.5]))
    ended_run(workspace, "lamp-2", lora_rank=64, events=curve(loss=[2.0, 1.25]))
    assert main(["runs", "compare", "lamp-1", "lamp-2"]) == 0
    out = capsys.readouterr().out
    assert "--lora-rank" in out and "64" in out and "1.25" in out and "--lora-alpha" not in out
    assert main(["runs", "compare", "lamp-1", "lamp-2", "--json"]) == 0
    assert said(capsys)["settings"] == {"lora_rank": {"lamp-1": 4, "lamp-2": 64}}
    assert main(["runs", "compare", "lamp-1"]) == 2


def test_a_run_goes_out_and_comes_in(workspace: Workspace, tmp_path: Path, capsys: Output):
    ended_run(workspace, "lamp-1")
    file = tmp_path / "lamp.zip"
    assert main(["runs", "export", "lamp-1", str(file), "--json"]) == 0
    assert said(capsys) == {"run": "lamp-1", "path": str(file), "size_bytes": file.stat().st_size}
    assert main(["runs", "import", str(file), "--json"]) == 0
    assert said(capsys) == {"run": "lamp-1-2", "path": str(workspace.runs / "lamp-1-2"), "usable": True}
    assert main(["runs", "import", str(file), "--model", "/no/such/phi"]) == 2
    ended_run(workspace, "far-1", model="/no/such/phi")
    assert main(["runs", "export", "far-1", str(tmp_path / "far.zip")]) == 0
    assert main(["runs", "import", str(tmp_path / "far.zip")]) == 0
    assert "its base model is not on this machine" in capsys.readouterr().err
    file.write_bytes(b"something else")
    assert main(["runs", "import", str(file)]) == 2


def test_a_sweep_ends_in_a_ranked_table(workspace: Workspace, rows: Path, capsys: Output):
    command = ["sweep", "--dataset", str(rows), "--max-steps", "2", "--name", "hunt", "--set", "lora_rank=4,8"]
    assert main([*command, "--json"]) == 0
    table = said(capsys)
    assert [row["settings"] for row in table["rows"]] == [{"lora_rank": 4}, {"lora_rank": 8}]
    assert {row["status"] for row in table["rows"]} == {"completed"}
    assert main(["sweeps", "show", "hunt"]) == 0
    assert "hunt-2" in capsys.readouterr().out
    assert main(["sweeps", "--json"]) == 0
    [listed] = said(capsys)["sweeps"]
    assert (listed["sweep"], listed["completed"], listed["axes"]) == ("hunt", 2, ["lora_rank=4,8"])
    assert main([*command]) == 2
    assert main(["sweep", "--dataset", str(rows), "--set", "lora_rank=0,9999"]) == 2
    assert "trial lora_rank=0" in capsys.readouterr().err


def test_a_failed_trial_makes_the_sweep_fail_and_shows_in_the_table(workspace: Workspace, rows: Path, capsys: Output):
    command = ["sweep", "--dataset", str(rows), "--max-steps", "4", "--name", "crash", "--set", "lora_rank=4,8"]
    assert main([*command, "--json"]) == 1
    assert [row["status"] for row in said(capsys)["rows"]] == ["failed", "failed"]


def test_a_detached_sweep_is_stopped_and_resumed(workspace: Workspace, rows: Path, capsys: Output):
    command = ["sweep", "--dataset", str(rows), "--max-steps", "100000", "--name", "hunt", "--set", "lora_rank=4,8"]
    assert main([*command, "--detach"]) == 0
    assert main(["sweeps", "stop", "hunt"]) == 0
    assert "2 runs of hunt will stop" in capsys.readouterr().err
    for name in ("hunt-1", "hunt-2"):
        list(jobs.follow(workspace.run(name), workspace, poll_seconds=0.02))
        assert jobs.view(workspace.run(name)).state == "stopped"
    assert main(["sweeps", "show", "nothing"]) == 2
