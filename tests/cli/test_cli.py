"""The command line: exit codes, one clear line for a mistake, JSON alone on standard output."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phi3tune import cli, jobs, system
from phi3tune.cli import main
from phi3tune.cli.follow import duration
from phi3tune.config import TrainConfig
from phi3tune.paths import Workspace
from tests import fakes

ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}


@pytest.fixture
def counting_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(system, "start_process", fakes.start_fake_worker)
    yield
    fakes.kill_workers()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = []
    for number in range(20):
        messages = [{"role": "user", "content": f"hi {number}"}, {"role": "assistant", "content": f"hello {number}"}]
        lines.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, (_, sentence) in cli.COMMANDS.items():
        assert name in out and sentence[:40] in " ".join(out.split())


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help_that_agrees_with_the_table(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert cli.COMMANDS[name][1].split(".")[0].split(":")[0].split(",")[0] in text


def test_every_setting_of_a_run_is_a_flag_with_its_range(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for name in TrainConfig.model_fields:
        assert "--" + name.replace("_", "-") in text
    assert "above 0, at most 1" in " ".join(text.split())


def mistakes(tmp_path: Path) -> dict[str, list[str]]:
    empty, columns, folder = tmp_path / "empty.jsonl", tmp_path / "columns.jsonl", tmp_path / "no-weights"
    rows = tmp_path / "rows.jsonl"
    empty.write_text("")
    columns.write_text('{"foo": "a", "bar": "b"}\n')
    rows.write_text("\n".join(json.dumps(ROW) for _ in range(20)) + "\n")
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}')
    return {
        "missing file": ["train", "--dataset", str(tmp_path / "none.jsonl")],
        "no dataset": ["train"],
        "unknown columns": ["train", "--dataset", str(columns)],
        "empty file": ["train", "--dataset", str(empty)],
        "model without weights": ["train", "--dataset", str(rows), "--model", str(folder)],
        "no such model": ["train", "--dataset", str(rows), "--model", "no-such-model"],
        "learning rate": ["train", "--dataset", str(rows), "--learning-rate", "-1"],
        "learning rate text": ["train", "--dataset", str(rows), "--learning-rate", "fast"],
        "run name": ["train", "--dataset", str(rows), "--name", "../x"],
        "unknown flag": ["train", "--dataset", str(rows), "--learnig-rate", "1"],
        "unknown command": ["trian"],
        "settings file": ["train", "--config", str(tmp_path / "none.yaml")],
        "evaluate unknown": ["evaluate", "nothing", "--dataset", str(rows)],
        "export unknown": ["export", "nothing"],
        "export precision": ["export", "phi3-nano", "--precision", "int3"],
        "resume unknown": ["resume", "nothing"],
        "stop traversal": ["stop", "../../etc"],
        "delete unknown": ["delete", "nothing"],
        "chat unknown": ["chat", "nothing"],
    }


MISTAKES = """missing file, no dataset, unknown columns, empty file, model without weights, no such model,
learning rate, learning rate text, run name, unknown flag, unknown command, settings file,
evaluate unknown, export unknown, export precision, resume unknown, stop traversal, delete unknown, chat unknown"""


@pytest.mark.parametrize("name", MISTAKES.replace("\n", " ").split(", "))
def test_a_mistake_is_exit_code_2_one_clear_line_and_nothing_left(
    name: str, tmp_path: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(mistakes(tmp_path)[name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    # Typer's own mistakes show the usage as well; ours are one line.
    lines = [line for line in captured.err.strip().splitlines() if line]
    assert len(lines) == 1 or lines[0].startswith("Usage:")
    assert not workspace.root.exists() or not any(workspace.runs.glob("*"))


def test_train_prints_one_json_object(rows: Path, counting_workers: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--dataset", str(rows), "--name", "lamp", "--max-steps", "4", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["run"] == "lamp" and result["status"] == "completed" and result["steps"] == 4


def test_settings_come_from_the_file_and_flags_win(
    rows: Path, tmp_path: Path, workspace: Workspace, counting_workers: None
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"dataset: {rows}\nepochs: 2\nmax_steps: 9\nname: lamp\n")
    assert main(["train", "--config", str(path), "--max-steps", "3", "--json"]) == 0
    settings = jobs.read_config(workspace.run("lamp"))
    assert isinstance(settings, TrainConfig)
    assert (settings.epochs, settings.max_steps) == (2.0, 3)


def test_a_failed_run_is_exit_code_1_and_a_mistake_seen_late_is_2(
    rows: Path, counting_workers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["train", "--dataset", str(rows), "--max-steps", "6", "--json"]
    assert main([*base, "--name", "crash"]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "failed"
    assert main([*base, "--name", "mistake"]) == 2


def test_detach_runs_stop_show_resume_delete(
    rows: Path, workspace: Workspace, counting_workers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*argv: str) -> Any:
        capsys.readouterr()
        assert main([*argv, "--json"] if argv[0] != "stop" else list(argv)) == 0
        out = capsys.readouterr().out
        return json.loads(out) if out else None

    started = call("train", "--dataset", str(rows), "--name", "lamp", "--max-steps", "400", "--detach")
    assert started["run"] == "lamp"
    folder = workspace.run("lamp")
    end = time.monotonic() + 20
    while jobs.view(folder).step < 3:
        assert time.monotonic() < end
        time.sleep(0.02)
    call("stop", "lamp")
    list(jobs.follow(folder, workspace))
    (row,) = call("runs")["runs"]
    assert row["status"] == "stopped" and row["resume_step"] >= 3
    assert set(row) >= {"run", "status", "step", "steps", "resume_step", "reason"}
    assert call("runs", "show", "lamp")["settings"]["max_steps"] == 400
    assert call("resume", "lamp")["status"] == "completed"
    assert Path(call("delete", "lamp")["trash"]).is_dir()
    assert call("runs") == {"runs": []}


def test_ctrl_c_stops_and_saves_with_exit_code_130(rows: Path, workspace: Workspace) -> None:
    code = (
        "import sys; from phi3tune import system; from tests import fakes\n"
        "system.start_process = fakes.start_fake_worker\n"
        "from phi3tune.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    argv = ["train", "--dataset", str(rows), "--name", "lamp", "--max-steps", "100000", "--json"]
    root = Path(__file__).parents[2]
    command = subprocess.Popen([sys.executable, "-c", code, *argv], stdout=subprocess.PIPE, text=True, cwd=root)
    end = time.monotonic() + 20
    while not (workspace.runs / "lamp" / jobs.STATUS).exists() or jobs.view(workspace.run("lamp")).step < 3:
        assert time.monotonic() < end
        time.sleep(0.02)
    command.send_signal(signal.SIGINT)
    out, _ = command.communicate(timeout=20)
    assert command.returncode == 130
    assert json.loads(out)["status"] == "stopped"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (45, "45 s"), (127.38, "2 min"), (3600, "60 min"), (3 * 3600 + 300, "3 h 5 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_settings_page_of_the_docs_is_made_from_the_code() -> None:
    from phi3tune.cli.settings_page import settings_page

    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == settings_page(), "run: make docs"


def test_a_vote_is_kept_and_says_one_thing(capsys: pytest.CaptureFixture[str], nano: Path) -> None:
    pair = ["votes", "add", "phi3-nano", str(nano)]
    for wrong in ([], ["--tie", "--bad"], ["--best", "somebody"]):
        assert main([*pair, *wrong]) == 2
    assert main([*pair, "--best", "phi3-nano"]) == 0
    assert main([*pair, "--tie"]) == 0
    capsys.readouterr()
    assert main(["votes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["votes"] == 2
    assert {model["model"]: model["share"]["value"] for model in told["models"]}["phi3-nano"] == 1.0
