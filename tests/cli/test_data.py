"""`phi3tune data`: what it prints, its exit codes, and the versions that it makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phi3tune.cli import main
from phi3tune.paths import Workspace


def _write(path: Path, answers: list[str]) -> Path:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is the number {n} for?"},
                {"role": "assistant", "content": answer},
            ]
        }
        for n, answer in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    answers = [f"It is for the house with {n} doors." for n in range(20)]
    answers[4] = "Ask {{name}} at mail@example.org."
    return _write(tmp_path / "rows.jsonl", answers)


def _json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_check_prints_figures_and_findings(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(rows)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "20 rows (16 train, 2 validation, 2 test), format messages" in out
    assert "placeholder rows.jsonl: 1 row; a placeholder was left in: {{name}} (1); rows 4; advice: drop" in out
    assert "email_address" in out


def test_check_cuts_at_the_given_length(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(rows), "--max-length", "16", "--json"]) == 0
    found = _json(capsys)
    assert (found["max_length"], found["truncated_rows"]) == (16, 20)


def test_an_error_makes_exit_code_1_and_fix_mends_it(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with rows.open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."},]}\n')
    assert main(["data", "check", str(rows), "--json"]) == 1
    assert "version" not in _json(capsys)
    assert main(["data", "check", str(rows), "--fix", "--json"]) == 0
    version = _json(capsys)["version"]
    assert version["changes"]
    assert sum(version["rows"].values()) in (20, 21)
    assert main(["data", "check", version["id"], "--json"]) == 0


def test_drop_writes_a_version_without_the_rows(
    rows: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(rows), "--drop", "placeholder,email_address", "--json"]) == 0
    version = _json(capsys)["version"]
    assert sum(version["rows"].values()) == 19
    assert {change["row"] for change in version["changes"] if change["code"] in ("placeholder", "email_address")} == {4}
    assert Path(version["path"]).is_relative_to(workspace.datasets)
    assert main(["data", "check", version["id"], "--json"]) == 0
    assert "placeholder" not in [finding["code"] for finding in _json(capsys)["findings"]]
    assert main(["data", "check", str(rows), "--drop", "placeholder"]) == 0
    assert "new version rows-" in capsys.readouterr().out
    assert main(["data", "list"]) == 0
    assert version["id"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["check", "ROWS", "--drop", "nothing"], "--drop 'nothing' is not accepted"),
        (["check", "ROWS", "--drop", "card_number"], "nothing in"),
        (["show", "ROWS", "--row", "99"], "--row 99"),
        (["show", "ROWS", "--row", "1", "--part", "some"], "--part 'some'"),
        (["check", "none.jsonl"], "does not exist"),
    ],
)
def test_mistakes_are_one_clear_line(
    argv: list[str], said: str, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *(str(rows) if arg == "ROWS" else arg for arg in argv)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_show_marks_what_is_learned_and_cut(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(rows), "--row", "4", "--json"]) == 0
    whole = _json(capsys)
    assert (whole["file"], whole["row"], whole["line"]) == ("rows.jsonl", 4, 5)
    tokens = whole["tokens"]
    learned = "".join(token["text"] for token in tokens if token["learned"] and not token["special"])
    assert learned.strip() == "Ask {{name}} at mail@example.org."
    assert main(["data", "show", str(rows), "--row", "4", "--max-length", str(len(tokens) - 2)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("<|user|>")
    assert out.rstrip().endswith("{<|end|>}{<|endoftext|>}")
