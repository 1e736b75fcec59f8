"""An evaluation as text and HTML: its verdict, metric by model, and every answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from phi3tune.jobs import JobView
from phi3tune.ui.render import NONE, Column, counted, empty, esc, notice, number, share, table
from phi3tune.ui.render_jobs import doing, progress

ALL = "all"
ROWS_SHOWN = 200
TITLES = {
    "exact_match": "Exact match",
    "token_f1": "Token F1",
    "perplexity": "Perplexity",
    "token_accuracy": "Token accuracy",
}
UNITS = {"exact_match": "rows", "token_f1": "rows", "perplexity": "tokens", "token_accuracy": "tokens"}
LOWER_IS_BETTER = frozenset({"perplexity"})


@dataclass(frozen=True)
class Report:
    """What an evaluation wrote: its report, and its rows with every answer."""

    report: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def models(self) -> list[str]:
        return [str(entry["label"]) for entry in self.report["models"]]


def read(job: JobView) -> Report | None:
    """The report of an evaluation that has finished, or None. A folder with a report is complete."""
    from phi3tune.evaluation import run

    if not (job.folder / run.REPORT).is_file():
        return None
    return Report(run.load_report(job.folder), run.rows(job.folder))


def name(job: JobView) -> str:
    """What the picker calls an evaluation: which, when, and how it stands unless it has finished."""
    when = time.strftime("%d %b %H:%M", time.localtime(job.created))
    whose = f"{job.folder.parent.parent.name} · " if job.folder.parent.name == "eval" else ""
    return f"{whose}{job.id} · {when}{'' if job.state == 'completed' else f' · {doing(job)}'}"


def status(job: JobView | None) -> str:
    """How a running evaluation goes, and why one failed; nothing once its report is there."""
    if job is None or job.state == "completed":
        return ""
    if job.state == "failed":
        return notice("bad", f"Failed: {(job.reason or 'no reason was given').rstrip('.')}.")
    if job.state == "stopped":
        return notice("info", "Stopped before it had a report.", "Press Evaluate to start again.")
    return progress(job, "row ")


def verdict(found: Report | None) -> str:
    """One sentence: what the last model does better or worse than the first."""
    if found is None:
        return empty("Choose the base model and your run, and press Evaluate: the scores of both appear here.")
    entries, count = found.report["models"], counted(int(found.report["rows"]), "row")
    first, last = entries[0], entries[-1]
    before, after = first["metrics"]["exact_match"], last["metrics"]["exact_match"]
    data = found.report["dataset"]
    where = f"{data['name']}, {found.report['split']} part"
    if found.report.get("left_out"):
        where += f"; {counted(int(found.report['left_out']), 'row')} left out because a model was trained on them"
    if len(entries) == 1:
        text = f"{first['label']}: exact match {share(before)} on {count}."
    elif before == after:
        same = f"{last['label']} and {first['label']} have the same exact match, {share(before)} on {count}"
        text = f"{same}; perplexity {_shown(first, 'perplexity')} → {_shown(last, 'perplexity')}."
    else:
        word = "better" if after > before else "worse"
        change = f"exact match {share(before)} → {share(after)} on {count}"
        text = f"{last['label']} is {word} than {first['label']}: {change}."
    return f'<p class="pt-verdict">{esc(text)}<small>{esc(where)}</small></p>'


def metrics(found: Report | None) -> str:
    """Metric by model, the best value of each marked."""
    if found is None:
        return ""
    entries = found.report["models"]
    columns = [Column("Metric", html=True), *(Column(name, numeric=True, html=True) for name in found.models)]
    body = []
    for key, title in TITLES.items():
        known = {entry["metrics"][key] for entry in entries} - {None}
        best = (min if key in LOWER_IS_BETTER else max)(known) if len(known) > 1 else None
        hint = ' <span class="pt-sub">lower is better</span>' if key in LOWER_IS_BETTER else ""
        cells = [_value(entry, key, best) for entry in entries]
        body.append([title + hint, *cells, f"{entries[0]['counts'].get(key, 0):,} {UNITS[key]}"])
    return table([*columns, Column("Counted over", numeric=True)], body)


def _value(entry: dict[str, Any], key: str, best: float | None) -> str:
    if entry["metrics"][key] is None:
        return f'<span title="{esc(entry["reasons"].get(key, ""))}">{NONE}</span>'
    text = _shown(entry, key)
    return f'<span class="pt-best">{text}</span>' if entry["metrics"][key] == best else text


def _shown(entry: dict[str, Any], key: str) -> str:
    value = entry["metrics"][key]
    return number(value) if key in LOWER_IS_BETTER else share(value)


def rows(found: Report | None, keep: str) -> str:
    """Prompt, reference and every answer of the rows that the filter keeps."""
    if found is None:
        return empty("Every row with the answers of all models appears here, to see what was fixed and what broke.")
    chosen = [row for row in found.rows if FILTERS[keep](row)]
    columns = [Column("Row", numeric=True), Column("Prompt", wide=True), Column("Reference", wide=True)]
    columns += [Column(model, wide=True, html=True) for model in found.models]
    body = [
        [f"{row['row'] + 1:,}", _prompt(row), row["reference"], *(_answer(answer) for answer in row["answers"])]
        for row in chosen[:ROWS_SHOWN]
    ]
    more = f"; the first {ROWS_SHOWN:,} are shown" if len(chosen) > ROWS_SHOWN else ""
    return table(columns, body, caption=f"{len(chosen):,} of {counted(len(found.rows), 'row')}{more}")


def _prompt(row: dict[str, Any]) -> str:
    """The user's last words; earlier turns only by their number."""
    messages = row["prompt"]
    earlier = f"[after {counted(len(messages) - 1, 'message')}] " if len(messages) > 1 else ""
    return f"{earlier}{messages[-1]['content']}" if messages else ""


def _answer(answer: dict[str, Any]) -> str:
    if answer["answer"] is None:
        return f'<span class="pt-sub">no answer: {esc(answer["reason"])}</span>'
    right = answer["exact_match"]
    kind, mark = ("pt-right", "✓") if right else ("pt-wrong", "✗")
    meaning = "as the reference" if right else "not as the reference"
    text = esc(answer["answer"]) if answer["answer"].strip() else '<span class="pt-sub">no text</span>'
    return f'<span class="{kind}" title="{meaning}">{mark}</span> {text}'


def _right(row: dict[str, Any]) -> list[bool]:
    return [bool(answer["exact_match"]) for answer in row["answers"]]


# What the filter's names mean for a row: its first model is the base, its last the one under test.
FILTERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    ALL: lambda row: True,
    "fixed": lambda row: not _right(row)[0] and _right(row)[-1],
    "broken": lambda row: _right(row)[0] and not _right(row)[-1],
    "both wrong": lambda row: not _right(row)[0] and not _right(row)[-1],
    "differ": lambda row: len({answer["answer"] for answer in row["answers"]}) > 1,
}
