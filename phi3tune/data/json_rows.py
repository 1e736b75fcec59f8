"""Rows of JSON and JSON Lines text, each with its line, and every fault with its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from typing import Any

from phi3tune.data.problems import ProblemLog, describe

MAX_LINE_CHARS = 16 * 1024**2
_MAX_DIGITS = 100
_REFUSED = object()


@dataclass(frozen=True)
class Row:
    """A record of a file: its number from 0, the line it starts on from 1, and its columns."""

    index: int
    line: int | None
    value: dict[str, Any]


def repeated(names: Iterable[str]) -> str | None:
    """The first name that comes a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


class _Json:
    """A JSON decoder that notes what the standard one lets through: repeated keys, NaN, huge integers."""

    def __init__(self, file: str, log: ProblemLog) -> None:
        self._file, self._log = file, log
        self._faults: list[tuple[str, str, str, str]] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant, parse_int=self._integer
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            twice = repeated(key for key, _ in pairs)
            self._faults.append(("duplicate_key", f"the key {describe(twice)} twice", "each key once", "remove one"))
        return value

    def _constant(self, name: str) -> None:
        self._faults.append(("bad_number", name, "a JSON number or null", "write null, or leave it out"))

    def _integer(self, digits: str) -> int:
        if len(digits) <= _MAX_DIGITS:
            return int(digits)
        found = f"an integer of {len(digits):,} digits"
        self._faults.append(("bad_number", found, f"at most {_MAX_DIGITS} digits", "write it as text"))
        return 0

    def value(self, text: str, start: int, line: int, *, whole: bool) -> tuple[Any, int] | None:
        """The value at `start` and where it ends, or None where no value can be read (logged).

        A value with a fault in it is logged and comes as `_REFUSED`. `line` is the line of `start`. With
        `whole`, nothing but white space may follow.
        """
        self._faults.clear()
        try:
            value, end = self._decoder.raw_decode(text, WHITESPACE.match(text, start).end())
            if whole and (rest := WHITESPACE.match(text, end).end()) != len(text):
                raise json.JSONDecodeError("Extra data", text, rest)
        except json.JSONDecodeError as error:
            fix = "check the commas, quotes and brackets there"
            if error.msg == "Extra data" and not self._file.lower().removesuffix(".gz").endswith(".jsonl"):
                fix = "if every line is a row of its own, rename the file to .jsonl"
            place = line + text.count("\n", start, error.pos)
            column = error.pos - text.rfind("\n", 0, error.pos)
            found = f"{error.msg[:1].lower()}{error.msg[1:]}"
            self._log.error("bad_json", self._file, place, found, "valid JSON", fix, column=column)
            return None
        except RecursionError:
            found, fix = "brackets nested too deeply to read", "remove the column that holds them"
            self._log.error("too_deep", self._file, line, found, "rows of plain columns", fix)
            return None
        for fault in self._faults:
            self._log.error(fault[0], self._file, line, *fault[1:])
        return (_REFUSED if self._faults else value), end


def json_lines(text: str, file: str, log: ProblemLog) -> Iterator[Row]:
    """Rows of JSON Lines text; a line that cannot be read is logged and the next one is tried."""
    decoder = _Json(file, log)
    index = 0
    # Not splitlines(): U+2028 and its like may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if index == 0 and line.strip() in ("{", "["):
            found = "one JSON document over several lines"
            log.error("bad_json", file, number, found, "one row on each line", "rename the file to .json", column=1)
            return
        if len(line) > MAX_LINE_CHARS:
            found, fix = f"a line of {len(line):,} characters", "split or remove the row"
            log.error("line_too_long", file, number, found, f"at most {MAX_LINE_CHARS:,}", fix)
        elif read := decoder.value(line, 0, number, whole=True):
            yield from _object_row(read[0], index, number, file, log)
        index += 1


def json_rows(text: str, file: str, log: ProblemLog) -> Iterator[Row]:
    """Rows of a JSON document: a list, or an object that holds the list under `data`."""
    decoder = _Json(file, log)
    start = WHITESPACE.match(text).end()
    if text[start] == "[":
        yield from _json_array(text, start, decoder, file, log)
        return
    read = decoder.value(text, 0, 1, whole=True)
    if read is None:
        return
    value = read[0]
    if value is _REFUSED:
        return
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        expected = 'a list of rows, or an object with the list under "data"'
        log.error("bad_shape", file, 1, describe(value), expected, "put the rows into [ ]")
        return
    for index, item in enumerate(value["data"]):
        yield from _object_row(item, index, None, file, log)


def _json_array(text: str, start: int, decoder: _Json, file: str, log: ProblemLog) -> Iterator[Row]:
    """Items one by one, so that each knows its line and a fault does not hide the rows before it."""
    position, line, index = start + 1, 1 + text.count("\n", 0, start), 0
    closed = False
    while True:
        item = WHITESPACE.match(text, position).end()
        line += text.count("\n", position, item)
        if text[item : item + 1] == "]" and index == 0:
            position, closed = item + 1, True
            break
        read = decoder.value(text, item, line, whole=False)
        if read is None:
            return
        value, end = read
        yield from _object_row(value, index, line, file, log)
        index += 1
        position = WHITESPACE.match(text, end).end()
        line += text.count("\n", item, position)
        mark, position = text[position : position + 1], position + 1
        if mark == "]":
            closed = True
            break
        if mark != ",":
            break
    rest = WHITESPACE.match(text, position).end() if closed else position - 1
    if not closed or rest != len(text):
        line, column = text.count("\n", 0, rest) + 1, rest - text.rfind("\n", 0, rest)
        found = "the end of the file" if rest >= len(text) else describe(text[rest : rest + 20])
        expected = "nothing after the list" if closed else "a comma or ]"
        log.error("bad_json", file, line, found, expected, "check the commas and brackets there", column=column)


def _object_row(value: Any, index: int, line: int | None, file: str, log: ProblemLog) -> Iterator[Row]:
    if isinstance(value, dict):
        yield Row(index, line, value)
    elif value is not _REFUSED:
        found = describe(value) if line is not None else f"{describe(value)} as row {index}"
        log.error("bad_shape", file, line, found, "an object with the row's columns", "write rows as { }")
