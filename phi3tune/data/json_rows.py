"""Rows of JSON and JSON Lines text, each with its line, and every fault with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from phi3tune.data.json_values import REFUSED, JsonReader, TooDeepError, past_space
from phi3tune.data.lines import Line
from phi3tune.data.problems import ProblemLog, describe

_DATA = re.compile(r'"data"\s*:\s*\[')
_LEFT_OUT = "line left out"


@dataclass(frozen=True)
class Row:
    """A record of a file: its number from 0, the line it starts on from 1, and its columns."""

    index: int
    line: int | None
    value: dict[str, Any]


def json_lines(lines: Iterator[Line], file: str, log: ProblemLog, longest: int) -> Iterator[Row]:
    """Rows of JSON Lines text; a line that cannot be read is logged and the next one is tried."""
    decoder = JsonReader(file, log)
    index = 0
    while (numbered := next(lines, None)) is not None:
        number, line = numbered
        if line is None:
            index += 1
            continue
        if not line or line.isspace():
            continue
        alone = False
        if index == 0:
            after = next((each for each in lines if each[1] is None or each[1].strip()), None)
            alone = after is None
            if after is not None and decoder.unfinished(line) and not decoder.readable(after[1] or ""):
                yield from _document(chain([numbered, after], lines), number, file, log, longest)
                return
            lines = chain([after] if after is not None else [], lines)
        yield from _line_rows(decoder, line, number, index, log, alone=alone)
        index += 1


def _document(lines: Iterator[Line], number: int, file: str, log: ProblemLog, longest: int) -> Iterator[Row]:
    """The rows, in a repair, of a JSON document that is called JSON Lines; `number` is its first line."""
    found, fix, mend = "one JSON document over several lines", "rename the file to .json", "read as one JSON document"
    if log.fault("bad_json", file, number, found, "one row on each line", fix, column=1, mend=mend):
        yield from json_rows("\n".join(text or "" for _, text in lines), file, log, longest, first=number)


def _line_rows(
    decoder: JsonReader, line: str, number: int, index: int, log: ProblemLog, *, alone: bool
) -> Iterator[Row]:
    """The row of one line; several only where a repair takes the list apart that is `alone` in the file."""
    try:
        value, _ = decoder.read(line, whole=True)
    except json.JSONDecodeError as error:
        decoder.log_syntax(error, 0, number, _LEFT_OUT, index)
        return
    except TooDeepError:
        decoder.log_depth(number, _LEFT_OUT, index)
        return
    value = decoder.accept(value, number, index)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        expected, fix = "an object with the row's columns", "write each row of the list on a line of its own"
        mend = "the items of the list read as rows" if alone else _LEFT_OUT
        mended = log.fault("bad_shape", decoder.file, number, "a list of rows", expected, fix, row=index, mend=mend)
        if mended and alone:
            yield from (Row(index + i, number, item) for i, item in enumerate(value))
        return
    yield from _object_row(value, index, number, decoder.file, log)


def json_rows(text: str, file: str, log: ProblemLog, longest: int, *, first: int = 1) -> Iterator[Row]:
    """Rows of a JSON document: a list, or an object that holds the list under `data`.

    `longest` is the limit of one row in characters, `first` the number of the first line.
    """
    decoder = JsonReader(file, log)
    start = past_space(text, 0)
    if text[start : start + 1] == "[":
        end = yield from _items(text, start, first, decoder, log, longest)
        if end is not None and (rest := past_space(text, end)) != len(text):
            _log_break(text, rest, first, "nothing after the list", file, log)
        return
    if (place := _data_list(text, first, decoder)) is not None:
        end = yield from _items(text, place, first, decoder, log, longest)
        if end is not None:
            _check_rest(text, end, first, decoder)
        return
    try:
        value, _ = decoder.read(text, whole=True)
    except TooDeepError:
        decoder.log_depth(first + text.count("\n", 0, start), None)
        return
    except json.JSONDecodeError as error:
        mend = "read as JSON Lines" if error.msg == "Extra data" and text[start] == "{" else None
        if decoder.log_syntax(error, 0, first, mend):
            # Not splitlines(): U+2028 and its like may stand inside a JSON string.
            yield from json_lines(enumerate(text.split("\n"), start=first), file, log, longest)
        return
    value = decoder.accept(value, first, None)
    if value is REFUSED:
        return
    expected, fix = 'a list of rows, or an object with the list under "data"', "put the rows into [ ]"
    rows, mend = _likely_rows(value)
    found = describe(value)
    if isinstance(value, dict):
        found += f" with the keys {', '.join(list(value)[:20])}"
    if log.fault("bad_shape", file, first, found, expected, fix, mend=mend):
        for index, item in enumerate(rows):
            yield from _object_row(item, index, None, file, log)


def _data_list(text: str, first: int, decoder: JsonReader) -> int | None:
    """Where the list begins that the document's object holds under `data`; None when there is none."""
    place = _DATA.search(text)
    if place is None:
        return None
    try:
        before, _ = decoder.read(f'{text[: place.start()]}"data": []}}', whole=True)
    except (json.JSONDecodeError, TooDeepError):
        return None  # another `data`, deeper inside
    decoder.accept(before, first, None)
    return place.end() - 1


def _check_rest(text: str, end: int, first: int, decoder: JsonReader) -> None:
    """Log what is wrong behind the list under `data`, which ends at `end`."""
    shell = '{"data": []'
    try:
        value, _ = decoder.read(shell + text[end:], whole=True)
    except json.JSONDecodeError as error:
        broken = json.JSONDecodeError(error.msg, text, error.pos - len(shell) + end)
        decoder.log_syntax(broken, 0, first, "what follows the rows left out")
    except TooDeepError:
        decoder.log_depth(first + text.count("\n", 0, end), "what follows the rows left out")
    else:
        decoder.accept(value, first + text.count("\n", 0, end), None)


def _likely_rows(value: Any) -> tuple[list[Any], str | None]:
    """The rows that an object most likely stands for, and how it was read; None when there is no telling."""
    if not isinstance(value, dict) or not value:
        return [], None
    lists = {k: v for k, v in value.items() if isinstance(v, list) and v and all(isinstance(i, dict) for i in v)}
    if len(value) == 1 and len(lists) == 1:
        (name, rows) = lists.popitem()
        if name not in ("messages", "conversations"):
            return rows, f"the list under {describe(name)} read as the rows"
    return [value], "the object read as one row"


def _items(
    text: str, start: int, first: int, decoder: JsonReader, log: ProblemLog, longest: int
) -> Generator[Row, None, int | None]:
    """Items one by one, so that each knows its line and a fault does not hide the rows before it.

    Returns where the list ends, None when that was not to be found (logged).
    """
    position, line, index = start + 1, first + text.count("\n", 0, start), 0
    rest_left_out = "this row and what follows left out"
    file = decoder.file
    while True:
        item = past_space(text, position)
        line += text.count("\n", position, item)
        if text[item : item + 1] == "]" and (index == 0 or log.repair):
            if index:
                log.change("bad_json", file, None, line, "the comma after the last row removed")
            return item + 1
        try:
            value, end = decoder.read(text, item)
        except json.JSONDecodeError as error:
            decoder.log_syntax(error, item, line, rest_left_out, index)
            return None
        except TooDeepError:
            decoder.log_depth(line, rest_left_out, index)
            return None
        if end - item > longest:
            found, fix = f"a row of {end - item:,} characters", "split or remove the row"
            log.fault("line_too_long", file, line, found, f"at most {longest:,}", fix, row=index, mend="row left out")
        else:
            yield from _object_row(decoder.accept(value, line, index), index, line, file, log)
        index += 1
        position = past_space(text, end)
        line += text.count("\n", item, position)
        mark, position = text[position : position + 1], position + 1
        if mark == "]":
            return position
        if mark != ",":
            _log_break(text, position - 1, first, "a comma or ]", file, log)
            return None


def _log_break(text: str, place: int, first: int, expected: str, file: str, log: ProblemLog) -> None:
    line, column = first + text.count("\n", 0, place), place - text.rfind("\n", 0, place)
    found = "the end of the file" if place >= len(text) else describe(text[place : place + 20])
    fix = "check the commas and brackets there"
    log.fault("bad_json", file, line, found, expected, fix, column=column, mend="what follows left out")


def _object_row(value: Any, index: int, line: int | None, file: str, log: ProblemLog) -> Iterator[Row]:
    if isinstance(value, dict):
        yield Row(index, line, value)
    elif value is not REFUSED:
        found = describe(value) if line is not None else f"{describe(value)} as row {index}"
        expected, fix = "an object with the row's columns", "write rows as { }"
        log.fault("bad_shape", file, line, found, expected, fix, row=index, mend="row left out")
