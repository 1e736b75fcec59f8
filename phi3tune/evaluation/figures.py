"""Numbers and bars of a report, the same in HTML and Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NONE = "–"
CHARTED = ("share", "number")


def shown(value: float | None, unit: str) -> str:
    """A value with its unit: a share in per cent, the others with three digits that count."""
    if value is None or not math.isfinite(value):
        return NONE if value is None else "∞"
    if unit == "share":
        return f"{100 * value:.1f} %"
    digits = 0 if abs(value) >= 1000 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}" + (" s" if unit == "seconds" else "")


def interval(bounds: Sequence[float] | None, unit: str) -> str:
    """`61.0 to 67.2 %`; empty where there is none."""
    if bounds is None:
        return ""
    low, high = (shown(bound, unit) for bound in bounds)
    return f"{low.removesuffix(' %').removesuffix(' s')} to {high}"


def change(found: Mapping[str, float] | None, unit: str) -> str:
    """A difference with its sign and its interval; shares in percentage points."""
    if found is None:
        return NONE
    scale, digits, name = (100, 1, " points") if unit == "share" else (1, 2, " s" if unit == "seconds" else "")
    value, low, high = (scale * found[key] for key in ("difference", "low", "high"))
    return f"{value:+,.{digits}f}{name} ({low:+,.{digits}f} to {high:+,.{digits}f})"


def best(report: Mapping[str, Any], metric: Mapping[str, Any]) -> float | None:
    """The best value of a metric where models differ in it."""
    values = (entry["metrics"][metric["name"]] for entry in report["models"])
    known = {float(value) for value in values if value is not None}
    if len(known) < 2 or metric["better"] is None:
        return None
    return min(known) if metric["better"] == "lower" else max(known)


def headline(report: Mapping[str, Any]) -> list[str]:
    """What the report says first: a verdict for each later model, or the value of the only one."""
    if report["comparisons"]:
        return [comparison["sentence"] for comparison in report["comparisons"]]
    lines = []
    for metric in report["metrics"]:
        if metric["name"] == report["metric"]:
            for entry in report["models"]:
                value = shown(entry["metrics"][metric["name"]], metric["unit"])
                bounds = interval(entry["intervals"].get(metric["name"]), metric["unit"])
                sure = f" (95 % interval {bounds})" if bounds else ""
                lines.append(f"{entry['label']}: {metric['title']} {value}{sure}, {report['rows']:,} rows.")
    return lines


@dataclass(frozen=True)
class Bar:
    """One bar of a chart. Places are in per cent of the chart's width."""

    label: str
    text: str
    width: float
    whisker: tuple[float, float] | None


@dataclass(frozen=True)
class Chart:
    title: str
    note: str
    bars: list[Bar]


def charts(report: Mapping[str, Any]) -> list[Chart]:
    """A chart for each share, from 0 to 100 %, and each plain number, from 0 to the largest."""
    found = []
    for metric in report["metrics"]:
        if metric["unit"] not in CHARTED or all(e["metrics"][metric["name"]] is None for e in report["models"]):
            continue
        entries = [
            (entry["label"], entry["metrics"][metric["name"]], entry["intervals"].get(metric["name"]))
            for entry in report["models"]
        ]
        ends = [end for _, value, bounds in entries for end in (value, *(bounds or ())) if end is not None]
        top = 1.0 if metric["unit"] == "share" else max((end for end in ends if math.isfinite(end)), default=1.0) or 1.0
        bars = [
            Bar(
                label,
                shown(value, metric["unit"]),
                _place(value or 0.0, top),
                (_place(bounds[0], top), _place(bounds[1], top)) if bounds else None,
            )
            for label, value, bounds in entries
        ]
        note = "lower is better" if metric["better"] == "lower" else ""
        found.append(Chart(metric["title"], note, bars))
    return found


def _place(value: float, top: float) -> float:
    return round(100 * min(1.0, max(0.0, value / top)), 2)
