from __future__ import annotations

from pathlib import Path

import pytest

from phi3tune.errors import UserError
from phi3tune.evaluation.likelihood import Likelihood
from phi3tune.evaluation.progress import Answer, Progress, path, token_losses

ENGINE = {"kind": "torch", "can": ["score"]}
FIRST = Answer(4, "Yes \u2028 😀", "stop", None, 2, 0.5, 0.1, Likelihood(1.5, 2, 1, False, (("Y", 1.0), ("es", 0.5))))
SECOND = Answer(14, reason="the prompt is too long")


def begun(file: Path, key: str = "k") -> Progress:
    found = Progress(file, key)
    found.begin(ENGINE)
    return found


def test_answers_are_read_again(tmp_path: Path) -> None:
    file = path(tmp_path / "report", 0)
    begun(file).add([FIRST, SECOND])
    again = Progress(file, "k")
    assert again.answers == {4: FIRST, 14: SECOND}
    assert again.engine == ENGINE
    assert token_losses(tmp_path / "report", 0, 4) == [("Y", 1.0), ("es", 0.5)]
    assert token_losses(tmp_path / "report", 0, 14) == []


@pytest.mark.parametrize("left", [1, 40, 200])
def test_half_a_line_is_cut_off(tmp_path: Path, left: int) -> None:
    file = path(tmp_path, 0)
    progress = begun(file)
    progress.add([FIRST])
    whole = file.read_bytes()
    progress.add([SECOND])
    file.write_bytes(whole + file.read_bytes()[len(whole) :][:left])
    again = begun(file)
    assert again.answers == {4: FIRST}
    again.add([SECOND])
    assert Progress(file, "k").answers == {4: FIRST, 14: SECOND}


@pytest.mark.parametrize("damage", [b"", b"x", b'{"schema": 1, "key": "k", "engine": {}}\nnonsense\n', b"\xff\xfe\n"])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    file = path(tmp_path, 0)
    file.write_bytes(damage)
    progress = begun(file)
    assert progress.answers == {}
    progress.add([FIRST])
    assert Progress(file, "k").answers == {4: FIRST}


def test_answers_to_something_else_are_not_taken(tmp_path: Path) -> None:
    file = path(tmp_path, 0)
    begun(file, "other").add([FIRST])
    assert begun(file).answers == {}
    assert Progress(file, "other").answers == {}


def test_token_losses_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        token_losses(tmp_path, 0, 0)
    begun(path(tmp_path, 0)).add([FIRST])
    with pytest.raises(UserError, match="no answer to row 1"):
        token_losses(tmp_path, 0, 1)
