"""Which rows."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import field_validator

from phi3tune.config.base import Config, setting

DataFormat = Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "text"]
Part = Literal["train", "validation", "test"]


class DatasetConfig(Config):
    """Which rows, how they are read, and how they are divided."""

    section: ClassVar[str] = "Data"

    dataset: str = setting(
        "",
        "Chats to use: a file or folder, a stored dataset's id, a bundled name, or a Hub dataset id.",
        unit="path or name",
        group="simple",
    )
    format: DataFormat = setting("auto", "Shape of the rows; auto detects it from the columns.", unit="name")
    columns: dict[str, str] = setting(
        {}, "Which column holds what, as field=column, such as user=question,assistant=answer.", unit="field=column"
    )
    unsupported: Literal["refuse", "drop"] = setting(
        "refuse",
        "What becomes of rows with tool calls or images: refuse names them, drop leaves them out.",
        unit="name",
    )
    validation_file: str | None = setting(
        None, "A file or stored dataset whose rows are all used for validation.", unit="path or name"
    )
    test_file: str | None = setting(
        None, "A file or stored dataset whose rows are all held out for evaluation.", unit="path or name"
    )
    validation_share: float = setting(
        0.1, "Share of the rows kept from training to watch it.", unit="share of rows", ge=0.0, le=0.5
    )
    test_share: float = setting(
        0.1,
        "Share of the rows held out for evaluation, when the dataset has no test file.",
        unit="share of rows",
        ge=0.0,
        le=0.5,
    )
    validation_rows: int | None = setting(
        None, "Rows kept for validation; wins over the share.", unit="rows", ge=0, le=10_000_000
    )
    test_rows: int | None = setting(None, "Rows held out; wins over the share.", unit="rows", ge=0, le=10_000_000)
    split_seed: int = setting(7, "Seed of the random division into parts.", unit="integer", ge=0, le=2**32 - 1)
    max_rows: int | None = setting(
        None, "Use only the first rows of the training part; empty uses all.", unit="rows", ge=1, le=100_000_000
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _columns_from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [part.split("=", 1) for part in value.split(",") if part.strip()]
        if any(len(pair) != 2 or not pair[0].strip() or not pair[1].strip() for pair in pairs):
            raise ValueError("write it as field=column,field=column, such as user=question,assistant=answer")
        return {field.strip(): column.strip() for field, column in pairs}

    @property
    def validates(self) -> bool:
        """Whether rows are kept from training to watch it by."""
        rows = self.validation_rows
        return self.validation_file is not None or (self.validation_share > 0 if rows is None else rows > 0)
