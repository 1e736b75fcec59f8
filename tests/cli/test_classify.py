from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from phi3tune.cli import main
from phi3tune.engines.classifier import open_classifier
from phi3tune.engines.models import resolve
from phi3tune.paths import Workspace
from tests.fake_classifiers import LABELS, classifier_adapter

TEXTS = ["Snow on the hills", "Sun and more sun"]


@pytest.fixture
def classifier(tiny_model: Path, tmp_path: Path) -> str:
    classifier_adapter(tmp_path / "adapter", tiny_model)
    return str(tmp_path / "adapter")


def test_texts_from_the_command_line_a_file_and_a_pipe(
    classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = open_classifier(resolve(classifier, Workspace.current())).classify(TEXTS)
    assert main(["classify", classifier, *TEXTS, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["labels"] == list(LABELS)
    assert [each["text"] for each in printed["results"]] == TEXTS
    for one, other in zip(printed["results"], expected, strict=True):
        assert one["label"] == other["label"] and one["scores"] == pytest.approx(other["scores"])
    (tmp_path / "texts.txt").write_text("\n".join([TEXTS[0], "", TEXTS[1]]))
    assert main(["classify", classifier, "--file", str(tmp_path / "texts.txt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [each["label"] for each in expected]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS)))
    assert main(["classify", classifier, "--file", "-"]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_chat_shows_labels_with_their_probabilities(
    classifier: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TEXTS[0]}\n\n"))
    assert main(["chat", classifier]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(LABELS)
    shares = [float(line.split()[1].rstrip("%")) for line in lines]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.2)


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        ([], "give texts behind the model"),
        (["a text", "--file", "x.txt"], "one of the two"),
        (["--file", "missing.txt"], "cannot be read"),
        (["--file", "empty.txt"], "holds no text"),
    ],
)
def test_mistakes_are_one_line(
    argv: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    monkeypatch.chdir(tmp_path)
    assert main(["classify", "phi3-nano", *argv]) == 2
    assert problem in capsys.readouterr().err


def test_a_chat_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "phi3-nano", "a text"]) == 2
    assert "chooses no labels" in capsys.readouterr().err
