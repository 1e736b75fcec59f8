"""A dataset as HTML: what is in it, what is wrong with it, one row as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from phi3tune.chat import NO_LOSS, Renderer
from phi3tune.data import Conversation, DataReport, Problem
from phi3tune.ui.render import NONE, Column, counted, esc, facts, notice, table

ROWS_SHOWN = 8
PROBLEMS_SHOWN = 50
TOKENS_SHOWN = 2000


def summary(report: DataReport) -> str:
    """Rows, format, tokens and problems at a glance."""
    tokens = report.tokens
    errors = sum(problem.severity == "error" for problem in report.problems)
    warnings = len(report.problems) - errors
    shown = [
        (f"{report.rows[part]:,}", f"{part} rows") for part in ("train", "validation", "test") if part in report.rows
    ]
    shown += [
        (f"{tokens.trained:,}", f"learned of {tokens.total:,} tokens"),
        (f"{tokens.max:,}", "longest, in tokens"),
        (counted(errors, "error") if errors else counted(warnings, "warning") if warnings else "none", "problems"),
    ]
    mapping = ", ".join(f"{column} → {field}" for field, column in report.mapping.items())
    read_as = f"Read as {report.format.replace('_', ' ')}{f': {mapping}' if mapping else ''}."
    return facts(shown) + f'<p class="pt-line">{esc(read_as)}</p>' + _losses(report)


def _losses(report: DataReport) -> str:
    parts = []
    if report.truncated_rows:
        text = f"{counted(report.truncated_rows, 'row')} longer than {report.max_length:,} tokens will be cut."
        parts.append(notice("warning", text, "Raise the longest length under Advanced settings to keep them whole."))
    if report.unlearnable_rows:
        text = f"{counted(report.unlearnable_rows, 'row')} would have no answer left after cutting."
        parts.append(notice("bad", text))
    return "".join(parts)


def problems(found: Sequence[Problem]) -> str:
    """Every problem with its place and how to mend it; nothing when there is none."""
    if not found:
        return ""
    columns = [
        Column("Code"),
        Column("File"),
        Column("Line", numeric=True),
        Column("Found", wide=True),
        Column("Expected", wide=True),
        Column("What to do", wide=True),
    ]
    rows = [
        [p.code, p.file, NONE if p.line is None else f"{p.line:,}", p.found, p.expected, p.fix]
        for p in found[:PROBLEMS_SHOWN]
    ]
    rest = len(found) - PROBLEMS_SHOWN
    return table(columns, rows, caption=f"{counted(rest, 'more problem')} not shown." if rest > 0 else "")


def rows(part: Sequence[Conversation], total: int) -> str:
    """The first conversations of the training part, each as a chat."""
    shown = part[:ROWS_SHOWN]
    caption = f"The first {len(shown)} of {counted(total, 'training row')}"
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
    example = renderer.training_example(row.messages)
    pieces = renderer.pieces(example.input_ids[:TOKENS_SHOWN])
    spans = []
    for at, (piece, label) in enumerate(zip(pieces, example.labels, strict=False)):
        names = [
            name
            for name, wanted in (
                ("pt-learned", label != NO_LOSS and at < max_length),
                ("pt-special", piece.startswith("<|")),
                ("pt-cut", at >= max_length),
            )
            if wanted
        ]
        visible = esc(piece).replace("\n", "⏎\n")
        spans.append(f'<span class="{" ".join(names)}">{visible}</span>')
    kept = min(len(example.input_ids), max_length)
    learned = sum(label != NO_LOSS for label in example.labels[:max_length])
    legend = (
        f'<p class="pt-legend">Row {place:,} of {total:,}: {kept:,} tokens, {learned:,} of them learned'
        '<span class="pt-learned">learned</span><span>only read</span><span class="pt-cut">cut</span></p>'
    )
    return f'{legend}<div class="pt-tokens" tabindex="0">{"".join(spans)}</div>'


def lengths(report: DataReport) -> str:
    """How long the conversations are, as bars; those that will be cut in another colour."""
    if not report.histogram:
        return ""
    most = max(column.rows for column in report.histogram)
    bars = "".join(
        f'<i class="{"pt-over" if column.low >= report.max_length else ""}" '
        f'style="height:{100 * column.rows / most:.1f}%" '
        f'title="{column.low:,} to {column.high:,} tokens: {esc(counted(column.rows, "row"))}"></i>'
        for column in report.histogram
    )
    stats = report.tokens
    caption = (
        f"Tokens of a conversation: half have at most {stats.median:,.0f}, 95 % at most {stats.p95:,}, the longest "
        f"{stats.max:,}. Cut beyond {report.max_length:,}."
    )
    last = report.histogram[-1].high
    return (
        f'<p class="pt-line">{esc(caption)}</p>'
        f'<div class="pt-histogram" role="img" aria-label="{esc(caption)}">{bars}</div>'
        f'<div class="pt-axis"><span>{report.histogram[0].low:,}</span><span>{last:,} tokens</span></div>'
    )
