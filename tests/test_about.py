"""What a person writes about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phi3tune.about import ABOUT, About, edit_about, read_about
from phi3tune.errors import ConfigError, UserError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text("")
    return tmp_path


def test_only_the_named_fields_change(run: Path) -> None:
    assert read_about(run) == About()
    edit_about(run, title="Lamps,  first try", tags="lamp, small,lamp", project="lanterns")
    edited = edit_about(run, note="Loss\nwas flat.")
    assert read_about(run) == edited
    assert (edited.title, edited.project) == ("Lamps, first try", "lanterns")
    assert (edited.tags, edited.note) == (("lamp", "small"), "Loss\nwas flat.")


def test_empty_words_take_back_what_was_written(run: Path) -> None:
    edit_about(run, title="Lamps", tags=["lamp"], project="lanterns", note="x")
    assert edit_about(run, title="", tags="", project="", note="") == About()


@pytest.mark.parametrize(
    "changes",
    [{"title": "x" * 101}, {"project": "x" * 65}, {"tags": ["x" * 41]}, {"tags": ["a,b"]}, {"note": "x" * 10_001}],
    ids=lambda changes: next(iter(changes)),
)
def test_words_have_limits_and_nothing_is_written_beyond_them(run: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(changes))}"):
        edit_about(run, **changes)
    assert not (run / ABOUT).exists()


def test_only_runs_have_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run"):
        edit_about(tmp_path, title="x")


def test_a_spoiled_file_hides_no_run(run: Path) -> None:
    (run / ABOUT).write_text("{")
    assert read_about(run) == About()
