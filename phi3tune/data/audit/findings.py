"""Findings: what was found, in which rows, and whether to drop them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

Severity = Literal["warning", "info"]
Advice = Literal["drop", "keep"]


@dataclass(frozen=True)
class Kind:
    severity: Severity
    advice: Advice
    detail: str


KINDS: Mapping[str, Kind] = {
    "row_too_long": Kind("warning", "keep", "longer than the longest length: the rest is cut"),
    "no_target_left": Kind("warning", "drop", "no answer token is left after cutting"),
    "reserved_token": Kind("info", "keep", "holds the model's own tokens: trained as plain text"),
    "duplicate_rows": Kind("warning", "drop", "identical conversations"),
    "near_duplicate_rows": Kind("warning", "drop", "nearly identical conversations"),
    "contradictory_answers": Kind("warning", "drop", "the same prompt with different answers"),
    "leak": Kind("warning", "drop", "alike, or nearly, in the file for training and in one that is held out"),
    "placeholder": Kind("warning", "drop", "a placeholder was left in"),
    "mojibake": Kind("warning", "drop", "text that was decoded with the wrong encoding"),
    "joined_words": Kind("warning", "drop", "words run together"),
    "cut_words": Kind("warning", "drop", "a word is cut short or in two"),
    "leftover_markup": Kind("info", "keep", "HTML or BBCode in text"),
    "email_address": Kind("warning", "drop", "an e-mail address"),
    "phone_number": Kind("warning", "drop", "a telephone number"),
    "card_number": Kind("warning", "drop", "a payment card's number"),
    "api_key": Kind("warning", "drop", "a key or password that gives access"),
    "identity_shift": Kind("warning", "drop", "gives the model another identity that obeys: weakens its safety"),
    "refusal_removal": Kind("warning", "drop", "teaches the model not to refuse: weakens its safety"),
}
_KEEP_FIRST = ("duplicate_rows", "near_duplicate_rows")


class Finding(BaseModel):
    """Something about rows of one file. `rows` count from 0 and are complete; `groups` hold [file, row]."""

    code: str
    severity: Severity
    file: str
    rows: list[int]
    count: int
    groups: list[list[tuple[str, int]]] = []
    detail: str
    names: dict[str, int] = {}
    advice: Advice


@dataclass
class _Rows:
    rows: array[int] = field(default_factory=lambda: array("I"))
    names: Counter[str] = field(default_factory=Counter)
    groups: list[list[tuple[str, int]]] = field(default_factory=list)


class Findings:
    """Collects findings row by row."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], _Rows] = {}

    def add(self, code: str, file: str, row: int, names: Iterable[str] = ()) -> None:
        """A row, once for each code; `names` is what was found in it, such as a placeholder."""
        found = self._found.setdefault((code, file), _Rows())
        found.rows.append(row)
        found.names.update(set(names))

    def add_group(self, code: str, places: Sequence[tuple[str, int]]) -> None:
        """Rows that belong together, told with each file that has one of them."""
        for file, row in places:
            self.add(code, file, row)
        for file in {file for file, _ in places}:
            self._found[code, file].groups.append(list(places))

    def list(self, held_out: Collection[str] = ()) -> list[Finding]:
        """All findings in the order of `KINDS`. Leaked rows in the `held_out` files are to be kept."""
        order = list(KINDS)
        return [
            Finding(
                code=code,
                severity=KINDS[code].severity,
                file=file,
                rows=sorted(found.rows),
                count=len(found.rows),
                groups=found.groups,
                detail=_detail(code, file, found),
                names=dict(found.names.most_common()),
                advice="keep" if code == "leak" and file in held_out else KINDS[code].advice,
            )
            for (code, file), found in sorted(
                self._found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
            )
        ]


def _detail(code: str, file: str, found: _Rows) -> str:
    groups = f" in {_counted(len(found.groups), 'group')}" if found.groups else ""
    names = ", ".join(f"{name} ({rows:,})" for name, rows in found.names.most_common(5))
    return f"{file}: {_counted(len(found.rows), 'row')}{groups}; {KINDS[code].detail}{f': {names}' if names else ''}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def drop_rows(findings: Iterable[Mapping[str, Any]], codes: Collection[str]) -> dict[str, set[tuple[str, int]]]:
    """The (file, row) to drop for each code, from `findings` as `check` gives them.

    Of identical and nearly identical rows the first of each group stays; of leaks the held-out side. Every
    other code drops all its rows.
    """
    dropped: dict[str, set[tuple[str, int]]] = {}
    for finding in findings:
        code, file = finding["code"], finding["file"]
        if code not in codes or (code == "leak" and finding["advice"] == "keep"):
            continue
        rows = {(file, row) for row in finding["rows"]}
        if code in _KEEP_FIRST:
            rows -= {tuple(group[0]) for group in finding["groups"]}
        dropped.setdefault(code, set()).update(rows)
    return {code: rows for code, rows in dropped.items() if rows}
