"""What endpoints were asked and how they did, as HTML: figures, charts over time, tables of single requests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from phi3tune.ui.render import NONE, Column, counted, duration, empty, esc, facts, latency, notice, number, share, table

_HALF_DAY = 43_200.0  # from here on a time of day needs its date
_WIDTH, _HEIGHT = 100.0, 100.0  # of a chart's own coordinates; it is as wide as its place


class Series(NamedTuple):
    """One colour of a chart: the key of its values in a summary's series, its name, and its CSS class."""

    key: str
    name: str
    style: str


class Chart(NamedTuple):
    title: str
    series: tuple[Series, ...]
    unit: str


CHARTS = (
    Chart(
        "Requests",
        (Series("answered", "answered", "pt-fill"), Series("errors", "refused or failed", "pt-fill-bad")),
        "",
    ),
    Chart("First token, median", (Series("first_token", "", "pt-fill"),), "seconds"),
    Chart("Tokens per second, median", (Series("tokens_per_second", "", "pt-fill"),), ""),
    Chart(
        "Tokens",
        (Series("prompt_tokens", "in", "pt-fill-sub"), Series("completion_tokens", "out", "pt-fill")),
        "",
    ),
)


def dashboard(found: Mapping[str, Any], drift: Mapping[str, Any] | None = None) -> str:
    """A summary of `monitor.summary`, and what `monitor.drift` says of one model."""
    said = _drift(drift) if drift is not None else ""
    if not found["requests"]:
        return said + empty("No requests in this time. Start an endpoint, ask it something, and it is shown here.")
    return said + _figures(found) + _charts(found) + _tables(found)


def _drift(drift: Mapping[str, Any]) -> str:
    level = {True: "warning", False: "good", None: "info"}[drift["large"]]
    return notice(level, drift["sentence"])


def _figures(found: Mapping[str, Any]) -> str:
    first, speed, tokens, ratings = (found[name] for name in ("first_token", "tokens_per_second", "tokens", "ratings"))
    items = [
        (number(found["requests"]), "requests"),
        (number(found["requests_per_minute"]), "a minute"),
        (f"{number(found['errors'])} ({share(found['errors'] / found['requests'])})", "refused or failed"),
        (_seconds(first["p50"]), f"first token, median; 95 % within {_seconds(first['p95'])}"),
        (number(speed["p50"]), f"tokens per second, median; 95 % above {number(speed['p5'])}"),
        (number(tokens["prompt"]), f"tokens in, {number(tokens['cached'])} of them cached"),
        (number(tokens["completion"]), "tokens out"),
    ]
    if ratings["up"] or ratings["down"]:
        items.append((f"{ratings['up']:,} : {ratings['down']:,}", "rated good : bad"))
    if found["contents"]:
        items.append((number(found["contents"]), "with their texts kept"))
    return facts(items)


def _charts(found: Mapping[str, Any]) -> str:
    points = [{**point, "answered": point["requests"] - point["errors"]} for point in found["series"]]
    days = found["until"] - found["since"] > _HALF_DAY
    drawn = "".join(_chart(chart, points, found["bucket_seconds"], days) for chart in CHARTS)
    return f'<div class="pt-series">{drawn}</div>'


def _chart(chart: Chart, points: Sequence[Mapping[str, Any]], bucket: float, days: bool) -> str:
    """Bars, the series on top of each other; a stretch of time without a value has none."""
    top = max(sum(point[each.key] or 0 for each in chart.series) for point in points)
    width = _WIDTH / len(points)
    bars = []
    for place, point in enumerate(points):
        base = _HEIGHT
        told = []
        rects = ""
        for each in chart.series:
            value = point[each.key]
            if not value:
                continue
            height = _HEIGHT * value / top
            base -= height
            rects += (
                f'<rect class="{each.style}" x="{place * width:.3f}" y="{base:.2f}" width="{width * 0.9:.3f}" '
                f'height="{height:.2f}"/>'
            )
            told.append(f"{_shown(value, chart.unit)} {each.name}".strip())
        if rects:
            bars.append(f"<g><title>{esc(_clock(point['time'], days))}: {esc(', '.join(told))}</title>{rects}</g>")
    peak = f"at most {_shown(top, chart.unit)}" if top else "nothing yet"
    legend = "".join(f'<i class="{each.style}"></i>{esc(each.name)} ' for each in chart.series if each.name)
    stretch = f"in {duration(bucket)}" if chart.title in ("Requests", "Tokens") else ""
    ends = f"<span>{_clock(points[0]['time'], days)}</span><span>{_clock(points[-1]['time'], days)}</span>"
    return (
        f'<figure class="pt-chart"><figcaption><b>{esc(chart.title)}</b> {legend}'
        f"<small>{esc(f'{peak} {stretch}'.strip())}</small></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{esc(f"{chart.title}: {peak} {stretch}".strip())}">{"".join(bars)}</svg>'
        f'<div class="pt-axis">{ends}</div></figure>'
    )


def _tables(found: Mapping[str, Any]) -> str:
    days = found["until"] - found["since"] > _HALF_DAY
    shown = [
        _requests("Slowest", found["slowest"], days),
        _requests("Refused or failed", found["failed"], days),
        _requests("Rated bad", found["ratings"]["bad"], days),
    ]
    if len(found["models"]) > 1:
        names = [Column("Model"), *(Column(title, numeric=True) for title in ("Requests", "Failed", "In", "Out"))]
        keys = ("requests", "errors", "prompt_tokens", "completion_tokens")
        rows = [[row["model"], *(number(row[key]) for key in keys)] for row in found["models"]]
        shown.append(table(names, rows, caption="By model"))
    if found["guards"]:
        names = [Column("Guard"), Column("Action"), Column("Found", wide=True), Column("Requests", numeric=True)]
        rows = [[row["guard"], row["action"], row["what"], number(row["requests"])] for row in found["guards"]]
        shown.append(table(names, rows, caption="Found by guards"))
    return "".join(shown)


def _requests(caption: str, rows: Sequence[Mapping[str, Any]], days: bool) -> str:
    if not rows:
        return ""
    columns = [
        Column("Time"),
        Column("Model"),
        Column("Came to"),
        *(Column(title, numeric=True) for title in ("Waited", "First token", "Whole", "In", "Out", "Tokens/s")),
        Column("Request"),
    ]
    cells = [
        [
            _clock(row["time"], days),
            row["model"],
            " ".join(filter(None, [str(row["status"]), row["error_code"] or row["finish_reason"]])),
            *(_seconds(row[key]) for key in ("queue_seconds", "first_token_seconds", "seconds")),
            *(number(row[key]) for key in ("prompt_tokens", "completion_tokens", "tokens_per_second")),
            row["id"],
        ]
        for row in rows
    ]
    return table(columns, cells, caption=f"{caption}: {counted(len(rows), 'request')}")


def _shown(value: float, unit: str) -> str:
    return latency(value) if unit == "seconds" else number(value)


def _seconds(value: float | None) -> str:
    return NONE if value is None else latency(value)


def _clock(seconds: float, days: bool) -> str:
    return time.strftime("%d %b %H:%M" if days else "%H:%M:%S", time.localtime(seconds))
