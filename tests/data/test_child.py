"""The child process that reads strangers' files: the same rows and problems, and limits that hold."""

from __future__ import annotations

import gzip
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phi3tune import system
from phi3tune.config import DatasetConfig
from phi3tune.data import process, source
from phi3tune.data.conversation import Conversation
from phi3tune.data.files import LIMITS
from phi3tune.data.lines import Limits
from phi3tune.data.problems import ProblemLog
from phi3tune.data.process import read_in_child
from phi3tune.data.reading import Shape, read_files
from phi3tune.data.source import Source
from phi3tune.paths import Workspace
from tests.data.conftest import chat, jsonl, parquet

_GOOD = jsonl([chat(n) for n in range(1200)])
Read = Callable[..., tuple[list[Conversation], ProblemLog, Shape]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write_and_read(
        name: str, content: str | bytes, *, limits: Limits = LIMITS, reader: Any = read_in_child, repair: bool = False
    ) -> tuple[list[Conversation], ProblemLog, Shape]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        log, shape = ProblemLog(repair=repair), Shape()
        rows = [row for _, row in reader({"all": (path, name)}, DatasetConfig(), log, limits, shape)]
        return rows, log, shape

    return write_and_read


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "a.jsonl",
            _GOOD + "{\n" * 150 + '{"messages": [{"role": "user", "content": "<|end|>"}], "\\ud800": NaN}\n' + _GOOD,
        ),
        ("a.json", '[{"text": "caf\\u00e9 <|end|>", "thread_id": 5}, 7]'),
        ("a.csv", "input,target\na,b\n"),
        ("a.jsonl.gz", gzip.compress(_GOOD.encode())[:-9]),
        ("a.parquet", parquet([{"question": f"q{n}", "answer": "a", "chat_id": "x"} for n in range(700)])),
        ("a.pkl", b"\x80\x05"),
    ],
)
@pytest.mark.parametrize("repair", [False, True])
def test_the_child_says_what_reading_here_says(read: Read, name: str, content: str | bytes, repair: bool) -> None:
    rows, log, shape = read(name, content, repair=repair)
    assert (rows, log, shape) == read(name, content, repair=repair, reader=read_files)
    assert rows or log.problems


def test_the_files_of_all_parts_are_read(tmp_path: Path, workspace: Workspace) -> None:
    for part, count in (("train", 3), ("validation", 2), ("test", 1)):
        (tmp_path / f"{part}.jsonl").write_text(jsonl([chat(n) for n in range(count)]) + "{", encoding="utf-8")
    found = Source(DatasetConfig(dataset=str(tmp_path)), workspace)
    assert [(part, row.file, row.row) for part, row in found.read()] == [
        ("train", "train.jsonl", 0),
        ("train", "train.jsonl", 1),
        ("train", "train.jsonl", 2),
        ("validation", "validation.jsonl", 0),
        ("validation", "validation.jsonl", 1),
        ("test", "test.jsonl", 0),
    ]
    assert [(p.file, p.line) for p in found.log.errors] == (
        [("train.jsonl", 4), ("validation.jsonl", 3), ("test.jsonl", 2)]
    )


def test_more_memory_than_allowed_is_a_problem_of_the_file(read: Read) -> None:
    bomb = gzip.compress(b"[" + b" " * 250_000_000 + b"]", compresslevel=1)
    rows, log, _ = read("a.json.gz", bomb, limits=replace(LIMITS, memory_bytes=500_000_000))
    assert rows == []
    assert [(p.code, p.file) for p in log.errors] == [("expands_too_large", "a.json.gz")]


def test_more_processor_time_than_allowed_is_a_problem_of_the_file(read: Read) -> None:
    rows, log, _ = read("a.jsonl", _GOOD * 150, limits=replace(LIMITS, cpu_seconds=1))
    assert 0 < len(rows) < 150 * 1200
    assert [p.code for p in log.errors] == ["takes_too_long"]


def test_a_child_that_says_nothing_is_ended(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_COMMAND", [sys.executable, "-c", "import time; time.sleep(600)"])
    started = time.monotonic()
    _, log, _ = read("a.jsonl", _GOOD, limits=replace(LIMITS, wait_seconds=0.3))
    assert [p.code for p in log.errors] == ["takes_too_long"]
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        ("os.kill(os.getpid(), 11)", "reader_failed", "SIGSEGV"),
        ("os.abort()", "reader_failed", "SIGABRT"),
        ("os.kill(os.getpid(), 9)", "expands_too_large", "memory"),
        ("raise ValueError('odd')", "reader_failed", "ValueError: odd"),
        ("sys.exit(0)", "reader_failed", "code 0"),
        ("sys.stdout.write('{half a line')", "reader_failed", "code 0"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_a_child_that_dies_is_a_problem_of_the_file(
    read: Read, monkeypatch: pytest.MonkeyPatch, ending: str, code: str, words: str
) -> None:
    monkeypatch.setattr(process, "_COMMAND", [sys.executable, "-c", f"import os, sys; {ending}"])
    _, log, _ = read("a.jsonl", _GOOD)
    assert [(p.code, p.file, words in p.found) for p in log.errors] == [(code, "a.jsonl", True)]


def test_dropping_the_iterator_ends_the_child(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    start = system.start_process

    def remembered(*args: Any, **options: Any) -> Any:
        started.append(start(*args, **options))
        return started[-1]

    monkeypatch.setattr(system, "start_process", remembered)
    (tmp_path / "a.jsonl").write_text(_GOOD * 20, encoding="utf-8")
    rows = Source(DatasetConfig(dataset=str(tmp_path / "a.jsonl")), workspace).read()
    next(rows)
    assert started[0].poll() is None
    rows.close()  # type: ignore[attr-defined]
    assert started[0].returncode is not None


def test_what_this_program_wrote_is_read_without_a_child(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(source, "read_in_child", refuse)
    assert next(Source(DatasetConfig(dataset="lantern-support"), workspace).read())[0] == "train"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_rows(read: Read, tmp_path: Path) -> None:
    def peak(times: int) -> int:
        path = tmp_path / "a.jsonl"
        path.write_text(_GOOD * times, encoding="utf-8")
        rows = read_in_child({"all": (path, "a.jsonl")}, DatasetConfig(), ProblemLog(), LIMITS, Shape())
        return max(sum(_resident(pid) for pid in _children()) for n, _ in enumerate(rows) if n % 5000 == 0)

    few, many = peak(10), peak(80)
    assert 0 < many < few * 1.3


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0
