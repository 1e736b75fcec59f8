"""The rows of an evaluation: every answer beside its reference, filtered and ordered, and one row in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from phi3tune.evaluation.flips import right
from phi3tune.ui.render import Column, answer_text, counted, empty, esc, number, table
from phi3tune.ui.render_report import Report
from phi3tune.ui.words import N, t, told

ALL = "all"
ROWS_SHOWN = 200
WORST, FILED = N("worst first"), N("as in the file")
ORDERS = (WORST, FILED)
# A token's loss in nats at which its colour is full: the model gave it 1 chance in about 150.
FULL_LOSS = 5.0


def rows(found: Report | None, keep: str, order: str = WORST) -> str:
    """Prompt, reference and every answer of the rows that the filter keeps. A row can be opened."""
    if found is None:
        text = t("Every row with the answers of all models appears here, to see what was fixed and what broke.")
        return empty(text, picture="rows")
    kept = [place for place in range(len(found.rows)) if FILTERS[keep](found.rows[place], found.metric)]
    if order == WORST:
        kept.sort(key=lambda place: _merit(found.rows[place]["answers"][-1], found.metric))
    columns = [Column(t("Row"), numeric=True, html=True), Column(t("Prompt"), wide=True)]
    columns.append(Column(t("Reference"), wide=True))
    columns += [Column(model, wide=True, html=True) for model in found.models]
    body = [_line(found.rows[place], place, found.metric) for place in kept[:ROWS_SHOWN]]
    count = t("{n} of {rows}", n=f"{len(kept):,}", rows=counted(len(found.rows), "row"))
    if len(kept) > ROWS_SHOWN:
        count = t("{count}; the first {n} are shown", count=count, n=f"{ROWS_SHOWN:,}")
    return table(columns, body, caption=count)


def _line(row: dict[str, Any], place: int, metric: str) -> list[object]:
    button = (
        f'<button type="button" class="pt-open" data-place="{place}" '
        f'aria-label="{esc(t("Open row {n}", n=row["row"] + 1))}">{row["row"] + 1:,}</button>'
    )
    return [button, prompt(row), row["reference"], *(_answer(answer, metric) for answer in row["answers"])]


def prompt(row: dict[str, Any]) -> str:
    """The user's last words; earlier turns only by their number."""
    messages = row["prompt"]
    if not messages:
        return ""
    last = str(messages[-1]["content"])
    if len(messages) == 1:
        return last
    return t("[after {messages}] {last}", messages=counted(len(messages) - 1, "message"), last=last)


def _answer(answer: dict[str, Any], metric: str) -> str:
    if answer["answer"] is None:
        return f'<span class="pt-sub">{esc(t("no answer: {reason}", reason=told(answer["reason"])))}</span>'
    good = right(answer, metric)
    kind, mark = ("pt-right", "✓") if good else ("pt-wrong", "✗")
    meaning = t("right") if good else t("not right")
    text = esc(answer["answer"]) if answer["answer"].strip() else f'<span class="pt-sub">{esc(t("no text"))}</span>'
    return f'<span class="{kind}" role="img" aria-label="{esc(meaning)}" title="{esc(meaning)}">{mark}</span> {text}'


def _merit(answer: dict[str, Any], metric: str) -> tuple[float, float]:
    """Ascending: worst first. Among answers of one score, the reference that was least expected comes first."""
    score = answer.get("metrics", {}).get(metric, answer["token_f1"])
    nll, tokens = answer.get("nll"), answer.get("tokens")
    return (float(score or 0.0), -nll / tokens if nll is not None and tokens else 0.0)


def _both(row: dict[str, Any], metric: str) -> tuple[bool, bool]:
    return right(row["answers"][0], metric), right(row["answers"][-1], metric)


# What the filter's names mean for a row: its first model is the base, its last the one under test.
FILTERS: dict[str, Callable[[dict[str, Any], str], bool]] = {
    ALL: lambda row, metric: True,
    "fixed": lambda row, metric: _both(row, metric) == (False, True),
    "broken": lambda row, metric: _both(row, metric) == (True, False),
    "both wrong": lambda row, metric: _both(row, metric) == (False, False),
    "differ": lambda row, metric: len({answer["answer"] for answer in row["answers"]}) > 1,
}
NAMES = {
    ALL: N("all"), "fixed": N("fixed"), "broken": N("broken"), "both wrong": N("both wrong"), "differ": N("differ"),
}  # fmt: skip
SPEAKERS = {"system": N("system"), "user": N("user"), "assistant": N("assistant"), "reference": N("reference")}


def counts(found: Report) -> dict[str, int]:
    """How many rows each filter keeps."""
    return {name: sum(keeps(row, found.metric) for row in found.rows) for name, keeps in FILTERS.items()}


def detail(found: Report, place: int, losses: Sequence[Sequence[tuple[str, float]]]) -> str:
    """One row in full: the chat, the reference, each answer, and how surprised each model was by the reference.

    losses  for each model: text and loss in nats of every loss-bearing token of the reference; empty if not known
    """
    row = found.rows[place]
    turns = [*((turn["role"], turn["content"]) for turn in row["prompt"]), ("reference", row["reference"])]
    chat = "".join(
        f'<div class="pt-message"><b>{esc(t(SPEAKERS.get(role, role)))}</b><span>{esc(text)}</span></div>'
        for role, text in turns
    )
    heading = t("Row {n} of {file}", n=f"{row['row'] + 1:,}", file=row["file"])
    parts = [f'<h3 class="pt-small-heading">{esc(heading)}</h3>{chat}']
    for label, answer, tokens in zip(found.models, row["answers"], losses, strict=True):
        said = answer["answer"]
        if said is None:
            said = t("No answer: {reason}", reason=told(answer["reason"]))
        parts.append(f'<h4 class="pt-model">{esc(label)}</h4>{answer_text(said)}{_losses(tokens)}')
    return "".join(parts)


def _losses(tokens: Sequence[tuple[str, float]]) -> str:
    if not tokens:
        return ""
    spans = "".join(
        f'<span class="pt-loss" style="--loss:{min(100.0, 100 * loss / FULL_LOSS):.0f}%" '
        f'title="{esc(t("loss {value} nats", value=number(loss)))}">{esc(text)}</span>'
        for text, loss in tokens
    )
    mean = sum(loss for _, loss in tokens) / len(tokens)
    legend = t(
        "The reference, as this model expected it: mean loss {value} nats per token; the redder, the less expected.",
        value=number(mean),
    )
    return f'<p class="pt-legend">{esc(legend)}</p><div class="pt-tokens" tabindex="0">{spans}</div>'
