"""The report as a section for a model card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from phi3tune.evaluation import figures

FILE = "report.md"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!])")


def section(report: Mapping[str, Any]) -> str:
    """Markdown with GitHub's tables that begins with a second-level heading; every name in it is escaped."""
    parts = ["## Evaluation", *(escaped(line) for line in figures.headline(report)), _about(report), _metrics(report)]
    parts += [_labels(entry) for entry in report["models"] if entry["labels"]]
    parts += [_judge(report), _safety(report["safety"]), _benchmarks(report["benchmarks"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(report: Mapping[str, Any]) -> str:
    if report["dataset"] is None:
        return ""
    left = (
        f" {report['left_out']:,} rows were left out because a model was trained on them." if report["left_out"] else ""
    )
    where = f"{report['rows']:,} rows of the {report['split']} part of {escaped(report['dataset']['name'])}"
    return f"{where}, greedy answers of at most {report['max_new_tokens']:,} tokens.{left} Intervals are at 95 %."


def _metrics(report: Mapping[str, Any]) -> str:
    body = []
    for metric in report["metrics"]:
        best = figures.best(report, metric)
        cells = [metric["title"] + (" (lower is better)" if metric["better"] == "lower" else "")]
        for place, entry in enumerate(report["models"]):
            value = entry["metrics"][metric["name"]]
            text = figures.shown(value, metric["unit"])
            bounds = figures.interval(entry["intervals"].get(metric["name"]), metric["unit"])
            text = f"**{text}**" if best is not None and value == best else text
            cells.append(f"{text} ({bounds})" if bounds and value is not None else text)
            if place and report["comparisons"]:
                found = report["comparisons"][place - 1]["differences"].get(metric["name"])
                cells.append(figures.change(found, metric["unit"]))
        body.append(cells)
    header = ["Metric"]
    for place, entry in enumerate(report["models"]):
        header += [escaped(entry["label"]), *(["Change"] if place and report["comparisons"] else [])]
    return table(header, body) if body else ""


def _labels(entry: Mapping[str, Any]) -> str:
    share = figures.shown
    body = [
        [
            escaped(each["label"]),
            *(share(each[name], "share") for name in ("precision", "recall", "f1")),
            f"{each['support']:,}",
        ]
        for each in entry["labels"]["per_class"]
    ]
    return f"### Labels: {escaped(entry['label'])}\n\n" + table(["Label", "Precision", "Recall", "F1", "Rows"], body)


def _judge(report: Mapping[str, Any]) -> str:
    judge = report["judge"]
    if not judge:
        return ""
    lines = [
        f"- {escaped(each['sentence'])} Win rate {figures.shown(each['win_rate'], 'share')}"
        f"{_bracket(figures.interval(each['interval'], 'share'))}; "
        f"{figures.shown(each['position_bias'], 'share')} by position, {each['unparsable']:,} replies unreadable."
        for each in judge["comparisons"]
    ]
    asked = f"{escaped(judge['judge'])} compared the answers on {judge['rows']:,} rows, each pair in both orders."
    return "\n\n".join(["### Judge", asked, "\n".join(lines)])


def _safety(safety: Mapping[str, Any] | None) -> str:
    if not safety:
        return ""
    body = [
        [escaped(each["label"])]
        + [
            figures.shown(each[label]["rate"], "share") + _bracket(figures.interval(each[label]["interval"], "share"))
            for label in ("unsafe", "safe")
        ]
        for each in safety["models"]
    ]
    body += [
        [f"{escaped(each['label'])}, change", *(figures.change(each[label], "share") for label in ("unsafe", "safe"))]
        for each in safety["comparisons"]
    ]
    header = ["Refusals"] + [f"{label} prompts ({safety['prompts'][label]:,})" for label in ("unsafe", "safe")]
    warnings = [f"**Warning:** {escaped(warning)}" for warning in safety["warnings"]]
    return "\n\n".join(["### Safety", *warnings, table(header, body)])


def _benchmarks(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    body = [
        [
            escaped(each["task"]),
            escaped(each["metric"]),
            escaped(each["label"]),
            figures.NONE if each["value"] is None else f"{each['value']:.4g}",
            "" if each["stderr"] is None else f"{each['stderr']:.2g}",
            "" if each["n"] is None else f"{each['n']:,}",
        ]
        for each in found["results"]
    ]
    limit = f", the first {found['limit']:,} documents of each task" if found["limit"] else ""
    header = ["Task", "Metric", "Model", "Value", "Standard error", "Documents"]
    return f"### Benchmarks\n\nlm-evaluation-harness {found['harness']}{limit}.\n\n" + table(header, body)


def _bracket(bounds: str) -> str:
    return f" ({bounds})" if bounds else ""


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table of GitHub's Markdown, of cells that are escaped already."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def escaped(text: object) -> str:
    """One line in which no sign has a meaning for Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
