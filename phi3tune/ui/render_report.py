"""An evaluation as text and HTML: its verdict, metric by model, charts and labels."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from phi3tune.evaluation import figures
from phi3tune.jobs import JobView
from phi3tune.ui.render import NONE, Column, counted, empty, esc, explained, notice, share, table
from phi3tune.ui.render_jobs import doing, progress
from phi3tune.ui.words import N, t, told

TONES = {"better": "good", "worse": "bad", "undecided": "info"}
CLASSES_SHOWN = 20
PARTS = {"train": N("train"), "validation": N("validation"), "test": N("test")}
# Metrics by their title, and what each of them says.
MEANINGS = {
    N("Accuracy"): N("Rows whose answer is the right label."),
    N("Macro F1"): N("F1 of each label, averaged: a rare label counts as much as a frequent one."),
    N("Exact match"): N("Rows whose answer is the reference, character for character."),
    N("Exact match, normalised"): N("The same, without regard to case, punctuation and articles."),
    N("Token F1"): N("Words that answer and reference share: 100 % when all of both are the same."),
    N("ROUGE-L"): N("The longest run of words, gaps allowed, that answer and reference share."),
    N("chrF"): N("Runs of up to six characters that answer and reference share."),
    N("BLEU"): N("Runs of up to four words that answer and reference share; used for translations."),
    N("Numeric match"): N("Rows whose answer has the reference's number."),
    N("Pattern match"): N("Rows whose answer holds the pattern that was given."),
    N("Valid JSON"): N("Rows whose answer can be read as JSON."),
    N("Satisfies the JSON schema"): N("Rows whose answer is JSON of the shape that was given."),
    N("Perplexity"): N(
        "How surprised the model is by the reference: 1 is not at all, 10 like guessing among ten words."
    ),
    N("Token accuracy"): N("Tokens of the reference that were the model's first choice."),
    N("Tokens per answer"): N("How long answers are, in the pieces of words that the model reads and writes."),
    N("Characters per answer"): N("How long answers are."),
    N("Answers cut off"): N("Answers that reached the longest length allowed before they ended."),
    N("Seconds per answer"): N("Time of an answer from question to end, on the machine that evaluated."),
    N("Seconds to the first token"): N("Time until the first piece of an answer."),
}


@dataclass(frozen=True)
class Report:
    """What an evaluation wrote: its report, and its rows with every answer."""

    report: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def models(self) -> list[str]:
        return [str(entry["label"]) for entry in self.report["models"]]

    @property
    def metric(self) -> str:
        """What the verdict is about."""
        return str(self.report["metric"])

    @property
    def titles(self) -> dict[str, str]:
        return {entry["name"]: entry["title"] for entry in self.report["metrics"]}


def read(job: JobView) -> Report | None:
    """The report of an evaluation that has finished, or None. A folder with a report is complete."""
    from phi3tune.evaluation import saved

    if not (job.folder / saved.REPORT).is_file():
        return None
    return Report(saved.load_report(job.folder), saved.rows(job.folder))


def name(job: JobView) -> str:
    """What the picker calls an evaluation: which, when, and how it stands unless it has finished."""
    when = time.strftime(t("%d %b %H:%M"), time.localtime(job.created))
    whose = f"{job.folder.parent.parent.name} · " if job.folder.parent.name == "eval" else ""
    return f"{whose}{job.id} · {when}{'' if job.state == 'completed' else f' · {doing(job)}'}"


def status(job: JobView | None) -> str:
    """How a running evaluation goes, and why one failed; nothing once its report is there."""
    if job is None or job.state == "completed":
        return ""
    if job.state == "failed":
        why = told(job.reason).rstrip(".") if job.reason else t("no reason was given")
        todo = t("Press Continue to try again: the answers so far are kept.")
        return notice("bad", t("Failed: {reason}.", reason=why), todo)
    if job.state in ("stopped", "paused"):
        todo = t("Press Continue: the answers so far are kept.")
        return notice("info", t("Stopped before it had a report."), todo)
    return progress(job, "row ")


def verdict(found: Report | None) -> str:
    """A sentence for each model after the first: better, worse, or not enough rows to say."""
    if found is None:
        text = t("Choose the base model and your run, and press Evaluate: the scores of both appear here.")
        return empty(text, picture="score")
    report = found.report
    if report["dataset"] is None:
        return ""
    given = {
        "dataset": report["dataset"]["name"],
        "part": t(PARTS.get(report["split"], report["split"])),
        "rows": counted(int(report["rows"]), "row"),
    }
    where = t("{dataset}, {part} part, {rows}.", **given)
    if report.get("left_out"):
        out = counted(int(report["left_out"]), "row")
        where = t(
            "{dataset}, {part} part, {rows}; {out} left out because a model was trained on them.", **given, out=out
        )
    tones = [TONES[entry["verdict"]] for entry in report["comparisons"]] or ["plain"]
    lines = [
        f'<p class="pt-verdict pt-verdict-{tone}">{esc(told(sentence))}</p>'
        for tone, sentence in zip(tones, figures.headline(report), strict=True)
    ]
    return f"{''.join(lines)}<p class='pt-line'>{esc(where)}</p>"


def _unit(found: Report, metric: str) -> str:
    return next((str(entry["unit"]) for entry in found.report["metrics"] if entry["name"] == metric), "number")


def value(found: Report, entry: dict[str, Any], metric: str) -> str:
    """A model's value of a metric, as people write it."""
    return figures.shown(entry["metrics"].get(metric), _unit(found, metric))


def interval(found: Report, entry: dict[str, Any], metric: str) -> str:
    """`79.4 to 90.0 %`: the 95 % interval of a model's value; empty where there is none."""
    bounds, unit = entry["intervals"].get(metric), _unit(found, metric)
    if bounds is None:
        return ""
    low, high = (figures.shown(bound, unit) for bound in bounds)
    return t("{low} to {high}", low=low.removesuffix(" %").removesuffix(" s"), high=high)


def metrics(found: Report | None) -> str:
    """Metric by model, the best value of each marked, its 95 % interval under it."""
    if found is None or not found.report["metrics"]:
        return ""
    entries = found.report["models"]
    columns = [Column(t("Metric"), html=True), *(Column(name, numeric=True, html=True) for name in found.models)]
    body = []
    for metric in found.report["metrics"]:
        key = metric["name"]
        known = {entry["metrics"].get(key) for entry in entries} - {None}
        best = None
        if len(known) > 1 and metric["better"] is not None:
            best = (min if metric["better"] == "lower" else max)(known)
        hint = f' <span class="pt-sub">{esc(t("lower is better"))}</span>' if metric["better"] == "lower" else ""
        mark = f' <span class="pt-tag">{esc(t("verdict"))}</span>' if key == found.metric else ""
        cells = [_cell(found, entry, key, best) for entry in entries]
        count = max((entry["counts"].get(key, 0) for entry in entries), default=0)
        body.append([f"{esc(t(metric['title']))}{mark}{hint}", *cells, _over(count, metric["over"])])
    caption = t("Under each value its 95 % interval: with other rows of this kind, it would lie there 95 times in 100")
    shown = table([*columns, Column(t("Counted over"), numeric=True)], body, caption=caption)
    titles = [metric["title"] for metric in found.report["metrics"] if metric["title"] in MEANINGS]
    return shown + explained([(t(each), t(MEANINGS[each])) for each in titles], t("What these figures mean"))


def _over(count: int, unit: str) -> str:
    return counted(count, "token") if unit == "tokens" else counted(count, "row")


def _cell(found: Report, entry: dict[str, Any], key: str, best: float | None) -> str:
    given = entry["metrics"].get(key)
    if given is None:
        return f'<span title="{esc(told(entry["reasons"].get(key, "")))}">{NONE}</span>'
    text = esc(value(found, entry, key))
    bounds = interval(found, entry, key)
    under = f'<span class="pt-interval">{esc(bounds)}</span>' if bounds else ""
    return f"{f'<b class=pt-best>{text}</b>' if given == best else text}{under}"


def charts(found: Report | None) -> str:
    """One bar chart for each share and number, a bar for each model, with its 95 % interval as a whisker."""
    if found is None:
        return ""
    drawn = "".join(_chart(chart) for chart in figures.charts(found.report))
    return f'<div class="pt-charts">{drawn}</div>' if drawn else ""


def _chart(chart: figures.Chart) -> str:
    bars = []
    for place, bar in enumerate(chart.bars):
        whisker = ""
        if bar.whisker is not None:
            low, high = bar.whisker
            whisker = f'<i class="pt-whisker" style="left:{low:.1f}%;width:{max(0.0, high - low):.1f}%"></i>'
        bars.append(
            f'<div class="pt-chart-row"><span class="pt-chart-name">{esc(bar.label)}</span>'
            f'<span class="pt-chart-bar"><b class="pt-series-{place % 4}" style="width:{bar.width:.1f}%"></b>'
            f'{whisker}</span><span class="pt-chart-value">{esc(bar.text)}</span></div>'
        )
    words = "; ".join(f"{bar.label} {bar.text}" for bar in chart.bars)
    title = t(chart.title)
    note = f" · {t('lower is better')}" if chart.note else ""
    return (
        f'<figure class="pt-chart" role="img" aria-label="{esc(title)}: {esc(words)}">'
        f"<figcaption>{esc(title + note)}</figcaption>{''.join(bars)}</figure>"
    )


def labels(found: Report | None) -> str:
    """Where the answers are labels: precision, recall and F1 of each, and what was taken for what."""
    if found is None:
        return ""
    entries = [entry for entry in found.report["models"] if entry.get("labels")]
    parts = []
    for place, entry in enumerate(entries):
        opened = " open" if place == len(entries) - 1 else ""
        inside = _classes(entry["labels"]["per_class"]) + _confusion(entry["labels"]["confusion"])
        title = esc(t("Labels: {model}", model=entry["label"]))
        parts.append(f"<details{opened}><summary>{title}</summary>{inside}</details>")
    return "".join(parts)


def _classes(classes: list[dict[str, Any]]) -> str:
    columns = [
        Column(t("Label"), wide=True),
        *(Column(name, numeric=True) for name in (t("Precision"), t("Recall"), "F1", t("Rows"))),
    ]
    body = [
        [each["label"], share(each["precision"]), share(each["recall"]), share(each["f1"]), f"{each['support']:,}"]
        for each in sorted(classes, key=lambda each: each["f1"])[:CLASSES_SHOWN]
    ]
    count = counted(len(classes), "label")
    caption = t("{labels}, the worst first", labels=count)
    if len(classes) > CLASSES_SHOWN:
        caption = t("{labels}, of which the {n} worst are shown", labels=count, n=CLASSES_SHOWN)
    terms = [
        (t("Precision"), t("Of the rows that were answered with this label, those where it is right.")),
        (t("Recall"), t("Of the rows that have this label, those that were answered with it.")),
        ("F1", t("Both in one figure: high only when both are.")),
    ]
    return table(columns, body, caption=caption) + explained(terms, t("What these figures mean"))


def _confusion(confusion: dict[str, Any]) -> str:
    names, matrix = confusion["labels"], confusion["matrix"]
    if len(names) > CLASSES_SHOWN:
        return ""
    columns = [Column(t("Reference \\ answer")), *(Column(str(name), numeric=True, html=True) for name in names)]
    body = []
    for name, line in zip(names, matrix, strict=True):
        most = max(line) or 1
        cells = [f'<span class="pt-heat" style="--heat:{100 * count / most:.0f}%">{count:,}</span>' for count in line]
        body.append([str(name), *cells])
    return table(columns, body, caption=t("Rows of each reference label, by the label that was answered"))
