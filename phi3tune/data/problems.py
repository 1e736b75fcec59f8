"""What is wrong with a dataset file: stable codes, the place, and how to mend it."""

from __future__ import annotations

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


class DataError(UserError):
    """A dataset cannot be used. `problems` holds the errors that are shown, `count` how many there are."""

    def __init__(self, problems: list[Problem], count: int, dataset: str) -> None:
        self.problems = problems
        self.count = count
        more = f" (and {count - 1} more; run: phi3tune data check {dataset})" if count > 1 else ""
        super().__init__(f"{problems[0]}{more}")


class RowFault(Exception):
    """What is wrong with one row; whoever reads the row knows its place."""

    def __init__(self, code: str, found: str, expected: str, fix: str) -> None:
        super().__init__(code)
        self.code, self.found, self.expected, self.fix = code, found, expected, fix


@dataclass
class ProblemLog:
    """Problems of a dataset: the first `SHOWN` errors and warnings are kept, all are counted."""

    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    error_count: int = 0
    warning_count: int = 0

    @property
    def problems(self) -> list[Problem]:
        return self.errors + self.warnings

    @property
    def left_out(self) -> int:
        return self.error_count + self.warning_count - len(self.errors) - len(self.warnings)

    def error(
        self, code: str, file: str, line: int | None, found: str, expected: str, fix: str, *, column: int | None = None
    ) -> None:
        self.error_count += 1
        if len(self.errors) < SHOWN:
            problem = Problem(code=code, file=file, line=line, column=column, found=found, expected=expected, fix=fix)
            self.errors.append(problem)

    def warn(self, code: str, file: str, line: int | None, found: str, expected: str, fix: str) -> None:
        self.warning_count += 1
        if len(self.warnings) < SHOWN:
            problem = Problem(
                code=code, severity="warning", file=file, line=line, found=found, expected=expected, fix=fix
            )
            self.warnings.append(problem)


def describe(value: object) -> str:
    """A value in a few words, for `found`; containers by their kind, because they may be huge or deep."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return ascii(value[:60]) if not value.isprintable() else repr(value[:60])
    if isinstance(value, int | float):
        return f"the number {value}"
    return {dict: "an object", list: "a list"}.get(type(value), f"a value of type {type(value).__name__}")
