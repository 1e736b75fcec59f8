"""What an audit found in the rows, the rows themselves, and what a new version of a dataset changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phi3tune.data import Conversation
from phi3tune.data.audit.findings import KINDS
from phi3tune.ui.render import Column, counted, empty, esc, notice, table
from phi3tune.ui.words import N, t, told

ROWS_SHOWN = 30
CHANGES_SHOWN = 50
NAMES_SHOWN = 6
TITLES = {
    "row_too_long": N("Longer than the chosen length"),
    "no_target_left": N("Nothing left to learn"),
    "reserved_token": N("The model's own tokens in the text"),
    "duplicate_rows": N("Exact duplicates"),
    "near_duplicate_rows": N("Near duplicates"),
    "contradictory_answers": N("One question, several answers"),
    "leak": N("Test or validation rows that are trained on"),
    "placeholder": N("Placeholders left in"),
    "mojibake": N("Broken characters"),
    "joined_words": N("Words run together"),
    "cut_words": N("Words cut off or cut in two"),
    "leftover_markup": N("Leftover markup"),
    "email_address": N("E-mail addresses"),
    "phone_number": N("Phone numbers"),
    "card_number": N("Card numbers"),
    "api_key": N("Keys and passwords"),
    "identity_shift": N("Rows that give the model another identity"),
    "refusal_removal": N("Rows that teach it never to refuse"),
}


ADVICE = {"drop": N("leave them out"), "keep": N("keep them")}


def title(code: str) -> str:
    return t(TITLES[code]) if code in TITLES else code.replace("_", " ").capitalize()


def findings(found: Sequence[dict[str, Any]]) -> str:
    """One line for each kind of finding in each file; a line can be opened to see its rows."""
    if not found:
        return empty(t("Nothing was found: no duplicates, leaks, placeholders, broken text, secrets or unsafe rows."))
    columns = [
        Column(t("Finding"), html=True),
        Column(t("Rows"), numeric=True),
        Column(t("What it is"), wide=True),
        Column(t("First rows")),
        Column(t("Advice")),
    ]
    body = []
    for place, each in enumerate(found):
        button = f'<button type="button" class="pt-link" data-finding="{place}">{esc(title(each["code"]))}</button>'
        first = ", ".join(f"{row + 1:,}" for row in each["rows"][:5])
        first += ", …" if len(each["rows"]) > 5 else ""
        body.append([button, f"{each['count']:,}", _detail(each), first, t(ADVICE[each["advice"]])])
    caption = t("Press a finding to see its rows; choose on the left what a new version leaves out")
    return table(columns, body, caption=caption)


def _detail(finding: dict[str, Any]) -> str:
    kind = KINDS.get(finding["code"])
    names = ", ".join(f"{name} ({rows:,})" for name, rows in list(finding["names"].items())[:NAMES_SHOWN])
    detail = told(kind.detail if kind else finding["detail"])
    if finding["groups"]:
        detail = t("{what}, in {groups}", what=detail, groups=counted(len(finding["groups"]), "group"))
    return f"{detail}: {names}" if names else detail


def rows_of(finding: dict[str, Any], rows: Mapping[tuple[str, int], Conversation]) -> str:
    """The rows of a finding as chats; those that belong together under one number.

    rows  conversations by file and row
    """
    groups = finding["groups"] or [[[finding["file"], row]] for row in finding["rows"]]
    columns = [Column(t("Group") if finding["groups"] else "", numeric=True), Column(t("Row"), numeric=True)]
    several = len({file for group in groups for file, _ in group}) > 1
    columns += [*([Column(t("File"))] if several else []), Column(t("Chat"), html=True, wide=True)]
    body: list[list[object]] = []
    for number, group in enumerate(groups, 1):
        for file, row in group:
            chat = rows.get((file, row))
            body.append([f"{number:,}", f"{row + 1:,}", *([file] if several else []), _chat(chat)])
        if len(body) >= ROWS_SHOWN:
            break
    caption = f"{title(finding['code'])}: {counted(finding['count'], 'row')}"
    if len(body) < sum(map(len, groups)):
        caption = t("{text}; the first {n} are shown", text=caption, n=f"{len(body):,}")
    return table(columns, body, caption=caption)


def _chat(chat: Conversation | None) -> str:
    if chat is None:
        return f'<span class="pt-sub">{esc(t("not among the rows that can be used"))}</span>'
    return "".join(
        f'<div class="pt-message"><b>{esc(m["role"])}</b><span>{esc(m["content"])}</span></div>' for m in chat.messages
    )


def changes(name: str, done: Sequence[dict[str, Any]]) -> str:
    """What a new version of a dataset changed."""
    columns = [Column(t("Why")), Column(t("Row"), numeric=True), Column(t("What was done"), wide=True)]
    body = [
        [title(each["code"]), "" if each["row"] is None else f"{each['row'] + 1:,}", told(each["what"])]
        for each in done[:CHANGES_SHOWN]
    ]
    rest = len(done) - CHANGES_SHOWN
    more = t("{changes} in the version's changes.jsonl", changes=counted(rest, "more change"))
    caption = more if rest > 0 else ""
    text = t(
        "{name} was written with {changes}; the dataset it was made from is as it was.",
        name=name,
        changes=counted(len(done), "change"),
    )
    return notice("good", text) + table(columns, body, caption=caption)
