"""A dataset as HTML: what is in it, what is wrong with it, one row as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phi3tune import data
from phi3tune.chat import Renderer
from phi3tune.data import Conversation
from phi3tune.ui.render import Column, counted, esc, explained, facts, notice, number, share, table
from phi3tune.ui.words import N, t, told

ROWS_SHOWN = 8
PROBLEMS_SHOWN = 50
TOKENS_SHOWN = 2000
PARTS = {"train": N("train rows"), "validation": N("validation rows"), "test": N("test rows")}
PART_NAMES = {"train": N("train"), "validation": N("validation"), "test": N("test")}
TERMS = (
    (N("train, validation, test rows"), N("learned from; looked at while it learns; kept aside for the comparison")),
    (N("tokens"), N("the pieces of words that the model reads and writes; most words are one or two")),
    (N("learned"), N("tokens of the answers: only these are taught, questions are only read")),
    (N("problems"), N("rows that could not be read or used; errors keep the dataset from being trained on")),
    (N("rows to look at"), N("rows that can be used but may harm: duplicates, leaks, broken text, personal data")),
)


def summary(found: dict[str, Any]) -> str:
    """Rows, format, tokens, problems and findings of an audit at a glance."""
    tokens = found["tokens"] or {}
    errors = sum(problem["severity"] == "error" for problem in found["problems"])
    warnings = len(found["problems"]) - errors
    flagged = len({(entry["file"], row) for entry in found["findings"] for row in entry["rows"]})
    shown = [(f"{found['parts'][part]:,}", t(name)) for part, name in PARTS.items() if part in found["parts"]]
    if tokens:
        shown += [
            (f"{tokens['trained']:,}", t("learned of {n} tokens", n=f"{tokens['total']:,}")),
            (f"{tokens['max']:,}", t("longest, in tokens")),
        ]
    shown += [
        (problem_count(errors, warnings), t("problems")),
        (f"{flagged:,}", t("rows to look at")),
    ]
    meaning = explained([(t(term), t(sentence)) for term, sentence in TERMS], t("What these figures mean"))
    return facts(shown) + meaning + _read_as(found) + _losses(found)


def problem_count(errors: int, warnings: int) -> str:
    """The worse of both, counted: `2 errors`, `1 warning`, `none`."""
    return counted(errors, "error") if errors else counted(warnings, "warning") if warnings else t("none")


def _read_as(found: dict[str, Any]) -> str:
    if not found["format"]:
        return ""
    form = found["format"].replace("_", " ")
    mapping = ", ".join(f"{column} → {field}" for field, column in found["mapping"].items())
    text = (
        t("Read as {format}: {columns}.", format=form, columns=mapping)
        if mapping
        else t("Read as {format}.", format=form)
    )
    return f'<p class="pt-line">{esc(text)}</p>'


def chosen(name: str, found: dict[str, Any] | None) -> str:
    """The chosen dataset in one line, for the Train tab. `found` is its audit; None while there is none."""
    if not name:
        return notice("info", t("No dataset is chosen."), t("Choose one in the Data tab."))
    if found is None:
        return notice(
            "warning", t("{name} cannot be used as it is chosen.", name=name), t("Look at it in the Data tab.")
        )
    errors = sum(problem["severity"] == "error" for problem in found["problems"])
    text = t(
        "{rows} to learn from · problems: {problems}",
        rows=counted(found["parts"].get("train", 0), "row"),
        problems=problem_count(errors, len(found["problems"]) - errors),
    )
    return f'<p class="pt-chosen"><b>{esc(name)}</b> <span class="pt-sub">{esc(text)}</span></p>'


def _losses(found: dict[str, Any]) -> str:
    parts = []
    if cut := found.get("truncated_rows"):
        rows, longest = counted(cut, "row"), f"{found['max_length']:,}"
        text = t("{rows} longer than {n} tokens will be cut.", rows=rows, n=longest)
        if answers := found.get("cut_answers", 0):
            text = t(
                "{rows} longer than {n} tokens will be cut; {answers} among them lose their end.",
                rows=rows,
                n=longest,
                answers=counted(answers, "answer"),
            )
        parts.append(notice("warning", text, t("Raise the longest length under Advanced settings to keep them whole.")))
    if lost := found.get("unlearnable_rows"):
        parts.append(notice("bad", t("{rows} would have no answer left after cutting.", rows=counted(lost, "row"))))
    return "".join(parts)


def problems(found: Sequence[dict[str, Any]], names: Mapping[str, str] | None = None) -> str:
    """Every problem with its place and how to mend it; nothing when there is none.

    names  what a person calls a file: an upload is stored under another name
    """
    names = names or {}
    if not found:
        return ""
    columns = [
        Column(t("Code")),
        Column(t("Place")),
        *(Column(name, wide=True) for name in (t("Found"), t("Expected"), t("What to do"))),
    ]
    rows = [
        [p["code"], place(p, names), told(p["found"]), told(p["expected"]), told(p["fix"])]
        for p in found[:PROBLEMS_SHOWN]
    ]
    rest = len(found) - PROBLEMS_SHOWN
    caption = t("{problems} not shown.", problems=counted(rest, "more problem")) if rest > 0 else ""
    return table(columns, rows, caption=caption)


def place(problem: dict[str, Any], names: Mapping[str, str]) -> str:
    """`lamp.jsonl, line 12, column 4`; lines and columns count from 1."""
    parts = [names.get(problem["file"], problem["file"])]
    if problem["line"] is not None:
        parts.append(t("line {n}", n=f"{problem['line']:,}"))
    if problem["column"] is not None:
        parts.append(t("column {n}", n=f"{problem['column']:,}"))
    return ", ".join(parts)


def rows(part: Sequence[Conversation], total: int, name: str = "train") -> str:
    """The first conversations of a part, each as a chat."""
    shown = part[:ROWS_SHOWN]
    part_name = t(PART_NAMES.get(name, PART_NAMES["train"]))
    caption = t("The first {n} of {all} {part} rows", n=len(shown), all=f"{total:,}", part=part_name)
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
    return table([Column(t("Row"), numeric=True), Column(t("Chat"), html=True, wide=True)], body, caption=caption)


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
    text = t(
        "Row {row} of {all}: {tokens} tokens, {learned} of them learned",
        row=f"{place:,}",
        all=f"{total:,}",
        tokens=f"{kept:,}",
        learned=f"{learned:,}",
    )
    if len(sequence) > TOKENS_SHOWN:
        text = t("{text}; the first {n} are shown", text=text, n=f"{TOKENS_SHOWN:,}")
    legend = (
        f'<p class="pt-legend">{esc(text)}<span class="pt-learned">{esc(t("learned"))}</span>'
        f'<span>{esc(t("only read"))}</span><span class="pt-cut">{esc(t("cut"))}</span></p>'
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
        f'title="{esc(_bin(column))}"></i>'
        for column in bins
    )
    stats = found["tokens"]
    caption = t(
        "Tokens of a conversation: half have at most {median}, 95 % at most {p95}, the longest {longest}. "
        "Cut beyond {limit}.",
        median=f"{stats['median']:,.0f}",
        p95=f"{stats['p95']:,}",
        longest=f"{stats['max']:,}",
        limit=f"{found['max_length']:,}",
    )
    return (
        f'<p class="pt-line">{esc(caption)}</p>'
        f'<div class="pt-histogram" role="img" aria-label="{esc(caption)}">{bars}</div>'
        f'<div class="pt-axis"><span>{bins[0]["low"]:,}</span>'
        f"<span>{esc(counted(bins[-1]['high'], 'token'))}</span></div>"
    )


def _bin(column: dict[str, Any]) -> str:
    low, high, rows = f"{column['low']:,}", f"{column['high']:,}", counted(column["rows"], "row")
    return t("{low} to {high} tokens: {rows}", low=low, high=high, rows=rows)


def statistics(found: dict[str, Any]) -> str:
    """Turns, shares, languages, the most frequent answers, and how many rows each label has."""
    turns, tokens = found.get("turns"), found["tokens"]
    if not turns or not tokens:
        return ""
    shown = [
        (number(turns["mean"]), t("turns of a row, on average")),
        (f"{turns['max']:,}", t("turns at most")),
        (f"{tokens['mean']:,.0f}", t("tokens of a row, on average")),
        (share(found["trained_share"]), t("of the tokens are learned")),
    ]
    parts = [facts(shown), _languages(found), _labels(found), _answers(found)]
    return "".join(parts)


def _languages(found: dict[str, Any]) -> str:
    if not found["languages"]:
        return ""
    columns = [Column(t("Language")), Column(t("Rows"), numeric=True), Column(t("Share"), numeric=True)]
    body = [[told(each["name"]), f"{each['rows']:,}", share(each["share"])] for each in found["languages"]]
    looked_at = counted(found["languages_sampled"], "row")
    return table(columns, body, caption=t("Languages of {rows} looked at", rows=looked_at))


def _labels(found: dict[str, Any]) -> str:
    if not found["labels"]:
        return ""
    columns = [Column(t("Label"), wide=True), *(Column(t(name), numeric=True) for name in PARTS.values())]
    body = [[each["label"], *(f"{each[part]:,}" for part in PARTS)] for each in found["labels"]]
    return table(columns, body, caption=t("The answers come from a small set; each part has its share of every label"))


def _answers(found: dict[str, Any]) -> str:
    repeated = [each for each in found["answers"] if each["rows"] > 1]
    if not repeated:
        return ""
    columns = [Column(t("Most frequent answers"), wide=True), Column(t("Rows"), numeric=True)]
    return table(columns, [[each["text"], f"{each['rows']:,}"] for each in repeated])
