"""A dataset as HTML: what is in it, what is wrong with it, one row as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phi3tune import data
from phi3tune.chat import Renderer
from phi3tune.data import Conversation
from phi3tune.ui.render import Column, counted, esc, facts, notice, number, share, table

ROWS_SHOWN = 8
PROBLEMS_SHOWN = 50
TOKENS_SHOWN = 2000
PARTS = ("train", "validation", "test")


def summary(found: dict[str, Any]) -> str:
    """Rows, format, tokens, problems and findings of an audit at a glance."""
    tokens = found["tokens"] or {}
    errors = sum(problem["severity"] == "error" for problem in found["problems"])
    warnings = len(found["problems"]) - errors
    flagged = len({(entry["file"], row) for entry in found["findings"] for row in entry["rows"]})
    shown = [(f"{found['parts'][part]:,}", f"{part} rows") for part in PARTS if part in found["parts"]]
    if tokens:
        shown += [
            (f"{tokens['trained']:,}", f"learned of {tokens['total']:,} tokens"),
            (f"{tokens['max']:,}", "longest, in tokens"),
        ]
    shown += [
        (counted(errors, "error") if errors else counted(warnings, "warning") if warnings else "none", "problems"),
        (f"{flagged:,}", "rows to look at"),
    ]
    mapping = ", ".join(f"{column} → {field}" for field, column in found["mapping"].items())
    read_as = f"Read as {found['format'].replace('_', ' ')}{f': {mapping}' if mapping else ''}."
    line = f'<p class="pt-line">{esc(read_as)}</p>' if found["format"] else ""
    return facts(shown) + line + _losses(found)


def _losses(found: dict[str, Any]) -> str:
    parts = []
    if cut := found.get("truncated_rows"):
        text = f"{counted(cut, 'row')} longer than {found['max_length']:,} tokens will be cut"
        answers = found.get("cut_answers", 0)
        text += f"; {counted(answers, 'answer')} among them lose their end." if answers else "."
        parts.append(notice("warning", text, "Raise the longest length under Advanced settings to keep them whole."))
    if lost := found.get("unlearnable_rows"):
        parts.append(notice("bad", f"{counted(lost, 'row')} would have no answer left after cutting."))
    return "".join(parts)


def problems(found: Sequence[dict[str, Any]], names: Mapping[str, str] | None = None) -> str:
    """Every problem with its place and how to mend it; nothing when there is none.

    names  what a person calls a file: an upload is stored under another name
    """
    names = names or {}
    if not found:
        return ""
    columns = [
        Column("Code"),
        Column("Place"),
        *(Column(name, wide=True) for name in ("Found", "Expected", "What to do")),
    ]
    rows = [[p["code"], place(p, names), p["found"], p["expected"], p["fix"]] for p in found[:PROBLEMS_SHOWN]]
    rest = len(found) - PROBLEMS_SHOWN
    return table(columns, rows, caption=f"{counted(rest, 'more problem')} not shown." if rest > 0 else "")


def place(problem: dict[str, Any], names: Mapping[str, str]) -> str:
    """`lamp.jsonl, line 12, column 4`; lines and columns count from 1."""
    parts = [names.get(problem["file"], problem["file"])]
    parts += [f"{name} {problem[name]:,}" for name in ("line", "column") if problem[name] is not None]
    return ", ".join(parts)


def rows(part: Sequence[Conversation], total: int, name: str = "train") -> str:
    """The first conversations of a part, each as a chat."""
    shown = part[:ROWS_SHOWN]
    caption = f"The first {len(shown)} of {counted(total, f'{name} row')}"
    body = [
        [
            f"{place:,}",
            "".join(
                f'<div class="pt-message"><b>{esc(m["role"])}</b><span>{esc(m["content"])}</span></div>'
                for m in row.messages
            ),
        ]
        for place, row in enumerate(shown, 1)
    ]
    return table([Column("Row", numeric=True), Column("Chat", html=True, wide=True)], body, caption=caption)


def tokens(renderer: Renderer, row: Conversation, max_length: int, place: int, total: int) -> str:
    """One conversation as the model sees it: learned tokens coloured, tokens beyond `max_length` struck."""
    sequence = data.tokens(row, renderer, max_length)
    spans = []
    for token in sequence[:TOKENS_SHOWN]:
        marks = (("pt-learned", token.learned), ("pt-special", token.special), ("pt-cut", token.cut))
        names = " ".join(name for name, wanted in marks if wanted)
        visible = esc(token.text).replace("\n", "⏎\n")
        spans.append(f'<span class="{names}" title="{token.id}">{visible}</span>')
    kept = min(len(sequence), max_length)
    learned = sum(token.learned for token in sequence)
    more = f"; the first {TOKENS_SHOWN:,} are shown" if len(sequence) > TOKENS_SHOWN else ""
    legend = (
        f'<p class="pt-legend">Row {place:,} of {total:,}: {kept:,} tokens, {learned:,} of them learned{more}'
        '<span class="pt-learned">learned</span><span>only read</span><span class="pt-cut">cut</span></p>'
    )
    return f'{legend}<div class="pt-tokens" tabindex="0">{"".join(spans)}</div>'


def lengths(found: dict[str, Any]) -> str:
    """How long the conversations are, as bars; those that will be cut in another colour."""
    bins = found.get("histogram")
    if not bins or not found["tokens"]:
        return ""
    most = max(column["rows"] for column in bins)
    bars = "".join(
        f'<i class="{"pt-over" if column["low"] >= found["max_length"] else ""}" '
        f'style="height:{100 * column["rows"] / most:.1f}%" '
        f'title="{column["low"]:,} to {column["high"]:,} tokens: {esc(counted(column["rows"], "row"))}"></i>'
        for column in bins
    )
    stats = found["tokens"]
    caption = (
        f"Tokens of a conversation: half have at most {stats['median']:,.0f}, 95 % at most {stats['p95']:,}, "
        f"the longest {stats['max']:,}. Cut beyond {found['max_length']:,}."
    )
    return (
        f'<p class="pt-line">{esc(caption)}</p>'
        f'<div class="pt-histogram" role="img" aria-label="{esc(caption)}">{bars}</div>'
        f'<div class="pt-axis"><span>{bins[0]["low"]:,}</span><span>{bins[-1]["high"]:,} tokens</span></div>'
    )


def statistics(found: dict[str, Any]) -> str:
    """Turns, shares, languages, the most frequent answers, and how many rows each label has."""
    turns, tokens = found.get("turns"), found["tokens"]
    if not turns or not tokens:
        return ""
    shown = [
        (number(turns["mean"]), "turns of a row, on average"),
        (f"{turns['max']:,}", "turns at most"),
        (f"{tokens['mean']:,.0f}", "tokens of a row, on average"),
        (share(found["trained_share"]), "of the tokens are learned"),
    ]
    parts = [facts(shown), _languages(found), _labels(found), _answers(found)]
    return "".join(parts)


def _languages(found: dict[str, Any]) -> str:
    if not found["languages"]:
        return ""
    columns = [Column("Language"), Column("Rows", numeric=True), Column("Share", numeric=True)]
    body = [[each["name"], f"{each['rows']:,}", share(each["share"])] for each in found["languages"]]
    return table(columns, body, caption=f"Languages of {counted(found['languages_sampled'], 'row')} looked at")


def _labels(found: dict[str, Any]) -> str:
    if not found["labels"]:
        return ""
    columns = [Column("Label", wide=True), *(Column(part.capitalize(), numeric=True) for part in PARTS)]
    body = [[each["label"], *(f"{each[part]:,}" for part in PARTS)] for each in found["labels"]]
    return table(columns, body, caption="The answers come from a small set; each part has its share of every label")


def _answers(found: dict[str, Any]) -> str:
    repeated = [each for each in found["answers"] if each["rows"] > 1]
    if not repeated:
        return ""
    columns = [Column("Most frequent answers", wide=True), Column("Rows", numeric=True)]
    return table(columns, [[each["text"], f"{each['rows']:,}"] for each in repeated])
