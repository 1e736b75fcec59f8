"""Bad dataset files: the code and the place are right in every disguise, and never is there a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phi3tune.config import DatasetConfig
from phi3tune.data.files import LIMITS
from phi3tune.data.lines import Limits
from phi3tune.data.problems import ProblemLog
from phi3tune.data.reading import Shape, read_files
from tests.data import bad_files
from tests.data.bad_files import Case

Cases = Callable[[], Iterator[Case]]

_KINDS = [
    bad_files.empty,
    bad_files.encodings,
    bad_files.nul,
    bad_files.binary,
    bad_files.types,
    bad_files.json_syntax,
    bad_files.shapes,
    bad_files.numbers,
    bad_files.chats,
    bad_files.tables,
    bad_files.parquets,
]


def _read(folder: Path, name: str, content: str | bytes, limits: Limits, *, repair: bool = False) -> ProblemLog:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    log = ProblemLog(repair=repair)
    for _ in read_files({"all": (path, name)}, DatasetConfig(), log, limits, Shape()):
        pass
    return log


@pytest.mark.parametrize("cases", _KINDS, ids=lambda cases: cases.__name__)
def test_each_fault_has_its_code_and_place(tmp_path: Path, cases: Cases) -> None:
    wrong = [problem for case in cases() for problem in _differences(tmp_path, case, LIMITS)]
    assert not wrong, "\n".join(wrong)


def test_limits(tmp_path: Path) -> None:
    wrong = [problem for case in bad_files.limits() for problem in _differences(tmp_path, case, bad_files.SMALL)]
    assert not wrong, "\n".join(wrong)


def _differences(folder: Path, case: Case, limits: Limits) -> Iterator[str]:
    name, content, code, line, column = case
    errors = _read(folder, name, content, limits).errors
    what = f"{name} {content[:60]!r}...{content[-60:]!r}: expected {code} at {line}:{column}"
    if not errors:
        yield f"{what}, read without a problem"
        return
    first = errors[0]
    # Where a document that was cut off breaks depends on its shape: those cases leave the line open.
    placed = first.line == line or (line is None and code == "bad_json")
    if (first.code, first.file) != (code, name) or not placed or column not in (None, first.column):
        yield f"{what}, found {first}"
    assert all(p.severity == "error" and p.found and p.expected and p.fix for p in errors)


@pytest.mark.parametrize("cases", _KINDS, ids=lambda cases: cases.__name__)
def test_a_repair_tells_of_every_fault(tmp_path: Path, cases: Cases) -> None:
    for name, content, code, _, _ in cases():
        log = _read(tmp_path, name, content, LIMITS, repair=True)
        told = [change.code for change in log.changes] + [problem.code for problem in log.errors]
        assert code in told, f"{name} {content[:60]!r}...{content[-60:]!r}: {code} is not in {told[:5]}"
