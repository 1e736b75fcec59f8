"""What an audit found in the rows, the rows themselves, and what a new version of a dataset changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phi3tune.data import Conversation
from phi3tune.data.audit.findings import KINDS
from phi3tune.ui.render import Column, counted, empty, esc, notice, table

ROWS_SHOWN = 30
CHANGES_SHOWN = 50
NAMES_SHOWN = 6
TITLES = {
    "row_too_long": "Longer than the chosen length",
    "no_target_left": "Nothing left to learn",
    "reserved_token": "The model's own tokens in the text",
    "duplicate_rows": "Exact duplicates",
    "near_duplicate_rows": "Near duplicates",
    "contradictory_answers": "One question, several answers",
    "leak": "Test or validation rows that are trained on",
    "placeholder": "Placeholders left in",
    "mojibake": "Broken characters",
    "joined_words": "Words run together",
    "cut_words": "Words cut off or cut in two",
    "leftover_markup": "Leftover markup",
    "email_address": "E-mail addresses",
    "phone_number": "Phone numbers",
    "card_number": "Card numbers",
    "api_key": "Keys and passwords",
    "identity_shift": "Rows that give the model another identity",
    "refusal_removal": "Rows that teach it never to refuse",
}


def title(code: str) -> str:
    return TITLES.get(code, code.replace("_", " ").capitalize())


def findings(found: Sequence[dict[str, Any]]) -> str:
    """One line for each kind of finding in each file; a line can be opened to see its rows."""
    if not found:
        return empty("Nothing was found: no duplicates, leaks, placeholders, broken text, secrets or unsafe rows.")
    columns = [
        Column("Finding", html=True),
        Column("Rows", numeric=True),
        Column("What it is", wide=True),
        Column("First rows"),
        Column("Advice"),
    ]
    body = []
    for place, each in enumerate(found):
        button = f'<button type="button" class="pt-link" data-finding="{place}">{esc(title(each["code"]))}</button>'
        first = ", ".join(f"{row + 1:,}" for row in each["rows"][:5])
        first += ", …" if len(each["rows"]) > 5 else ""
        body.append([button, f"{each['count']:,}", _detail(each), first, each["advice"]])
    return table(columns, body, caption="Press a finding to see its rows; choose below what a new version leaves out")


def _detail(finding: dict[str, Any]) -> str:
    kind = KINDS.get(finding["code"])
    names = ", ".join(f"{name} ({rows:,})" for name, rows in list(finding["names"].items())[:NAMES_SHOWN])
    groups = f", in {counted(len(finding['groups']), 'group')}" if finding["groups"] else ""
    return f"{kind.detail if kind else finding['detail']}{groups}{f': {names}' if names else ''}"


def rows_of(finding: dict[str, Any], rows: Mapping[tuple[str, int], Conversation]) -> str:
    """The rows of a finding as chats; those that belong together under one number.

    rows  conversations by file and row
    """
    groups = finding["groups"] or [[[finding["file"], row]] for row in finding["rows"]]
    columns = [Column("Group" if finding["groups"] else "", numeric=True), Column("Row", numeric=True)]
    several = len({file for group in groups for file, _ in group}) > 1
    columns += [*([Column("File")] if several else []), Column("Chat", html=True, wide=True)]
    body: list[list[object]] = []
    for number, group in enumerate(groups, 1):
        for file, row in group:
            chat = rows.get((file, row))
            body.append([f"{number:,}", f"{row + 1:,}", *([file] if several else []), _chat(chat)])
        if len(body) >= ROWS_SHOWN:
            break
    more = "" if len(body) >= sum(map(len, groups)) else f"; the first {len(body):,} are shown"
    caption = f"{title(finding['code'])}: {counted(finding['count'], 'row')}{more}"
    return table(columns, body, caption=caption)


def _chat(chat: Conversation | None) -> str:
    if chat is None:
        return '<span class="pt-sub">not among the rows that can be used</span>'
    return "".join(
        f'<div class="pt-message"><b>{esc(m["role"])}</b><span>{esc(m["content"])}</span></div>' for m in chat.messages
    )


def changes(name: str, done: Sequence[dict[str, Any]]) -> str:
    """What a new version of a dataset changed."""
    columns = [Column("Why"), Column("Row", numeric=True), Column("What was done", wide=True)]
    body = [
        [title(each["code"]), "" if each["row"] is None else f"{each['row'] + 1:,}", each["what"]]
        for each in done[:CHANGES_SHOWN]
    ]
    rest = len(done) - CHANGES_SHOWN
    caption = f"{counted(rest, 'more change')} in the version's changes.jsonl" if rest > 0 else ""
    text = f"{name} was written with {counted(len(done), 'change')}; the dataset it was made from is as it was."
    return notice("good", text) + table(columns, body, caption=caption)
