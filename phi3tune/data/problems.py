"""What is wrong with a dataset file: stable codes, the place, and how to mend it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

from phi3tune.errors import UserError

SHOWN = 100
Severity = Literal["error", "warning"]


class Problem(BaseModel):
    """One problem. `line` and `column` count from 1 and are None where a file has none."""

    code: str
    severity: Severity = "error"
    file: str
    line: int | None = None
    column: int | None = None
    found: str
    expected: str
    fix: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place}: {self.code}: found {self.found}; expected {self.expected}; {self.fix}"


@dataclass(frozen=True)
class Change:
    """What reading with repairs did about one fault; `row` counts from 0, `line` from 1."""

    code: str
    file: str
    row: int | None
    line: int | None
    what: str


class DataError(UserError):
    """A dataset cannot be used. `problems` holds the errors that are shown, `count` how many there are."""

    def __init__(self, problems: list[Problem], count: int, dataset: str) -> None:
        self.problems = problems
        self.count = count
        command = _printable(f"phi3tune data check {shlex.quote(dataset)}")
        more = f" (and {count - 1} more; run: {command})" if count > 1 else ""
        super().__init__(f"{problems[0]}{more}")


class RowError(Exception):
    """What is wrong with one row; whoever reads the row knows its place."""

    def __init__(self, code: str, found: str, expected: str, fix: str) -> None:
        super().__init__(code)
        self.code, self.found, self.expected, self.fix = code, found, expected, fix


@dataclass
class ProblemLog:
    """Problems of a dataset: the first `SHOWN` errors and warnings are kept, all are counted.

    With `repair`, a fault that can be mended is one of the `changes` and no problem; all of them are kept.
    """

    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    error_count: int = 0
    warning_count: int = 0
    repair: bool = False
    changes: list[Change] = field(default_factory=list)

    @property
    def problems(self) -> list[Problem]:
        return self.errors + self.warnings

    @property
    def left_out(self) -> int:
        return self.error_count + self.warning_count - len(self.errors) - len(self.warnings)

    def fault(
        self,
        code: str,
        file: str,
        line: int | None,
        found: str,
        expected: str,
        fix: str,
        *,
        column: int | None = None,
        row: int | None = None,
        mend: str | None = None,
    ) -> bool:
        """Log an error; or, with `repair`, the change `mend` in its place. True when the caller is to make it."""
        if self.repair and mend is not None:
            self.change(code, file, row, line, mend)
            return True
        self.error(code, file, line, found, expected, fix, column=column)
        return False

    def change(self, code: str, file: str, row: int | None, line: int | None, what: str) -> None:
        self.changes.append(Change(code, _printable(file), row, line, _printable(what)))

    def error(
        self, code: str, file: str, line: int | None, found: str, expected: str, fix: str, *, column: int | None = None
    ) -> None:
        self.error_count += 1
        if len(self.errors) < SHOWN:
            self.errors.append(_problem("error", code, file, line, column, found, expected, fix))

    def warn(self, code: str, file: str, line: int | None, found: str, expected: str, fix: str) -> None:
        self.warning_count += 1
        if len(self.warnings) < SHOWN:
            self.warnings.append(_problem("warning", code, file, line, None, found, expected, fix))


def _problem(
    severity: Severity, code: str, file: str, line: int | None, column: int | None, found: str, expected: str, fix: str
) -> Problem:
    return Problem(
        code=code,
        severity=severity,
        file=_printable(file),
        line=line,
        column=column,
        found=_printable(found),
        expected=_printable(expected),
        fix=_printable(fix),
    )


def _printable(text: str) -> str:
    """At most 300 characters that a terminal shows and does not obey."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:300])


def describe(value: object) -> str:
    """A value in a few words, for `found`; containers by their kind, because they may be huge or deep."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a value of type {type(value).__name__}"
