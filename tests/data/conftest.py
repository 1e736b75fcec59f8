from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phi3tune import data
from phi3tune.config import DatasetConfig
from phi3tune.data import source
from phi3tune.data.reading import read_files
from phi3tune.paths import Workspace

Load = Callable[..., data.Dataset]
Problems = Callable[..., list[data.Problem]]


def chat(number: int) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"What is {number} plus one?"},
            {"role": "assistant", "content": f"{number + 1}."},
        ]
    }


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read without the child process, which takes a quarter of a second to start and has tests of its own."""
    monkeypatch.setattr(source, "read_in_child", read_files)


@pytest.fixture
def load(tmp_path: Path, workspace: Workspace, in_process: None) -> Load:
    """Writes a file and loads it: `load("rows.jsonl", content)`, content text or bytes."""

    def write_and_load(name: str, content: str | bytes, **settings: Any) -> data.Dataset:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return data.load(DatasetConfig(dataset=str(path), **settings), workspace)

    return write_and_load


@pytest.fixture
def problems(load: Load) -> Problems:
    """The errors for which a file is refused; none when it loads."""

    def refused(name: str, content: str | bytes, **settings: Any) -> list[data.Problem]:
        try:
            load(name, content, **settings)
        except data.DataError as error:
            return error.problems
        return []

    return refused
