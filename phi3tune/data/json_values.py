"""JSON values with every fault that the standard decoder lets through, or falls over, told with its place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from typing import Any

from phi3tune.data.problems import ProblemLog, describe

REFUSED = object()  # in place of a value with a fault in it
_MAX_DIGITS = 100
_MAX_DEPTH = 100
# A string that the end cuts off matches, too: a search from every quote in it would take quadratic time.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*\\?(?:"|\Z)|[\[{\]}]', re.DOTALL)


def past_space(text: str, position: int) -> int:
    """Where JSON's white space ends that may begin at `position`."""
    return int(WHITESPACE.match(text, position).end())


def repeated(names: Iterable[str]) -> str | None:
    """The first name that comes a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


class TooDeepError(Exception):
    """Brackets nested beyond what a row needs, and perhaps beyond what the stack takes."""


class JsonReader:
    """A JSON decoder that notes what the standard one lets through: repeated keys, NaN, huge numbers, deep nesting."""

    def __init__(self, file: str, log: ProblemLog) -> None:
        self.file, self._log = file, log
        self._faults: list[tuple[str, str, str, str, str]] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._constant,
            parse_int=self._integer,
            parse_float=self._float,
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            found = f"the key {describe(repeated(key for key, _ in pairs))} twice"
            self._faults.append(("duplicate_key", found, "each key once", "remove one", f"{found}: the last one kept"))
        return value

    def _constant(self, name: str) -> None:
        fix = "write null, or leave it out"
        self._faults.append(("bad_number", name, "a JSON number or null", fix, f"{name} read as null"))

    def _integer(self, digits: str) -> int | str:
        if len(digits) <= _MAX_DIGITS:
            return int(digits)
        found = f"an integer of {len(digits):,} digits"
        fault = ("bad_number", found, f"at most {_MAX_DIGITS} digits", "write it as text", f"{found} read as text")
        self._faults.append(fault)
        return digits

    def _float(self, digits: str) -> float | None:
        value = float(digits)
        if math.isfinite(value):
            return value
        found = f"the number {digits[:40]}, too large for a double"
        self._faults.append(("bad_number", found, "a finite number", "write it as text", f"{found}, read as null"))
        return None

    def read(self, text: str, start: int = 0, *, whole: bool = False) -> tuple[Any, int]:
        """The value at `start` and where it ends. With `whole`, nothing but white space may follow.

        Raises `JSONDecodeError` and `TooDeepError`; lesser faults wait for `accept`.
        """
        self._faults.clear()
        try:
            value, end = self._decoder.raw_decode(text, past_space(text, start))
        except RecursionError:
            raise TooDeepError from None
        except json.JSONDecodeError as error:
            _check_depth(text, start, error.pos)
            raise
        _check_depth(text, start, end)
        if whole and (rest := past_space(text, end)) != len(text):
            raise json.JSONDecodeError("Extra data", text, rest)
        return value, end

    def unfinished(self, line: str) -> bool:
        """Whether a value begins on this line that does not end on it."""
        try:
            self.read(line)
        except json.JSONDecodeError as error:
            return error.pos >= len(line.rstrip())
        except TooDeepError:
            pass
        return False

    def readable(self, line: str) -> bool:
        """Whether this line is a value of its own."""
        try:
            self.read(line, whole=True)
        except (json.JSONDecodeError, TooDeepError):
            return False
        return True

    def accept(self, value: Any, line: int | None, row: int | None) -> Any:
        """The value just read; `REFUSED` when a fault in it was logged as an error."""
        accepted = True
        for code, found, expected, fix, mend in self._faults:
            accepted &= self._log.fault(code, self.file, line, found, expected, fix, row=row, mend=mend)
        return value if accepted else REFUSED

    def log_syntax(
        self, error: json.JSONDecodeError, start: int, line: int, mend: str | None, row: int | None = None
    ) -> bool:
        """Log where the syntax breaks; `line` is the line of `start`."""
        text = error.doc
        fix = "check the commas, quotes and brackets there"
        if error.msg == "Extra data" and ".jsonl" not in self.file.lower():
            fix = "if every line is a row of its own, rename the file to .jsonl"
        place = line + text.count("\n", start, error.pos)
        column = error.pos - text.rfind("\n", 0, error.pos)
        found = f"{error.msg[:1].lower()}{error.msg[1:]}"
        return self._log.fault(
            "bad_json", self.file, place, found, "valid JSON", fix, column=column, row=row, mend=mend
        )

    def log_depth(self, line: int | None, mend: str | None, row: int | None = None) -> bool:
        found = "brackets nested too deeply to read"
        expected, fix = f"at most {_MAX_DEPTH} levels", "remove the column that holds them"
        return self._log.fault("too_deep", self.file, line, found, expected, fix, row=row, mend=mend)


def _check_depth(text: str, start: int, end: int) -> None:
    if text.count("[", start, end) + text.count("{", start, end) <= _MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(text, start, end):
        mark = match[0]
        if len(mark) == 1:
            depth += 1 if mark in "[{" else -1
            if depth > _MAX_DEPTH:
                raise TooDeepError
