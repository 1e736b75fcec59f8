"""`phi3tune evaluate`: what it prints and writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from phi3tune import jobs
from phi3tune.cli import evaluate as command
from phi3tune.cli import main
from phi3tune.paths import Workspace
from tests.evaluation.example_report import HOSTILE, answer, report, row


class FinishedJob:
    """What `run_job` gives back for an evaluation that has its report."""

    state, reason = "completed", ""

    def __init__(self, folder: Path, result: dict[str, Any]) -> None:
        self.folder, self.result = folder, result


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every evaluation ends at once, with the example's report, in the folder that is returned."""
    folder = tmp_path / "eval"
    folder.mkdir()
    formulas = [f"{sign}1+1" for sign in "=+-@\t"]
    lines = [row(n, answer("a", True), answer(text, False), prompt=text) for n, text in enumerate(formulas)]
    for line in lines:
        del line["prompt"][0]
    lines.append(row(9, answer("a", True), answer(None, False), reference='said "yes",\nagain'))
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "report.html").write_text("")
    job = FinishedJob(folder, {**report(), "path": str(folder)})
    monkeypatch.setattr(command, "run_job", lambda kind, config, workspace: (job, 0))
    return folder


def test_it_prints_the_verdict_tables_and_files(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["evaluate", "phi3-nano", "tuned", "--dataset", "x"]) == 0
    printed = capsys.readouterr()
    for fact in (
        "tuned is better than phi3-nano: exact match +20.0 points",
        "50.0 to 70.0 %",
        "+20.0 points (+5.0 to +35.0)",
        "labels of tuned",
        "33.3 %",
        "The judge cannot tell them apart. (1 replies unreadable, 12.5 % chosen by position)",
        "17.0 to 69.0 %",
        "warning: tuned refuses more safe prompts",
        "remote gives no probabilities",
    ):
        assert fact in printed.out, fact
    assert str(finished / "report.html") in printed.err and str(finished / "rows.jsonl") in printed.err
    assert "judge.jsonl" not in printed.err


def test_text_of_strangers_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = report()
    found["comparisons"][0]["sentence"] = f"[bold]{HOSTILE}[/bold] :smile:"
    command.show(found)
    assert "[bold]<img src=x" in capsys.readouterr().out


def test_json_is_the_report(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "phi3-nano", "--dataset", "x", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"status": "completed", **report(), "path": str(finished)}


def test_csv_has_every_row_and_no_formula(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    assert main(["evaluate", "phi3-nano", "--dataset", "x", "--csv", str(file)]) == 0
    with file.open(encoding="utf-8", newline="") as stream:
        header, *lines = list(csv.reader(stream))
    assert header == [
        "file",
        "row",
        "prompt",
        "reference",
        "phi3-nano",
        "phi3-nano exact_match",
        "tuned",
        "tuned exact_match",
    ]
    assert [line[2] for line in lines[:5]] == ["'=1+1", "'+1+1", "'-1+1", "'@1+1", "'\t1+1"]
    assert lines[0] == ["test.jsonl", "0", "'=1+1", "yes", "a", "1.0", "'=1+1", "0.0"]
    assert lines[5][2:4] == ["system: Be short.\nuser: Is it?", 'said "yes",\nagain']
    assert lines[5][6] == ""


def test_a_csv_that_cannot_be_written_is_told_before_the_evaluation(
    tmp_path: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", "phi3-nano", "--dataset", "x", "--csv", str(tmp_path / "none" / "rows.csv")]
    assert main(argv) == 2
    assert "its folder does not exist" in capsys.readouterr().err
    assert not jobs.active(workspace)
