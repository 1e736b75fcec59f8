"""What a person writes about a run: title, project, tags, note, in `about.json`; editable at any time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from phi3tune.config import Config, parse
from phi3tune.config.base import names_from_text
from phi3tune.errors import UserError
from phi3tune.paths import is_run, write_text

ABOUT = "about.json"


class About(Config):
    """The words that a run is found by. An empty title means the run's own name."""

    title: str = Field(default="", max_length=100)
    project: str | None = Field(default=None, max_length=64)
    tags: tuple[str, ...] = Field(default=(), max_length=20)
    note: str = Field(default="", max_length=10_000)

    _tags_from_text = field_validator("tags", mode="before")(names_from_text)

    @field_validator("title", "project")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        return None if value is None else " ".join(value.split())

    @field_validator("project")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("tags")
    @classmethod
    def _plain_tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        tags = tuple(dict.fromkeys(" ".join(tag.split()) for tag in value))
        if any(not tag or "," in tag or len(tag) > 40 for tag in tags):
            raise ValueError("each tag has 1 to 40 characters and no comma")
        return tags


def read_about(folder: Path) -> About:
    """What was written about the run in `folder`; all empty when nothing was."""
    try:
        text = (folder / ABOUT).read_text(encoding="utf-8")
        return About.model_validate_json(text)
    except (FileNotFoundError, ValidationError):  # one file that somebody spoiled must not hide the list of runs
        return About()


def edit_about(folder: Path, **changes: Any) -> About:
    """Replace the fields that are named and keep the others; the new whole.

    Raises `ConfigError` that names every field that is not accepted, and `UserError` when `folder` holds no run.
    """
    if not is_run(folder):
        raise UserError(f"{folder.name} is no run; a title, project, tags or a note are kept for runs")
    about = parse(About, {**read_about(folder).model_dump(), **changes})
    write_text(folder / ABOUT, about.model_dump_json(indent=1))
    return about
